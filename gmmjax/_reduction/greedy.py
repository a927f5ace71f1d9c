"""Runnalls' greedy merging in NumPy, with nothing to compile: of all pairs, as `merge` does it for
any cost, or of near neighbours.
"""

import numpy as np

from gmmjax._reduction import clusters
from gmmjax._reduction.parts import Parts

NUM_NEIGHBOURS = 12
# Of components by the cost of their cheapest merge, those below this quantile are merged in a
# round: the others may find better partners later.
MERGED_SHARE = 0.5


def labels(c: Parts, num_clusters: int) -> np.ndarray:
    """Labels `(K,)` of merging the cheapest pair again and again."""
    sums, count = clusters.moments(c), len(c.weights)
    if num_clusters == count:
        return np.arange(count)
    bounds = clusters.bound(sums)
    costs = np.full((count, count), np.inf)
    i, j = np.triu_indices(count, 1)
    costs[i, j] = costs[j, i] = clusters.bound(sums[i] + sums[j]) - bounds[i] - bounds[j]
    nearest = costs.argmin(axis=1)
    where = np.arange(count)
    for _ in range(count - num_clusters):
        kept = np.argmin(costs[np.arange(count), nearest])
        gone = nearest[kept]
        sums[kept] += sums[gone]
        bounds[kept] = clusters.bound(sums[kept])
        where[where == gone] = kept
        costs[gone] = costs[:, gone] = np.inf
        left = np.flatnonzero(np.isfinite(costs[kept]))
        joined = clusters.bound(sums[left] + sums[kept])
        costs[kept, left] = costs[left, kept] = joined - bounds[left] - bounds[kept]
        stale = (nearest == gone) | (nearest == kept)
        stale[kept] = True
        nearest[stale] = costs[stale].argmin(axis=1)
        closer = costs[:, kept] < costs[np.arange(count), nearest]
        nearest[closer] = kept
    return np.unique(where, return_inverse=True)[1]


def labels_among_neighbours(c: Parts, num_clusters: int) -> np.ndarray:
    """Labels `(K,)` of merging cheap pairs of near neighbours until so many clusters are left.

    A round merges pairs in the order of Runnalls' cost, each component once, as greedy merging
    would do sooner or later.
    """
    sums = clusters.moments(c)
    where = np.arange(len(sums))
    while len(sums) > num_clusters:
        kept, gone = _disjoint(*_cheap_pairs(sums), len(sums) - num_clusters)
        sums[kept] += sums[gone]
        left = np.delete(np.arange(len(sums)), gone)
        place = np.empty(len(sums), int)
        place[left] = np.arange(len(left))
        place[gone] = place[kept]
        where, sums = place[where], sums[left]
    return where


def _cheap_pairs(sums):
    """Pairs of neighbours whose merge costs little, the cheapest first."""
    near = _nearest(sums[:, 0, 1:] / sums[:, 0, :1])
    own = np.arange(len(sums))
    bounds = clusters.bound(sums)
    costs = np.empty(near.shape)
    for j in range(near.shape[1]):  # one neighbour at a time, which holds little at once
        other = near[:, j]
        costs[:, j] = clusters.bound(sums + sums[other]) - bounds - bounds[other]
    costs[near == own[:, None]] = np.inf
    i, j = np.nonzero(costs <= np.quantile(costs.min(axis=1), MERGED_SHARE))
    order = np.argsort(costs[i, j], kind="stable")
    return i[order], near[i, j][order]


def _disjoint(first, second, limit):
    """The first pairs of which none shares a component with one before it, at most so many."""
    free = np.ones(max(first.max(), second.max()) + 1, bool).tolist()
    kept, gone = [], []
    for i, j in zip(first.tolist(), second.tolist(), strict=True):
        if free[i] and free[j]:
            free[i] = free[j] = False
            kept.append(i)
            gone.append(j)
            if len(kept) == limit:
                break
    return np.array(kept), np.array(gone)


def _nearest(means):
    """Indices `(K, NUM_NEIGHBOURS)` of the nearest means; a mean may be among its own."""
    try:
        from scipy.spatial import KDTree
    except ImportError:
        raise ImportError(
            "p: neighbours of so many components are found by SciPy; pip install 'gmmjax[scale]'"
        ) from None
    _, near = KDTree(means).query(means, k=min(NUM_NEIGHBOURS, len(means)))
    return np.asarray(near)
