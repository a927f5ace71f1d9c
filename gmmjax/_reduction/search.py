"""Where a reduction starts, and how the best of many starts is found; concrete mixtures without
absent components.
"""

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._mixture import linalg
from gmmjax._mixture.gmm import GMM
from gmmjax._reduction import clusters, em, merge, standardise

BLOCKS = 8
POINTS = 2048  # in each block
SCREEN = 15, 2  # iterations and blocks for all starts, and once more for the better half of them
LANES = 4  # of them go on
IDLE = 7  # rounds of changes that bring less than GAIN end the search
GAIN = 1e-3
FINAL = 10  # iterations with all blocks
DRAWS = 256
_SMALL = 0.2  # variance of a fresh component, where p has 1, in units of n^(−2/D)


def starts(key, p: GMM, count: int, cost, init, num_restarts: int) -> tuple[GMM, list[GMM]]:
    """The greedy reduction, and what to climb from: partitions of `p`, or what the user wants."""
    w, means, _ = standardise.arrays(p)
    covariances = _dense(p)
    count = min(count, len(w))
    together = lambda labels: _structured(p, *clusters.merge(w, means, covariances, labels, count))
    merged = np.asarray(_greedy_labels(p, len(w) - count, cost))
    if isinstance(init, GMM):
        return together(merged), [_alike(p, init)]
    if init is not None:
        return together(merged), [
            _alike(p, init(k, p, count)) for k in jax.random.split(key, num_restarts)
        ]
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    # Partitions of the components serve where these are far apart. Where they overlap, the best
    # mixture may cut right through them, and only starts from single points lead there.
    moved = lambda labels: together(clusters.improve(w, means, covariances, labels, count))
    partition = lambda: moved(clusters.seed(rng, w, means, count))
    scatter = lambda: _structured(p, *_scatter(rng, p, count))
    kinds = [partition if i % 3 == 0 else scatter for i in range(num_restarts)]
    return together(merged), [moved(merged), *(start() for start in kinds[1:])]


