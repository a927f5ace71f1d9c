"""Small components put at random: as a start, or in place of others where a search is stuck."""

import numpy as np

from gmmjax._mixture.gmm import GMM, index
from gmmjax._reduction import cloud, clusters, parts
from gmmjax._reduction.parts import Parts

# Of a fresh component, in units of n^(−2/D) where p has variance 1. It is free: a quarter and four
# times of it moved KL by less than 10⁻⁵ on six targets, since a few iterations find the width.
FRESH_VARIANCE = 0.2
# For k-means++. It is free, too: so did a quarter and four times as many.
NUM_SEED_DRAWS = 256


def scatter(rng, p: Parts, count: int) -> Parts:
    """Fresh components of equal weight at centres that k-means++ chooses among draws."""
    dim = p.means.shape[1]
    num_draws = max(NUM_SEED_DRAWS, 2 * count)
    even = np.full(num_draws, 1 / num_draws)
    points = _draw(rng, p, num_draws)
    labels = seed(rng, even, points, count)
    draws = Parts(even, points, np.zeros((num_draws, dim, dim)))
    centres = clusters.merge(draws, labels, count).means
    covariances = np.broadcast_to(_fresh_covariance(count, dim), (count, dim, dim))
    return Parts(np.full(count, 1 / count), centres, covariances)


def seed(rng, weights, means, num_clusters: int) -> np.ndarray:
    """Labels `(K,)` of the components nearest to centres that k-means++ draws among them."""
    count = len(weights)
    distances = np.sum((means[:, None] - means[None]) ** 2, axis=2)
    centres = [rng.choice(count, p=weights)]
    while len(centres) < num_clusters:
        chance = weights * distances[centres].min(axis=0)
        chance[centres] = 0.0
        if not chance.any():  # all others coincide with a centre
            chance = np.ones(count)
            chance[centres] = 0.0
        centres.append(rng.choice(count, p=chance / chance.sum()))
    labels = np.argmin(distances[centres], axis=0)
    labels[centres] = np.arange(num_clusters)  # none is empty
    return labels


def replace(rng, p: Parts, g: GMM) -> GMM:
    """Put any component anew at a draw of p: it leads out of a local minimum in few iterations."""
    gone = rng.integers(g.num_components)
    rest = np.delete(np.arange(g.num_components), gone)
    return _with_fresh(g, index(parts.to_numpy(g), rest), _draw(rng, p, 1))


def relocate(rng, block: cloud.Block, g: GMM) -> GMM:
    """Merge two components that differ little, and put a fresh one where p is missed."""
    chance = np.fmax(cloud.excess(g, block), 1e-12)
    place = rng.choice(len(chance), p=chance / chance.sum())
    fewer = clusters.merge_cheaply(rng, parts.to_numpy(g))
    return _with_fresh(g, fewer, block.x[:, place][None])


def _with_fresh(like, c, mean):
    """Parts and one fresh component of average weight, as a mixture."""
    count, dim = len(c.weights) + 1, like.dim
    fresh = Parts(np.array([1 / count]), mean, _fresh_covariance(count, dim))
    both = parts.concatenate(c, fresh)
    weights = both.weights / both.weights.sum()
    return parts.to_structure(like, both._replace(weights=weights))


def _fresh_covariance(count, dim):
    return FRESH_VARIANCE * count ** (-2 / dim) * np.eye(dim)[None]


def _draw(rng, p, number):
    chosen = rng.choice(len(p.weights), number, p=p.weights)
    factors = np.linalg.cholesky(p.covariances)[chosen]
    z = rng.normal(size=(number, p.means.shape[1]))
    return p.means[chosen] + np.einsum("nij,nj->ni", factors, z)
