"""Discrete optimal transport, exact: successive shortest paths in a compiled loop."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Plan(NamedTuple):
    """An optimal plan, and the potentials f_i + g_j ≤ c_ij, with equality where mass moves, that
    prove it.
    """

    coupling: jax.Array
    f: jax.Array
    g: jax.Array


class _State(NamedTuple):
    coupling: jax.Array
    supply: jax.Array  # what is left of it
    demand: jax.Array
    f: jax.Array
    g: jax.Array
    count: jax.Array


def transport(cost: jax.Array, supply: jax.Array, demand: jax.Array) -> Plan:
    """The cheapest way to move `(n,)` masses to `(m,)` masses of the same sum at `(n, m)` costs.

    Exact up to rounding, unlike an entropic plan; about n + m paths, each found in a few sweeps
    over the table of costs. No derivative: the optimum is differentiated with the plan and the
    potentials held fixed (envelope theorem).
    """
    cost, supply, demand = (jax.lax.stop_gradient(a) for a in (cost, supply, demand))
    most = 50 * sum(cost.shape)  # never reached in tests; there so that NaN costs end too
    unfinished = lambda s: jnp.any(s.supply > 0) & jnp.any(s.demand > 0) & (s.count < most)
    start = _State(
        jnp.zeros_like(cost),
        supply,
        demand,
        jnp.zeros_like(supply),
        jnp.min(cost, axis=0),
        jnp.zeros((), jnp.int32),
    )
    end = jax.lax.while_loop(unfinished, lambda s: _augment(cost, s), start)
    # Neither what was cut short nor what comparisons made of NaN may pass for an answer.
    done = jnp.where(unfinished(end) | jnp.any(jnp.isnan(cost)), jnp.nan, 1.0).astype(cost.dtype)
    return Plan(end.coupling * done, end.f * done, end.g * done)


def _augment(cost, s):
    """Move as much as one shortest path from left-over supply to left-over demand can carry."""
    # Lengths are reduced costs: never negative, and 0 backwards along what already moves. Rounding
    # may leave −ε.
    reduced = jnp.maximum(cost - s.f[:, None] - s.g[None], 0)
    rows, columns, from_row, from_column = _shortest_paths(reduced, s.coupling > 0, s.supply > 0)
    target = jnp.argmin(jnp.where(s.demand > 0, columns, jnp.inf))
    path, root = _trace(target, from_row, from_column)
    room = jnp.min(s.coupling, where=path < 0, initial=jnp.inf)
    amount = jnp.minimum(jnp.minimum(room, s.supply[root]), s.demand[target])
    length = columns[target]
    return _State(
        s.coupling + amount * path,
        s.supply.at[root].add(-amount),
        s.demand.at[target].add(-amount),
        s.f + length - jnp.minimum(rows, length),
        s.g - length + jnp.minimum(columns, length),
        s.count + 1,
    )


def _shortest_paths(lengths, used, roots):
    """Distances of rows and columns from the roots, and the predecessors on a tree of shortest
    paths (row −1: a root).

    Edges lead from every row to every column, and at no cost from a column to the rows that `used`
    joins it with.
    """
    infinite = lambda a, axis: jnp.full(a.shape[axis], jnp.inf, a.dtype)

    def sweep(state):
        rows, columns, from_row, from_column, _ = state
        # Predecessors change on strict improvement only: ties would close cycles.
        onward = rows[:, None] + lengths
        best = jnp.min(onward, axis=0)
        from_row = jnp.where(best < columns, jnp.argmin(onward, axis=0), from_row)
        columns = jnp.minimum(columns, best)
        back = jnp.where(used, columns[None], jnp.inf)
        best = jnp.min(back, axis=1)
        from_column = jnp.where(best < rows, jnp.argmin(back, axis=1), from_column)
        return jnp.minimum(rows, best), columns, from_row, from_column, jnp.any(best < rows)

    rows = jnp.where(roots, 0.0, infinite(lengths, 0))
    none = jnp.full(lengths.shape[0], -1), jnp.full(lengths.shape[1], -1)
    start = (rows, infinite(lengths, 1), none[1], none[0], jnp.array(True))
    return jax.lax.while_loop(lambda state: state[-1], sweep, start)[:4]


def _trace(target, from_row, from_column):
    """The path to a column: +1 where it leads forward, −1 backward, as a table; and the row where
    it begins.
    """

    def step(state):
        path, column, _ = state
        row = from_row[column]
        previous = from_column[row]
        path = path.at[row, column].add(1)
        return (
            path.at[row, jnp.maximum(previous, 0)].add(jnp.where(previous < 0, 0, -1)),
            previous,
            row,
        )

    blank = jnp.zeros((from_column.size, from_row.size), jnp.int32)
    path, _, root = jax.lax.while_loop(lambda s: s[1] >= 0, step, (blank, target, target))
    return path, root
