"""Mixture reduction as clustering: which components of a mixture are merged into one."""

from typing import NamedTuple

import numpy as np

from gmmjax._reduction.parts import Parts

MAX_ROUNDS = 1000  # free: each lowers the bound, and a few dozen find the last change
MIN_CHANGE = 1e-12  # in nats: less is rounding, and a component could go back and forth
MAX_PAIRS = 256  # of which an exchange is tried at once
MAX_KNOWN = 1 << 22  # numbers that are remembered


class Sets:
    """Bounds of sets of components, and of those with one more or one less, each found once.

    Walks come back to the same clusters: most of them are known when they are asked for.

    Attributes:
      moments: of each component, `(K, D + 1, D + 1)`.
      ends: partitions that no move and no exchange improves.
    """

    def __init__(self, c: Parts):
        self.moments = moments(c)
        self.ends: set[frozenset[bytes]] = set()
        self._known = {}

    def find(self, members) -> list[tuple[np.ndarray, float, np.ndarray]]:
        """Moments, bound, and bounds `(K,)` after each change of one component, of sets `(m, K)`.

        Of no component the bound is 0.
        """
        keys = [each.tobytes() for each in members]
        new = [i for i, key in enumerate(keys) if key not in self._known]
        if new:
            self._known |= zip([keys[i] for i in new], self._of(members[new]), strict=True)
        found = [self._known[key] for key in keys]
        if len(self._known) * (len(self.moments) + self.moments[0].size) > MAX_KNOWN:
            self._known.clear()
        return found

    def _of(self, members):
        count, *size = self.moments.shape
        sums = (members @ self.moments.reshape(count, -1)).reshape(-1, *size)
        tables = np.empty((len(members), 1 + count, *size))
        own, changed = tables[:, 0], tables[:, 1:]
        own[:] = sums
        changed[:] = sums[:, None] + np.where(members, -1.0, 1.0)[..., None, None] * self.moments
        emptied = members & (members.sum(axis=1) == 1)[:, None]
        changed[emptied] = np.eye(len(sums[0]))
        bounds = bound(tables)
        return zip(sums, bounds[:, 0], bounds[:, 1:], strict=True)


def improve(sets: Sets, labels, num_clusters: int) -> np.ndarray:
    """Move and exchange single components between clusters while that lowers Runnalls' bound.

    The bound is ½ Σ_c W_c log|P_c| up to a constant. Greedy merging cannot undo a merge, and no
    gradient moves a component from one cluster to another. Returns the labels `(K,)`.
    """
    state = state_of(sets, labels, num_clusters)
    for _ in range(MAX_ROUNDS):
        changes = _changes_by_moves(state)
        if _move(state, changes):
            continue
        here = state.partition()
        if here in sets.ends or not _exchange(state, changes):
            sets.ends.add(here)
            break
    return state.labels


class State(NamedTuple):
    """A partition that is changed in place, and what its clusters would be with or without one."""

    sets: Sets
    labels: np.ndarray  # (K,)
    sums: np.ndarray  # (n, D + 1, D + 1) moments of each cluster
    bounds: np.ndarray  # (n,)
    changed: np.ndarray  # (n, K) bounds of each cluster with one more component, or without one

    def settle(self, touched) -> bool:
        """Bring clusters up to date; whether there are any.

        A cluster takes part in one change a round: others do not add up.
        """
        places = np.array(sorted(touched), int)
        found = self.sets.find(self.labels == places[:, None])
        for place, known in zip(places, found, strict=True):
            self.sums[place], self.bounds[place], self.changed[place] = known
        return len(places) > 0

    def partition(self) -> frozenset[bytes]:
        """The clusters, in whatever order."""
        members = self.labels == np.arange(len(self.sums))[:, None]
        return frozenset(each.tobytes() for each in members)

    def without(self) -> np.ndarray:
        """Bounds `(K,)` of the cluster of each component without it."""
        return self.changed[self.labels, np.arange(len(self.labels))]

    def alone(self) -> np.ndarray:
        """Which components are clusters of their own, `(K,)`."""
        return np.bincount(self.labels, minlength=len(self.sums))[self.labels] == 1


def state_of(sets: Sets, labels, num_clusters: int) -> State:
    """A partition of which no cluster is empty."""
    sums = np.zeros((num_clusters, *sets.moments.shape[1:]))
    changed = np.zeros((num_clusters, len(labels)))
    state = State(sets, np.array(labels), sums, changed[:, 0].copy(), changed)
    state.settle(range(num_clusters))
    return state


