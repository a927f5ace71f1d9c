"""Clusters of very many components: each goes to the Gaussian that is nearest to it in KL."""

import numpy as np

from gmmjax._reduction import clusters
from gmmjax._reduction.parts import Parts

MAX_SWEEPS = 20
MIN_MOVED = 1e-3  # of the components in a sweep: what is left is for the search
TABLE = 1 << 18  # entries of the table of components that are held at once: they fit the cache


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
    rows = _coefficients(merged)
    size = max(TABLE // len(rows), 64)
    found = []
    for first in range(0, len(c.weights), size):
        some = slice(first, first + size)
        table = rows @ _features(c.means[some], c.covariances[some])
        found.append(table.argmax(axis=0))
    return np.concatenate(found)


def _features(means, covariances):
    """E[1], E[x] and E[x_i x_j] for i ≤ j under Gaussians, `(F, n)`."""
    i, j = np.triu_indices(means.shape[1])
    products = means[:, i] * means[:, j] + covariances[:, i, j]
    return np.concatenate([np.ones((1, len(means))), means.T, products.T])


def _coefficients(g):
    """Rows `(n, F)` whose products with features are E[log N_k] but for a constant."""
    precision = np.linalg.inv(g.covariances)
    log_det = np.linalg.slogdet(g.covariances)[1]
    linear = (precision @ g.means[:, :, None])[:, :, 0]
    i, j = np.triu_indices(g.means.shape[1])
    square = np.where(i == j, -0.5, -1.0) * precision[:, i, j]
    constant = -0.5 * (log_det + np.sum(linear * g.means, axis=1))
    return np.concatenate([constant[:, None], linear, square], axis=1)
