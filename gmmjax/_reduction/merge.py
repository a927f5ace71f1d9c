"""Merging the cheapest pair of all components, again and again."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gmmjax._mixture.gmm import GMM
from gmmjax._pairs.as_one import as_full, joined


class _State(NamedTuple):
    """Components, some of which are merged into others, and what merges would cost."""

    g: GMM  # full
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

    def row(g, i):
        return jax.tree.leaves(cost(g, i))

    def merge(_, state):
        # Absent rows cost ∞; ties are broken towards the first.
        i, _ = _cheapest(state.least, jnp.isfinite(state.least[0]))
        j = state.nearest[i]
        g = joined(state.g, i, j)
        left = state.left.at[j].set(False)
        labels = jnp.where(state.labels == j, i, state.labels)
        # Costs are symmetric.
        new = row(g, i)
        tables = [t.at[i].set(n).at[:, i].set(n) for t, n in zip(state.tables, new, strict=True)]
        state = state._replace(g=g, left=left, labels=labels, tables=tables)
        return _refreshed(state, i, j, new)

    g = as_full(jax.lax.stop_gradient(p))
    places = jnp.arange(p.num_components)
    tables = jax.lax.map(lambda i: row(g, i), places)
    left = jnp.ones(p.num_components, bool)
    nearest, least = jax.lax.map(lambda i: _cheapest_after(tables, left, i), places)
    state = _State(g, left, places, tables, nearest, least)
    state = jax.lax.fori_loop(0, num_merges, merge, state)
    rank = jnp.cumsum(state.left) - 1
    return rank[state.labels]


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
