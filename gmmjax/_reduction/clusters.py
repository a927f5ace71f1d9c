"""Mixture reduction as clustering: which components of a mixture are merged into one."""

import numpy as np

from gmmjax._mixture.gmm import index
from gmmjax._reduction import parts
from gmmjax._reduction.parts import Parts

MAX_SWEEPS = 50  # free: every sweep lowers the bound, and about five find the last move
MIN_CHANGE = 1e-12  # in nats: less is rounding, and a component could go back and forth


def improve(c: Parts, labels, num_clusters: int) -> np.ndarray:
    """Move single components to other clusters while that lowers Runnalls' bound.

    The bound is ½ Σ_c W_c log|P_c| up to a constant. Greedy merging cannot undo a merge, and no
    gradient moves a component from one cluster to another. A sweep over 50 components takes
    milliseconds. Returns the labels `(K,)`.
    """
    moments, labels = _moments(c), np.array(labels)
    sums = np.stack([moments[labels == k].sum(axis=0) for k in range(num_clusters)])
    bounds = _bound(sums, c.means.shape[1])
    for _ in range(MAX_SWEEPS):
        if not _sweep(moments, labels, sums, bounds, c.means.shape[1]):
            break
    return labels


def _sweep(moments, labels, sums, bounds, dim):
    """Move each component where the bound is least, in place; whether any has moved."""
    moved = False
    for i in np.flatnonzero(moments[:, 0] > 0):
        old = labels[i]
        if np.sum(labels == old) == 1:
            continue
        without = sums[old] - moments[i]
        left = _bound(without[None], dim)[0]
        joined = _bound(sums + moments[i], dim)
        change = joined - bounds + left - bounds[old]
        change[old] = 0.0
        new = np.argmin(change)
        if change[new] < -MIN_CHANGE:
            sums[old] = without
            sums[new] += moments[i]
            bounds[old] = left
            bounds[new] = joined[new]
            labels[i] = new
            moved = True
    return moved


def merge(c: Parts, labels, num_clusters: int) -> Parts:
    """Merge the components of each cluster: its weight, mean and covariance stay."""
    clusters = [parts.pool(index(c, labels == k)) for k in range(num_clusters)]
    return parts.concatenate(*clusters)


def merge_cheaply(rng, c: Parts) -> Parts:
    """Merge one pair, drawn with a chance in proportion to 1 over Runnalls' cost of it."""
    # A component without weight costs next to nothing, and is merged first.
    c = c._replace(weights=np.maximum(c.weights, 1e-12))
    count, dim = c.means.shape
    moments = _moments(c)
    bounds = _bound(moments, dim)
    i, j = np.triu_indices(count, 1)
    costs = _bound(moments[i] + moments[j], dim) - bounds[i] - bounds[j]
    # Of exponential variables each is the least with a chance in proportion to 1 over its mean.
    variables = np.maximum(costs, 1e-300) * rng.exponential(size=len(costs))
    chosen = np.argmin(variables)
    kept, gone = i[chosen], j[chosen]
    labels = np.arange(count)
    labels[gone] = kept
    labels[labels > gone] -= 1
    return merge(c, labels, count - 1)


def seed(rng, weights, means, num_clusters: int) -> np.ndarray:
    """Labels `(K,)` of the components nearest to centres that k-means++ draws among them."""
    count = len(weights)
    distances = np.sum((means[:, None] - means[None]) ** 2, axis=2)
    centres = [rng.choice(count, p=weights)]
    while len(centres) < num_clusters:
        chance = weights * distances[centres].min(axis=0)
        chance[centres] = 0.0
        if not chance.any():  # all others coincide with a centre
            chance = np.ones(count)
            chance[centres] = 0.0
        centres.append(rng.choice(count, p=chance / chance.sum()))
    labels = np.argmin(distances[centres], axis=0)
    labels[centres] = np.arange(num_clusters)  # none is empty
    return labels


def _moments(c):
    """Weight, first and second moments of each component, one row each: those of a cluster are
    their sum.
    """
    count, dim = c.means.shape
    zeroth = np.ones((count, 1))
    second = c.covariances + c.means[:, :, None] * c.means[:, None, :]
    rows = np.concatenate([zeroth, c.means, second.reshape(count, dim**2)], axis=1)
    return c.weights[:, None] * rows


def _bound(sums, dim):
    """½ W log|P| of each row of moments: its part of Runnalls' bound, but for a constant."""
    weights, first, second = np.split(sums, [1, 1 + dim], axis=1)
    safe = np.maximum(weights, 1e-300)
    mean = first / safe
    raw = (second / safe).reshape(-1, dim, dim)
    covariance = raw - mean[:, :, None] * mean[:, None, :]
    sign, log_det = np.linalg.slogdet(covariance)
    weights = weights[:, 0]
    regular = (weights > 0) & (sign > 0)
    return np.where(regular, 0.5 * weights * log_det, 0.0)