def _changes_by_moves(s: State):
    """Changes `(n, K)` of the bound where a component moves; 0 where it stays."""
    changes = s.changed - s.bounds[:, None] + (s.without() - s.bounds[s.labels])
    changes[s.labels, np.arange(len(s.labels))] = 0.0
    return changes


def _move(s: State, changes):
    """The moves that lower the bound most, in place; whether there are any.

    None empties a cluster.
    """
    to = np.argmin(changes, axis=0)
    gains = np.where(s.alone(), 0.0, changes[to, np.arange(len(to))])
    touched = set()
    for i in _helpful(gains):
        pair = {int(s.labels[i]), int(to[i])}
        if not touched & pair:
            touched |= pair
            s.labels[i] = to[i]
    return s.settle(touched)


def _exchange(s: State, changes):
    """The exchanges of two components that lower the bound most, in place; whether there are any.

    Tried are the pairs whose two moves cost least.
    """
    i, j = np.triu_indices(len(s.labels), 1)
    apart = s.labels[i] != s.labels[j]
    i, j = i[apart], j[apart]
    both = changes[s.labels[j], i] + changes[s.labels[i], j]
    if len(both) > MAX_PAIRS:
        least = np.argpartition(both, MAX_PAIRS)[:MAX_PAIRS]
        i, j = i[least], j[least]
    a, b = s.labels[i], s.labels[j]
    moved = s.sets.moments[j] - s.sets.moments[i]
    gains = bound(s.sums[a] + moved) + bound(s.sums[b] - moved) - s.bounds[a] - s.bounds[b]
    touched = set()
    for at in _helpful(gains):
        pair = {int(a[at]), int(b[at])}
        if not touched & pair:
            touched |= pair
            s.labels[[i[at], j[at]]] = b[at], a[at]
    return s.settle(touched)


def _helpful(changes):
    """Places of changes below 0, the largest first."""
    places = np.flatnonzero(changes < -MIN_CHANGE)
    return places[np.argsort(changes[places])]


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
    count = len(c.weights)
    kept, gone = cheap_pair(rng, moments(c))
    labels = np.arange(count)
    labels[gone] = kept
    labels[labels > gone] -= 1
    return merge(c, labels, count - 1)


def cheap_pair(rng, sums) -> tuple[int, int]:
    """Two matrices of moments whose merge costs little."""
    bounds = bound(sums)
    i, j = np.triu_indices(len(sums), 1)
    costs = bound(sums[i] + sums[j]) - bounds[i] - bounds[j]
    # Of exponential variables each is the least with a chance in proportion to 1 over its mean.
    chosen = np.argmin(np.maximum(costs, 1e-300) * rng.exponential(size=len(costs)))
    return i[chosen], j[chosen]


def sum_rows(rows: np.ndarray, labels, num_clusters: int) -> np.ndarray:
    """The sum of the rows of each cluster."""
    sums = np.zeros((num_clusters, *rows.shape[1:]))
    np.add.at(sums, labels, rows)
    return sums


def moments(c: Parts) -> np.ndarray:
    """Of each component w E[z zᵀ] where z is 1 and x, `(K, D + 1, D + 1)`.

    Those of a cluster are their sum.
    """
    count, dim = c.means.shape
    table = np.ones((count, dim + 1, dim + 1))
    table[:, 0, 1:] = table[:, 1:, 0] = c.means
    table[:, 1:, 1:] = c.covariances + c.means[:, :, None] * c.means[:, None, :]
    return c.weights[:, None, None] * table


def from_moments(sums: np.ndarray) -> Parts:
    """The components that have these moments."""
    weights = sums[..., 0, 0]
    averages = sums / np.maximum(weights, 1e-300)[..., None, None]
    means = averages[..., 0, 1:]
    return Parts(weights, means, averages[..., 1:, 1:] - means[..., :, None] * means[..., None, :])


def bound(sums: np.ndarray) -> np.ndarray:
    """½ W log|P| of matrices of moments: their part of Runnalls' bound, but for a constant."""
    weights, dim = sums[..., 0, 0], sums.shape[-1] - 1
    try:
        factors = np.linalg.cholesky(sums)
    except np.linalg.LinAlgError:
        sign, log_det = np.linalg.slogdet(sums)
        regular = (weights > 0) & (sign > 0)
        log_weights = np.log(np.where(regular, weights, 1.0))
        log_det = np.where(regular, log_det, 0.0)
        return np.where(regular, 0.5 * weights * (log_det - (dim + 1) * log_weights), 0.0)
    # Below the root of W the factor is that of W P.
    logs = np.log(np.diagonal(factors, axis1=-2, axis2=-1))
    return weights * (logs @ np.array([-dim] + [1] * dim))
