"""Mixture reduction by merging the cheapest pair of components, again and again."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gmmjax._mixture import linalg
from gmmjax._mixture.gmm import GMM, index
from gmmjax._reduction.parts import Parts, from_gmm, to_gmm


class _State(NamedTuple):
    """Components, some of which are merged into others, and what merges would cost."""

    parts: Parts
    left: jax.Array  # (K,) bool
    labels: jax.Array  # (K,)
    tables: list[jax.Array]  # (K, K) each, compared as tuples are
    nearest: jax.Array  # (K,) the cheapest of those after each
    least: list[jax.Array]  # (K,) each, what it costs


def greedy(p: GMM, num_merges: int, cost: Callable) -> jax.Array:
    """Labels `(K,)` after merging the cheapest pair `num_merges` times.

    One row of costs changes per merge, and each row knows its cheapest pair: a merge reads few
    rows. It is a choice, and carries no gradient.
    """

    def row(c, i):
        return jax.tree.leaves(cost(to_gmm(c), i))

    def merge(_, state):
        # Absent rows cost ∞; ties are broken towards the first.
        i, _ = _cheapest(state.least, jnp.isfinite(state.least[0]))
        j = state.nearest[i]
        both = index(merged(state.parts, i), j)
        c = jax.tree.map(lambda leaf, new: leaf.at[i].set(new), state.parts, both)
        c = c._replace(weights=c.weights.at[j].set(0.0))
        left = state.left.at[j].set(False)
        labels = jnp.where(state.labels == j, i, state.labels)
        # Costs are symmetric.
        new = row(c, i)
        tables = [t.at[i].set(n).at[:, i].set(n) for t, n in zip(state.tables, new, strict=True)]
        state = state._replace(parts=c, left=left, labels=labels, tables=tables)
        return _refreshed(state, i, j, new)

    c = from_gmm(jax.lax.stop_gradient(p))
    places = jnp.arange(p.num_components)
    tables = jax.lax.map(lambda i: row(c, i), places)
    left = jnp.ones(p.num_components, bool)
    nearest, least = jax.lax.map(lambda i: _cheapest_after(tables, left, i), places)
    state = _State(c, left, places, tables, nearest, least)
    state = jax.lax.fori_loop(0, num_merges, merge, state)
    rank = jnp.cumsum(state.left) - 1
    return rank[state.labels]


def pooled(p: GMM, labels: jax.Array, count: int) -> Parts:
    """The components of each label merged into one: their weight, mean and covariance."""
    c = from_gmm(p)
    member = (labels[None] == jnp.arange(count)[:, None]).astype(c.means.dtype)
    totals = jnp.sum(member * c.weights[None], axis=1)
    # Of components that are all absent, the midpoint.
    even = linalg.safe_divide(member, jnp.sum(member, axis=1)[:, None])
    share = linalg.safe_divide(member * c.weights[None], totals[:, None])
    share = jnp.where(totals[:, None] > 0, share, even)
    means = linalg.matmul(share, c.means)
    apart = c.means - means[labels]
    spread = c.covariances + apart[:, :, None] * apart[:, None, :]
    covariances = linalg.matmul(share, spread.reshape(len(spread), -1))
    return Parts(totals, means, covariances.reshape(count, p.dim, p.dim))


def _refreshed(state, i, j, new):
    """The cheapest pairs of all rows after j was merged into i, whose costs are new."""
    places = jnp.arange(len(state.left))
    nearest, least = state.nearest, state.least
    gone = ~state.left
    before = (places < i) & state.left
    closer = before & _below(new, least)
    least = [jnp.where(closer, ours, past) for ours, past in zip(new, least, strict=True)]
    least = [jnp.where(gone, jnp.inf, costs) for costs in least]
    stale = ((nearest == i) | (nearest == j)) & ~closer & ~gone
    nearest = jnp.where(closer, i, nearest)
    stale = stale.at[i].set(True)

    def search(carry):
        stale, nearest, least = carry
        row = jnp.argmax(stale)
        found, costs = _cheapest_after(state.tables, state.left, row)
        least = [past.at[row].set(c) for past, c in zip(least, costs, strict=True)]
        return stale.at[row].set(False), nearest.at[row].set(found), least

    _, nearest, least = jax.lax.while_loop(
        lambda carry: jnp.any(carry[0]), search, (stale, nearest, least)
    )
    return state._replace(nearest=nearest, least=least)


def _below(new, old):
    """Whether costs are less, as tuples are."""
    below, tied = jnp.zeros(new[0].shape, bool), jnp.ones(new[0].shape, bool)
    for a, b in zip(new, old, strict=True):
        below |= tied & (a < b)
        tied &= a == b
    return below


def _cheapest_after(tables, left, i):
    """The cheapest partner of a component among those after it, and its costs; ∞ for none."""
    candidates = left & (jnp.arange(len(left)) > i) & left[i]
    costs = [table[i] for table in tables]
    return _cheapest(costs, candidates)


def merged(c: Parts, i) -> Parts:
    """Component i merged with each of them: their common weight, mean and covariance."""
    total = c.weights[i] + c.weights
    # Two absent components merge into their midpoint.
    share = jnp.where(total > 0, linalg.safe_divide(c.weights, total), 0.5)[:, None]
    apart = c.means - c.means[i][None]
    means = c.means[i][None] + share * apart
    spread = apart[:, :, None] * apart[:, None, :]
    share = share[:, :, None]
    rest = 1 - share
    covariances = rest * c.covariances[i][None] + share * c.covariances + share * rest * spread
    return Parts(total, means, covariances)


def _cheapest(costs: Sequence[jax.Array], candidates: jax.Array):
    """The first of the cheapest candidates, and its costs, ∞ where there is no candidate."""
    some = jnp.any(candidates)
    for column in costs:
        least = jnp.min(jnp.where(candidates, column, jnp.inf))
        # Ties up to rounding are ties.
        slack = 8 * jnp.finfo(column.dtype).eps * jnp.abs(least)
        candidates &= column <= least + slack
    first = jnp.argmax(candidates)
    return first, [jnp.where(some, column[first], jnp.inf) for column in costs]
