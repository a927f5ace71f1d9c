"""Mixture reduction as clustering: which components of a mixture are merged into one."""

from typing import NamedTuple

import numpy as np

from gmmjax._reduction.parts import Parts

MAX_ROUNDS = 1000  # free: each lowers the bound, and a few dozen find the last change
MIN_CHANGE = 1e-12  # in nats: less is rounding, and a component could go back and forth
MAX_PAIRS = 256  # of which an exchange is tried at once


def improve(c: Parts, labels, num_clusters: int) -> np.ndarray:
    """Move and exchange single components between clusters while that lowers Runnalls' bound.

    The bound is ½ Σ_c W_c log|P_c| up to a constant. Greedy merging cannot undo a merge, and no
    gradient moves a component from one cluster to another. Returns the labels `(K,)`.
    """
    state = _state(c, labels, num_clusters)
    for _ in range(MAX_ROUNDS):
        changes = _changes_by_moves(state)
        if not (_move(state, changes) or _exchange(state, changes)):
            break
    return state.labels


class _State(NamedTuple):
    """A partition that is changed in place, and what its clusters would be with or without one."""

    rows: np.ndarray  # (K, M) moments of each component
    labels: np.ndarray  # (K,)
    sums: np.ndarray  # (n, M) moments of each cluster
    bounds: np.ndarray  # (n,)
    joined: np.ndarray  # (K, n) bounds of clusters with one more component
    left: np.ndarray  # (K,) bounds of the cluster of each component without it
    dim: int


def _state(c, labels, num_clusters):
    rows, labels, dim = moment_rows(c), np.array(labels), c.means.shape[1]
    sums = sum_rows(rows, labels, num_clusters)
    nothing = np.zeros((len(rows), num_clusters))
    state = _State(rows, labels, sums, nothing[0].copy(), nothing, nothing[:, 0].copy(), dim)
    _settle(state, np.ones(num_clusters, bool))
    return state


def _changes_by_moves(s: _State):
    """Changes `(K, n)` of the bound where a component moves; 0 where it stays."""
    left = s.left - s.bounds[s.labels]
    changes = s.joined - s.bounds + left[:, None]
    changes[np.arange(len(changes)), s.labels] = 0.0
    return changes


def _alone(s):
    return np.bincount(s.labels, minlength=len(s.sums))[s.labels] == 1


def _move(s: _State, changes):
    """The moves that lower the bound most, in place; whether there are any.

    None empties a cluster.
    """
    to = np.argmin(changes, axis=1)
    gains = np.where(_alone(s), 0.0, changes[np.arange(len(to)), to])
    touched = np.zeros(len(s.sums), bool)
    for i in _helpful(gains):
        pair = [s.labels[i], to[i]]
        if not touched[pair].any():
            touched[pair] = True
            s.sums[pair] += [-s.rows[i], s.rows[i]]
            s.labels[i] = to[i]
    return _settle(s, touched)


def _exchange(s: _State, changes):
    """The exchanges of two components that lower the bound most, in place; whether there are any.

    Tried are the pairs whose two moves cost least.
    """
    i, j = np.triu_indices(len(s.labels), 1)
    apart = s.labels[i] != s.labels[j]
    i, j = i[apart], j[apart]
    both = changes[i, s.labels[j]] + changes[j, s.labels[i]]
    if len(both) > MAX_PAIRS:
        least = np.argpartition(both, MAX_PAIRS)[:MAX_PAIRS]
        i, j = i[least], j[least]
    a, b = s.labels[i], s.labels[j]
    moved = s.rows[j] - s.rows[i]
    first, second = s.sums[a] + moved, s.sums[b] - moved
    gains = bound(first, s.dim) + bound(second, s.dim) - s.bounds[a] - s.bounds[b]
    touched = np.zeros(len(s.sums), bool)
    for at in _helpful(gains):
        pair = [a[at], b[at]]
        if not touched[pair].any():
            touched[pair] = True
            s.sums[pair] = first[at], second[at]
            s.labels[[i[at], j[at]]] = b[at], a[at]
    return _settle(s, touched)


def _helpful(changes):
    """Places of changes below 0, the largest first."""
    places = np.flatnonzero(changes < -MIN_CHANGE)
    return places[np.argsort(changes[places])]


def _settle(s: _State, touched):
    """Bring bounds up to date; whether any cluster was touched.

    A cluster takes part in one change a round: others do not add up.
    """
    s.bounds[touched] = bound(s.sums[touched], s.dim)
    s.joined[:, touched] = bound(s.sums[touched] + s.rows[:, None], s.dim)
    members = touched[s.labels]
    rest = np.where(_alone(s)[members, None], 0.0, s.sums[s.labels[members]] - s.rows[members])
    s.left[members] = bound(rest, s.dim)
    return touched.any()


