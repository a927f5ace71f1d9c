"""Small components put at random: as a start, or in place of others where a search is stuck."""

import numpy as np

from gmmjax._mixture.gmm import index
from gmmjax._reduction import cloud, clusters, parts
from gmmjax._reduction.cloud import Cloud
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
    points = cloud.sample(rng, p, num_draws)
    labels = clusters.seed(rng, even, points, count)
    draws = Parts(even, points, np.zeros((num_draws, dim, dim)))
    centres = clusters.merge(draws, labels, count).means
    covariances = np.broadcast_to(_fresh_covariance(count, dim), (count, dim, dim))
    return Parts(np.full(count, 1 / count), centres, covariances)


def replace(rng, p: Parts, q: Parts) -> Parts:
    """Put any component anew at a draw of p: it leads out of a local minimum in few iterations."""
    count = len(q.weights)
    rest = np.delete(np.arange(count), rng.integers(count))
    return _with_fresh(index(q, rest), cloud.sample(rng, p, 1))


def relocate(rng, points: Cloud, excess: np.ndarray, q: Parts) -> Parts:
    """Merge two components that differ little, and put a fresh one where p is missed.

    `excess` is what each point adds to KL(p ‖ q).
    """
    chance = np.fmax(excess, 1e-12)
    place = rng.choice(len(chance), p=chance / chance.sum())
    return _with_fresh(clusters.merge_cheaply(rng, q), points.x[place][None])


def _with_fresh(c, mean):
    """Parts and one fresh component of average weight."""
    count, dim = len(c.weights) + 1, c.means.shape[1]
    fresh = Parts(np.array([1 / count]), mean, _fresh_covariance(count, dim))
    both = parts.concatenate(c, fresh)
    return both._replace(weights=both.weights / both.weights.sum())


def _fresh_covariance(count, dim):
    return FRESH_VARIANCE * count ** (-2 / dim) * np.eye(dim)[None]
