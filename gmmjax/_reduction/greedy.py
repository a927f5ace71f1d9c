"""Runnalls' greedy merging in NumPy: what `merge` does for any cost, with nothing to compile."""

import numpy as np

from gmmjax._reduction import clusters
from gmmjax._reduction.parts import Parts


def labels(c: Parts, num_clusters: int) -> np.ndarray:
    """Labels `(K,)` of merging the cheapest pair again and again."""
    rows, (count, dim) = clusters.moment_rows(c), c.means.shape
    if num_clusters == count:
        return np.arange(count)
    bounds = clusters.bound(rows, dim)
    costs = np.full((count, count), np.inf)
    i, j = np.triu_indices(count, 1)
    costs[i, j] = costs[j, i] = clusters.bound(rows[i] + rows[j], dim) - bounds[i] - bounds[j]
    nearest = costs.argmin(axis=1)
    where = np.arange(count)
    for _ in range(count - num_clusters):
        kept = np.argmin(costs[np.arange(count), nearest])
        gone = nearest[kept]
        rows[kept] += rows[gone]
        bounds[kept] = clusters.bound(rows[kept], dim)
        where[where == gone] = kept
        costs[gone] = costs[:, gone] = np.inf
        left = np.flatnonzero(np.isfinite(costs[kept]))
        joined = clusters.bound(rows[left] + rows[kept], dim)
        costs[kept, left] = costs[left, kept] = joined - bounds[left] - bounds[kept]
        stale = (nearest == gone) | (nearest == kept)
        stale[kept] = True
        nearest[stale] = costs[stale].argmin(axis=1)
        closer = costs[:, kept] < costs[np.arange(count), nearest]
        nearest[closer] = kept
    return np.unique(where, return_inverse=True)[1]