def perturbed(rng, c: Parts, labels, num_clusters: int) -> np.ndarray:
    """Merge two clusters that cost little, and begin a new one with a component that costs much.

    It leads out of a local minimum of the bound in few moves.
    """
    rows, dim = moment_rows(c), c.means.shape[1]
    sums = sum_rows(rows, labels, num_clusters)
    kept, gone = _cheap_pair(rng, sums, dim)
    labels = np.where(labels == gone, kept, labels)
    sums[kept] += sums[gone]
    alone = np.bincount(labels, minlength=num_clusters)[labels] == 1
    rest = np.where(alone[:, None], 0.0, sums[labels] - rows)
    gain = bound(sums, dim)[labels] - bound(rest, dim) - bound(rows, dim)
    chance = np.where(alone, 0.0, np.maximum(gain, 1e-12))
    labels[rng.choice(len(labels), p=chance / chance.sum())] = gone
    return labels


def value(c: Parts, labels, num_clusters: int) -> float:
    """½ Σ_c W_c log|P_c|: Runnalls' bound of a partition, up to a constant."""
    moments = moment_rows(c)
    return bound(sum_rows(moments, labels, num_clusters), c.means.shape[1]).sum()


def merge(c: Parts, labels, num_clusters: int) -> Parts:
    """Merge the components of each cluster: its weight, mean and covariance stay."""
    totals = sum_rows(c.weights, labels, num_clusters)
    share = (c.weights / totals[labels])[:, None]
    means = sum_rows(share * c.means, labels, num_clusters)
    # About the means, where nothing cancels.
    apart = c.means - means[labels]
    spread = c.covariances + apart[:, :, None] * apart[:, None, :]
    return Parts(totals, means, sum_rows(share[:, None] * spread, labels, num_clusters))


def merge_cheaply(rng, c: Parts) -> Parts:
    """Merge one pair, drawn with a chance in proportion to 1 over Runnalls' cost of it."""
    # A component without weight costs next to nothing, and is merged first.
    c = c._replace(weights=np.maximum(c.weights, 1e-12))
    count, dim = c.means.shape
    kept, gone = _cheap_pair(rng, moment_rows(c), dim)
    labels = np.arange(count)
    labels[gone] = kept
    labels[labels > gone] -= 1
    return merge(c, labels, count - 1)


def _cheap_pair(rng, rows, dim):
    """Two rows whose merge costs little."""
    bounds = bound(rows, dim)
    i, j = np.triu_indices(len(rows), 1)
    costs = bound(rows[i] + rows[j], dim) - bounds[i] - bounds[j]
    # Of exponential variables each is the least with a chance in proportion to 1 over its mean.
    chosen = np.argmin(np.maximum(costs, 1e-300) * rng.exponential(size=len(costs)))
    return i[chosen], j[chosen]


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


def sum_rows(rows: np.ndarray, labels, num_clusters: int) -> np.ndarray:
    """The sum of the rows of each cluster."""
    sums = np.zeros((num_clusters, *rows.shape[1:]))
    np.add.at(sums, labels, rows)
    return sums


def moment_rows(c: Parts) -> np.ndarray:
    """Weight, first and second moments of each component, one row each: those of a cluster are
    their sum.
    """
    count, dim = c.means.shape
    zeroth = np.ones((count, 1))
    second = c.covariances + c.means[:, :, None] * c.means[:, None, :]
    rows = np.concatenate([zeroth, c.means, second.reshape(count, dim**2)], axis=1)
    return c.weights[:, None] * rows


def from_moments(sums: np.ndarray, dim: int) -> Parts:
    """The components that have rows of moments."""
    weights = sums[..., 0]
    averages = sums / np.maximum(weights, 1e-300)[..., None]
    means = averages[..., 1 : 1 + dim]
    raw = averages[..., 1 + dim :].reshape(*means.shape, dim)
    return Parts(weights, means, raw - means[..., :, None] * means[..., None, :])


def bound(sums: np.ndarray, dim: int) -> np.ndarray:
    """½ W log|P| of rows of moments: their part of Runnalls' bound, but for a constant."""
    weights, first = sums[..., 0], sums[..., 1 : 1 + dim]
    present = weights > 0
    safe = np.where(present, weights, 1.0)
    scatter = sums[..., 1 + dim :].reshape(*first.shape, dim)
    scatter = scatter - first[..., :, None] * (first / safe[..., None])[..., None, :]
    log_det = _log_det(np.where(present[..., None, None], scatter, np.eye(dim)))
    regular = present & (log_det > -np.inf)
    return np.where(regular, 0.5 * weights * (log_det - dim * np.log(safe)), 0.0)


def _log_det(matrices):
    """Log-determinants of positive definite matrices, −inf of others."""
    try:
        factors = np.linalg.cholesky(matrices)  # in half of the time
    except np.linalg.LinAlgError:
        sign, log_det = np.linalg.slogdet(matrices)
        return np.where(sign > 0, log_det, -np.inf)
    return 2 * np.log(np.diagonal(factors, axis1=-2, axis2=-1)).sum(axis=-1)
