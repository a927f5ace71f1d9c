"""Merging of very many components: in rounds, each with one of its near neighbours."""

import numpy as np

from gmmjax._reduction import clusters
from gmmjax._reduction.parts import Parts

NUM_NEIGHBOURS = 12
# Of the mutual pairs of a round only the cheaper part is merged: the others may find better ones.
MERGED_SHARE = 0.5


def labels(c: Parts, num_clusters: int) -> np.ndarray:
    """Labels `(K,)` of merging cheap pairs of near neighbours until so many clusters are left.

    A pair is merged where each is the cheapest neighbour of the other by Runnalls' cost, as greedy
    merging would do sooner or later.
    """
    rows, dim = clusters.moment_rows(c), c.means.shape[1]
    where = np.arange(len(rows))
    while len(rows) > num_clusters:
        kept, gone = _mutual_pairs(rows, dim)
        number = min(int(np.ceil(MERGED_SHARE * len(kept))), len(rows) - num_clusters)
        kept, gone = kept[:number], gone[:number]
        rows[kept] += rows[gone]
        left = np.delete(np.arange(len(rows)), gone)
        place = np.empty(len(rows), int)
        place[left] = np.arange(len(left))
        place[gone] = place[kept]
        where, rows = place[where], rows[left]
    return where


def _mutual_pairs(rows, dim):
    """Pairs of which each is the cheapest neighbour of the other, the cheapest first."""
    near = _nearest(rows[:, 1 : 1 + dim] / rows[:, :1])
    count = len(rows)
    bounds = clusters.bound(rows, dim)
    costs = np.empty(near.shape)
    for j in range(near.shape[1]):  # one neighbour at a time, which holds little at once
        other = near[:, j]
        costs[:, j] = clusters.bound(rows + rows[other], dim) - bounds - bounds[other]
    costs[near == np.arange(count)[:, None]] = np.inf
    best = costs.argmin(axis=1)
    place = np.arange(count)
    cheapest = near[place, best]
    mutual = np.flatnonzero((cheapest[cheapest] == place) & (place < cheapest))
    if not len(mutual):  # neighbours are not mutual where many coincide
        mutual = np.array([costs[place, best].argmin()])
    mutual = mutual[np.argsort(costs[mutual, best[mutual]])]
    return mutual, cheapest[mutual]


def _nearest(means):
    """Indices `(K, NUM_NEIGHBOURS)` of the nearest means; a mean may be among its own."""
    try:
        from scipy.spatial import KDTree
    except ImportError:
        raise ImportError(
            "p: neighbours of so many components are found by SciPy; pip install 'gmmjax[scale]'"
        ) from None
    _, near = KDTree(means).query(means, k=min(NUM_NEIGHBOURS, len(means)), workers=-1)
    return np.asarray(near)
