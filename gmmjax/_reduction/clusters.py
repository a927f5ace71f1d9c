"""Mixture reduction as clustering: which components of a mixture are merged into one."""

import numpy as np


def improve(
    weights, means, covariances, labels, num_clusters: int, max_sweeps: int = 50
) -> np.ndarray:
    """Move single components to other clusters while that lowers Runnalls' bound, ½ Σ_c W_c
    log|P_c| − const.

    Greedy merging cannot undo a merge, and no gradient moves a component from one cluster to
    another. Concrete values, in double precision: a sweep over 50 components takes milliseconds.
    Returns the labels `(K,)`.
    """
    moments, labels = _moments(weights, means, covariances), np.array(labels)
    sums = [
        np.stack([value[labels == c].sum(axis=0) for c in range(num_clusters)]) for value in moments
    ]
    bounds = _bound(sums)
    for _ in range(max_sweeps):
        moved = False
        for i in np.flatnonzero(weights > 0):
            old = labels[i]
            if np.sum(labels == old) == 1:
                continue
            own = [value[i] for value in moments]
            without = [s[old] - v for s, v in zip(sums, own, strict=True)]
            left = _bound([value[None] for value in without])[0]
            joined = _bound([s + v[None] for s, v in zip(sums, own, strict=True)])
            change = joined - bounds + left - bounds[old]
            change[old] = 0.0
            new = int(np.argmin(change))
            if change[new] < -1e-12:
                for s, v, w in zip(sums, own, without, strict=True):
                    s[old], s[new] = w, s[new] + v
                labels[i], bounds[old], bounds[new], moved = new, left, joined[new], True
        if not moved:
            break
    return labels


def merge(weights, means, covariances, labels, num_clusters: int) -> tuple:
    """Weights, means and covariances of the clusters."""
    total = np.array([weights[labels == c].sum() for c in range(num_clusters)])
    centres = np.stack(
        [
            np.average(means[labels == c], axis=0, weights=weights[labels == c])
            for c in range(num_clusters)
        ]
    )
    apart = means - centres[labels]
    spread = weights[:, None, None] * (covariances + apart[:, :, None] * apart[:, None, :])
    return (
        total,
        centres,
        np.stack([spread[labels == c].sum(axis=0) for c in range(num_clusters)])
        / total[:, None, None],
    )


def merge_cheaply(rng, weights, means, covariances) -> tuple:
    """One component fewer: two that are drawn with a chance in proportion to 1 over Runnalls' cost
    are merged.
    """
    # those without weight go first
    moments = _moments(np.maximum(weights, 1e-12), means, covariances)
    i, j = np.triu_indices(len(weights), 1)
    bounds = _bound(moments)
    costs = _bound([value[i] + value[j] for value in moments]) - bounds[i] - bounds[j]
    chosen = np.argmin(np.maximum(costs, 1e-300) * rng.exponential(size=len(costs)))
    labels = np.arange(len(weights))
    labels[j[chosen]] = i[chosen]
    labels[labels > j[chosen]] -= 1
    return merge(moments[0], means, covariances, labels, len(weights) - 1)


def _moments(weights, means, covariances):
    """Sums over components of these are those of a cluster; in double precision."""
    w, m, c = (np.asarray(value, np.float64) for value in (weights, means, covariances))
    return [w, w[:, None] * m, w[:, None, None] * (c + m[:, :, None] * m[:, None, :])]


def _bound(sums):
    """½ W log|P| of each, Runnalls' bound but for a constant."""
    weights, first, second = sums
    safe = np.maximum(weights, 1e-300)
    centre = first / safe[:, None]
    covariance = second / safe[:, None, None] - centre[:, :, None] * centre[:, None, :]
    sign, log_det = np.linalg.slogdet(covariance)
    return np.where((weights > 0) & (sign > 0), 0.5 * weights * log_det, 0.0)


def seed(rng, weights, means, num_clusters: int) -> np.ndarray:
    """Labels `(K,)` of the components nearest to centres that k-means++ draws among them."""
    distances = np.sum((means[:, None] - means[None]) ** 2, axis=2)
    centres = [rng.choice(len(weights), p=weights)]
    while len(centres) < num_clusters:
        chance = weights * distances[centres].min(axis=0)
        chance[centres] = 0.0
        if not chance.any():  # all others coincide with a centre
            chance = np.isin(np.arange(len(weights)), centres, invert=True).astype(float)
        centres.append(rng.choice(len(weights), p=chance / chance.sum()))
    labels = np.argmin(distances[centres], axis=0)
    labels[centres] = np.arange(num_clusters)  # none is empty
    return labels
