"""Clusters of very many components: each goes to the Gaussians that are near to it in KL.

A sweep takes K·n products. Sharp clusters cannot raise Runnalls' bound; shared ones come nearer to
p where clusters overlap, but not where they hold a few components each.
"""

import numpy as np

from gmmjax._reduction import clusters
from gmmjax._reduction.parts import Parts

MAX_SWEEPS = 20
NUM_SHARED_SWEEPS = 15  # 30 gain 1 % of KL on the way from 10,000 components to 100
MIN_MOVED = 1e-3  # of the components in a sweep: what is left is for what follows
TABLE = 1 << 18  # entries of the table of components that are held at once: they fit the cache


def improve(c: Parts, labels, num_clusters: int) -> np.ndarray:
    """Move components all at once while that lowers Runnalls' bound. Returns the labels `(K,)`.

    Reference:
      Davis and Dhillon (2006), "Differential entropic clustering of multivariate Gaussians".
    """
    for _ in range(MAX_SWEEPS):
        tables = _tables(c, clusters.merge(c, labels, num_clusters))
        moved = np.concatenate([table.argmax(axis=0) for _, table in tables])
        # No cluster is left empty: its last component stays.
        first = np.unique(labels, return_index=True)[1]
        emptied = np.setdiff1d(np.arange(num_clusters), moved)
        moved[first[emptied]] = emptied
        if len(np.unique(moved)) < num_clusters or np.mean(moved != labels) < MIN_MOVED:
            break
        labels = moved
    return labels


def share(c: Parts, q: Parts) -> Parts:
    """Give each component of q the moments of its share of all of them, again and again.

    Component i of p falls to k in proportion to w_k exp E_i[log N_k]: the iteration of EM, where
    components stand for themselves in place of points.

    Reference:
      Vasconcelos and Lippman (1998), "Learning mixture hierarchies".
    """
    moments = clusters.moments(c)
    rows = moments.reshape(len(moments), -1)
    for _ in range(NUM_SHARED_SWEEPS):
        sums = np.zeros((len(q.weights), rows.shape[1]))
        log_weights = np.log(q.weights)[:, None]
        for some, table in _tables(c, q):
            table += log_weights
            chance = np.exp(table - table.max(axis=0))
            sums += (chance / chance.sum(axis=0)) @ rows[some]
        q = clusters.from_moments(sums.reshape(-1, *moments.shape[1:]))
    return q


def _tables(c, q):
    """E_i[log N_k] but for a constant, `(n, some)`, for one block of components i after another."""
    rows = _coefficients(q)
    size = max(TABLE // len(rows), 64)
    for first in range(0, len(c.weights), size):
        some = slice(first, first + size)
        yield some, rows @ _features(c.means[some], c.covariances[some])


def _features(means, covariances):
    """E[1], E[x] and E[x_i x_j] for i ≤ j under Gaussians, `(F, n)`."""
    i, j = np.triu_indices(means.shape[1])
    products = means[:, i] * means[:, j] + covariances[:, i, j]
    return np.concatenate([np.ones((1, len(means))), means.T, products.T])


def _coefficients(q):
    """Rows `(n, F)` whose products with features are E[log N_k] but for a constant."""
    precision = np.linalg.inv(q.covariances)
    log_det = np.linalg.slogdet(q.covariances)[1]
    linear = (precision @ q.means[:, :, None])[:, :, 0]
    i, j = np.triu_indices(q.means.shape[1])
    square = np.where(i == j, -0.5, -1.0) * precision[:, i, j]
    constant = -0.5 * (log_det + np.sum(linear * q.means, axis=1))
    return np.concatenate([constant[:, None], linear, square], axis=1)
