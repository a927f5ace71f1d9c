"""Where a reduction begins: greedy merging, better partitions of p, and scattered components."""

import jax
import numpy as np

from gmmjax._mixture.gmm import GMM
from gmmjax._reduction import changes, clusters, costs, greedy, lloyd, merge, neighbours, parts
from gmmjax._reduction.parts import Parts

# Beyond, components are merged with near neighbours first: tables of all pairs grow too large.
MAX_DENSE = 1024


def starts(key, p: GMM, count: int, cost, init, num_restarts: int) -> tuple[GMM, list[Parts]]:
    """The greedy reduction, and what to search from: partitions of `p`, or what the user wants."""
    count = min(count, p.num_components)
    c = parts.to_numpy(p)
    labels = _greedy_labels(p, c, count, cost)
    merged = parts.to_structure(p, clusters.merge(c, labels, count))
    if init is None:
        found = _several(numpy_rng(key), c, labels, count, num_restarts)
    elif isinstance(init, GMM):
        found = [parts.to_numpy(init)]
    else:
        found = [parts.to_numpy(init(k, p, count)) for k in jax.random.split(key, num_restarts)]
    # In the structure of p, where no start is full of what it cannot keep.
    return merged, [parts.to_numpy(parts.to_structure(p, start)) for start in found]


def numpy_rng(key) -> np.random.Generator:
    """NumPy's generator from a JAX key."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))


def _greedy_labels(p, c, count, cost):
    if p.num_components > MAX_DENSE:
        first = neighbours.labels(c, max(count, MAX_DENSE // 2))
        fewer = clusters.merge(c, first, first.max() + 1)
        return _dense_labels(parts.to_structure(p, fewer), fewer, count, cost)[first]
    return _dense_labels(p, c, count, cost)


def _dense_labels(p, c, count, cost):
    if cost is costs.runnalls:
        return greedy.labels(c, count)
    return np.asarray(_compiled_labels(p, p.num_components - count, cost))


@jax.jit(static_argnums=(1, 2))
def _compiled_labels(p, num_merges, cost):
    return merge.greedy(p, num_merges, cost)


def _several(rng, c, labels, count, num_restarts):
    """The best partition that was found, others, and scattered components.

    Partitions of the components serve where these are far apart. Where they overlap, the best
    mixture may cut right through them, and only starts from single points lead there.
    """
    if len(labels) * count > MAX_DENSE**2 // 16:
        return [clusters.merge(c, lloyd.improve(c, labels, count), count)]
    seeds = [clusters.seed(rng, c.weights, c.means, count) for _ in range(num_restarts // 3)]
    found = [clusters.improve(c, these, count) for these in [labels, *seeds]]
    found.sort(key=lambda these: clusters.value(c, these, count))
    wandered = [_wander(rng, c, these, count, 3 * num_restarts) for these in found[:2]]
    wandered.sort(key=lambda these: clusters.value(c, these, count))
    merged = [clusters.merge(c, these, count) for these in [*wandered, *found[2:]]]
    scattered = max(num_restarts - len(merged), 1)
    return merged + [changes.scatter(rng, c, count) for _ in range(scattered)]


def _wander(rng, c, labels, count, num_steps):
    """Perturb a partition and improve it, again and again, and go on from the best."""
    best = clusters.value(c, labels, count)
    for _ in range(num_steps if 1 < count < len(labels) else 0):
        trial = clusters.improve(c, clusters.perturbed(rng, c, labels, count), count)
        value = clusters.value(c, trial, count)
        if value < best:
            best, labels = value, trial
    return labels
