"""Where a reduction starts, and how the best of many starts is found; concrete mixtures without absent components."""

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax import _clusters, _em, _linalg, _merge, _whiten
from gmmjax._gmm import GMM

NUM_POINTS = 8192
SCREEN = 20  # iterations for all starts; the best LANES of them go on to the end
LANES = 4


def starts(key, p: GMM, count: int, cost, init, num_restarts: int) -> tuple[GMM, list[GMM]]:
    """The greedy reduction, and what to climb from: partitions of `p`, or what the user wants."""
    w, means, _ = _whiten.arrays(p)
    covariances = np.asarray(_linalg.dense_covariances(p.scale, p.means), np.float64)
    count = min(count, len(w))
    together = lambda labels: _structured(p, *_clusters.merge(w, means, covariances, labels, count))
    merged = np.asarray(_greedy_labels(p, len(w) - count, cost))
    if isinstance(init, GMM):
        return together(merged), [_alike(p, init)]
    if init is not None:
        return together(merged), [_alike(p, init(k, p, count)) for k in jax.random.split(key, num_restarts)]
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    labels = [merged, *(_clusters.seed(rng, w, means, count) for _ in range(num_restarts - 1))]
    moved = [_clusters.improve(w, means, covariances, one, count) for one in labels]
    return together(merged), [together(one) for one in moved]


def climb(key, p: GMM, starts: list[GMM]) -> _em.Run:
    """A batch of the best fixed points of forward KL that the starts lead to."""
    # What is narrower than p ever is, by far, is a collapse onto a few points.
    floor = jnp.asarray(1e-3 * _smallest_variance(p), p.means.dtype)
    cloud = _em.cloud(key, p, NUM_POINTS)
    # A few at a time, so that both rounds share one compilation; numpy between them, which compiles nothing.
    batches = [(starts[i : i + LANES] * LANES)[:LANES] for i in range(0, len(starts), LANES)]
    screened = [_em.climb(jax.tree.map(_stack, *batch), cloud, floor, SCREEN) for batch in batches]
    runs = jax.tree.map(lambda *leaves: np.concatenate(leaves), *screened)
    order = np.argsort(np.where(np.isfinite(runs.loss), runs.loss, np.inf))[:LANES]
    finalists = jax.tree.map(lambda leaf: leaf[order], runs.gmm)
    return jax.tree.map(np.asarray, _em.climb(finalists, cloud, floor, _em.MOST_STEPS))


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
    return _merge.greedy(p, num_merges, cost)[2]


def _stack(*leaves):
    return np.stack([np.asarray(leaf) for leaf in leaves])


def _alike(p, g):
    """A start in the structure of `p`."""
    w, means, _ = _whiten.arrays(g)
    return _structured(p, w, means, np.asarray(_linalg.dense_covariances(g.scale, g.means), np.float64))


def _structured(p, weights, means, covariances):
    """A mixture of dense covariances in the structure of `p`, but untied: the nearest in forward KL."""
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
