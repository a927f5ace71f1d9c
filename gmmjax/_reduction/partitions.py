"""Which partitions of the components of p a search begins with."""

import numpy as np

from gmmjax._reduction import changes, clusters
from gmmjax._reduction.parts import Parts


def starts(rng, c: Parts, labels, count: int, num_restarts: int) -> list[Parts]:
    """The best partition that was found, others, and scattered components.

    Partitions of the components serve where these are far apart. Where they overlap, the best
    mixture may cut right through them, and only starts from single points lead there.
    """
    seeds = [clusters.seed(rng, c.weights, c.means, count) for _ in range(num_restarts // 3)]
    found = [clusters.improve(c, these, count) for these in [labels, *seeds]]
    values = [clusters.value(c, these, count) for these in found]
    order = np.argsort(values, kind="stable")
    best = [_wander(rng, c, found[i], count, 3 * num_restarts) for i in order[:2]]
    best.sort(key=lambda these: clusters.value(c, these, count))
    merged = [clusters.merge(c, these, count) for these in [*best, *(found[i] for i in order[2:])]]
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
