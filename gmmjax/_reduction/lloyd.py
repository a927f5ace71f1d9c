"""Clusters of very many components: each goes to the Gaussian that is nearest to it in KL."""

import numpy as np

from gmmjax._reduction import clusters, em, natural
from gmmjax._reduction.parts import Parts

MAX_SWEEPS = 20
MIN_MOVED = 1e-3  # of the components in a sweep: what is left is for the descent


def improve(c: Parts, labels, num_clusters: int) -> np.ndarray:
    """Move components all at once while that lowers Runnalls' bound. Returns the labels `(K,)`.

    A sweep takes K·n products, and cannot raise the bound.

    Reference:
      Davis and Dhillon (2006), "Differential entropic clustering of multivariate Gaussians".
    """
    for _ in range(MAX_SWEEPS):
        moved = _nearest(c, clusters.merge(c, labels, num_clusters))
        # No cluster is left empty: its last component stays.
        first = np.unique(labels, return_index=True)[1]
        emptied = np.setdiff1d(np.arange(num_clusters), moved)
        moved[first[emptied]] = emptied
        if len(np.unique(moved)) < num_clusters or np.mean(moved != labels) < MIN_MOVED:
            break
        labels = moved
    return labels


def _nearest(c, merged):
    """Where E_i[log N_k] is largest."""
    rows = natural.coefficients(merged._replace(weights=np.ones_like(merged.weights)), 3)
    found = []
    for some in em.blocks(len(c.weights), len(rows)):
        table = rows @ natural.features(c.means[some], 3, c.covariances[some])
        found.append(table.argmax(axis=0))
    return np.concatenate(found)