def climb(key, p: GMM, starts: list[GMM], num_rounds: int) -> tuple[list[GMM], em.Cloud]:
    """What the iteration of forward KL makes of the best starts, and of changes of these, best
    first; a cloud of p.
    """
    # What is narrower than p ever is, by far, is a collapse onto a few points.
    floor = jnp.asarray(1e-3 * _smallest_variance(p), p.means.dtype)
    cloud = em.cloud(key, p, BLOCKS, POINTS)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    pool = _screen(starts, cloud, floor)
    pool = _screen(_best(pool, max(LANES, len(starts) // 2)), cloud, floor)
    lanes = _taken(pool, _order(pool)[:LANES])
    idle = IDLE if starts[0].num_components == 1 else 0
    for _ in range(num_rounds):
        if idle == IDLE:
            break
        before, lanes = _least(lanes), _changed(rng, p, cloud, floor, lanes)
        idle = 0 if _least(lanes) < (1 - GAIN) * before else idle + 1
    run = em.run_em(lanes.gmm, cloud, floor, FINAL, BLOCKS)
    return _best(jax.tree.map(np.asarray, run), LANES), cloud


def _screen(starts, cloud, floor):
    # A few at a time, so that all rounds share one compilation; numpy between them, which compiles
    # nothing.
    batches = [(starts[i : i + LANES] * LANES)[:LANES] for i in range(0, len(starts), LANES)]
    runs = [em.run_em(jax.tree.map(_stack, *batch), cloud, floor, *SCREEN) for batch in batches]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *runs)


def _changed(rng, p, cloud, floor, lanes):
    """Each mixture, or what became of one of its two changes if that is better: so they stay
    different.
    """
    found = [pick(lanes.gmm, i) for i in range(LANES)]
    changes = [change(rng, p, cloud, g) for change in (_replace, _relocate) for g in found]
    both = jax.tree.map(
        lambda *leaves: np.concatenate(leaves), lanes, _screen(changes, cloud, floor)
    )
    return _taken(
        both, LANES * np.argmin(_losses(both).reshape(-1, LANES), axis=0) + np.arange(LANES)
    )


def _taken(pool, places):
    return jax.tree.map(lambda leaf: leaf[places], pool)


def _losses(pool):
    return np.where(np.isfinite(pool.loss), pool.loss, np.inf)


def _least(pool):
    return np.min(_losses(pool))


def _order(pool):
    return np.argsort(_losses(pool))


def _best(pool, count):
    return [pick(pool.gmm, i) for i in _order(pool)[:count]]


def _replace(rng, p, _, g):
    """Any component anew, small, at a draw of p: a way out of a local minimum that costs a few
    iterations.
    """
    weights, means, _ = standardise.arrays(g)
    rest = np.delete(np.arange(len(weights)), rng.integers(len(weights)))
    return _with_another(p, weights[rest], means[rest], _dense(g)[rest], _draw(rng, p, 1))


def _relocate(rng, _, cloud, g):
    """Two components merged that differ little, and a small one anew where p is missed."""
    chance = np.fmax(em.excess(g, cloud), 1e-12)
    place = np.asarray(cloud.x[0])[:, rng.choice(len(chance), p=chance / chance.sum())]
    weights, means, _ = standardise.arrays(g)
    weights, means, covariances = clusters.merge_cheaply(rng, weights, means, _dense(g))
    return _with_another(g, weights, means, covariances, place[None])


def _with_another(like, weights, means, covariances, place):
    count, dim = len(weights) + 1, like.dim
    small = _SMALL * count ** (-2 / dim) * np.eye(dim)[None]
    weights = np.append(weights, 1 / count)
    return _structured(
        like,
        weights / weights.sum(),
        np.append(means, place, axis=0),
        np.append(covariances, small, axis=0),
    )


def trimmed(g: GMM) -> GMM:
    """Without its absent components."""
    present = np.flatnonzero(np.asarray(g.logits) > -np.inf)
    leaves = (leaf if leaf.shape[0] < len(g.logits) else np.asarray(leaf)[present] for leaf in g)
    return GMM(*map(jnp.asarray, leaves))


def pick(tree, i):
    """One of a batch."""
    return jax.tree.map(lambda leaf: leaf[i], tree)


@jax.jit(static_argnums=2)
def _greedy_labels(p, num_merges, cost):
    return merge.greedy(p, num_merges, cost)[2]


def _scatter(rng, p, count):
    """Small components of equal weight at centres that k-means++ chooses among draws."""
    even, draws = np.full(DRAWS, 1 / DRAWS), _draw(rng, p, DRAWS)
    labels = clusters.seed(rng, even, draws, count)
    _, centres, _ = clusters.merge(even, draws, np.zeros((DRAWS, p.dim, p.dim)), labels, count)
    width = _SMALL * count ** (-2 / p.dim)
    return (
        np.full(count, 1 / count),
        centres,
        np.broadcast_to(width * np.eye(p.dim), (count, p.dim, p.dim)),
    )


def _draw(rng, p, number):
    weights, means, _ = standardise.arrays(p)
    chosen = rng.choice(len(weights), number, p=weights)
    factors = np.linalg.cholesky(_dense(p))[chosen]
    return means[chosen] + np.einsum("nij,nj->ni", factors, rng.normal(size=(number, p.dim)))


def _dense(g):
    return np.asarray(linalg.dense_covariances(g.scale, g.means), np.float64)


def _stack(*leaves):
    return np.stack([np.asarray(leaf) for leaf in leaves])


def _alike(p, g):
    """A start in the structure of `p`."""
    w, means, _ = standardise.arrays(g)
    return _structured(p, w, means, _dense(g))


def _structured(p, weights, means, covariances):
    """A mixture of dense covariances in the structure of `p`, but untied: the nearest in forward
    KL.
    """
    if p.scale.ndim == 3:
        scale = np.linalg.cholesky(covariances)
    else:
        variances = np.diagonal(covariances, axis1=1, axis2=2)
        scale = np.sqrt(variances if p.scale.ndim == 2 else variances.mean(axis=1))
    with np.errstate(divide="ignore"):
        logits = np.log(weights)
    return GMM(*(jnp.asarray(leaf, p.means.dtype) for leaf in (logits, means, scale)))


def _smallest_variance(p):
    scale = np.asarray(p.scale, np.float64)
    if scale.ndim == 3:
        return np.min(np.linalg.svd(np.tril(scale), compute_uv=False)) ** 2
    return np.min(scale**2)
