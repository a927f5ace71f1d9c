"""Discrete optimal transport, exact: successive shortest paths in a compiled loop."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Optimum(NamedTuple):
    """An optimal coupling, and the potentials f_i + g_j ≤ c_ij that prove it.

    They are equal to the cost where mass moves.
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
    count: jax.Array  # of paths


class _Tree(NamedTuple):
    """Shortest paths from the roots to rows and columns; −1 comes before a root."""

    rows: jax.Array  # their distances
    columns: jax.Array
    from_row: jax.Array  # the row before each column
    from_column: jax.Array  # the column before each row
    changed: jax.Array


def transport(cost: jax.Array, supply: jax.Array, demand: jax.Array) -> Optimum:
    """The cheapest way to move `(n,)` masses to `(m,)` masses of the same sum at `(n, m)` costs.

    Exact up to rounding, unlike an entropic plan; about n + m paths, each found in a few sweeps
    over the table of costs. No derivative: the optimum is differentiated with the coupling and the
    potentials held fixed (envelope theorem).
    """
    cost, supply, demand = (jax.lax.stop_gradient(a) for a in (cost, supply, demand))
    most_paths = 50 * sum(cost.shape)  # never reached in tests; there so that NaN costs end too

    def unfinished(state):
        left = jnp.any(state.supply > 0) & jnp.any(state.demand > 0)
        return left & (state.count < most_paths)

    def augment(state):
        return _augment(cost, state)

    start = _State(
        coupling=jnp.zeros_like(cost),
        supply=supply,
        demand=demand,
        f=jnp.zeros_like(supply),
        g=jnp.min(cost, axis=0),
        count=jnp.zeros((), jnp.int32),
    )
    end = jax.lax.while_loop(unfinished, augment, start)
    # Neither what was cut short nor what comparisons made of NaN may pass for an answer.
    failed = unfinished(end) | jnp.any(jnp.isnan(cost))
    one_or_nan = jnp.where(failed, jnp.nan, 1.0).astype(cost.dtype)
    return Optimum(end.coupling * one_or_nan, end.f * one_or_nan, end.g * one_or_nan)


def _augment(cost: jax.Array, state: _State) -> _State:
    """Move as much as one shortest path from left-over supply to left-over demand can carry."""
    # Lengths are reduced costs: never negative, and 0 backwards along what already moves. Rounding
    # may leave −ε.
    lengths = jnp.maximum(cost - state.f[:, None] - state.g[None], 0)
    tree = _shortest_paths(lengths, used=state.coupling > 0, roots=state.supply > 0)
    distances = jnp.where(state.demand > 0, tree.columns, jnp.inf)
    target = jnp.argmin(distances)
    path, root = _trace(target, tree.from_row, tree.from_column)
    removable = jnp.min(state.coupling, where=path < 0, initial=jnp.inf)
    amount = jnp.minimum(removable, state.supply[root])
    amount = jnp.minimum(amount, state.demand[target])
    length = tree.columns[target]
    return _State(
        coupling=state.coupling + amount * path.astype(amount.dtype),
        supply=state.supply.at[root].add(-amount),
        demand=state.demand.at[target].add(-amount),
        f=state.f + length - jnp.minimum(tree.rows, length),
        g=state.g - length + jnp.minimum(tree.columns, length),
        count=state.count + 1,
    )


def _shortest_paths(lengths: jax.Array, used: jax.Array, roots: jax.Array) -> _Tree:
    """The tree of shortest paths from the root rows.

    Edges lead from every row to every column, and at no cost from a column to the rows that `used`
    joins it with.
    """

    def sweep(tree: _Tree) -> _Tree:
        # Predecessors change on strict improvement only: ties would close cycles.
        onward = tree.rows[:, None] + lengths
        nearest = jnp.min(onward, axis=0)
        closer = nearest < tree.columns
        from_row = jnp.where(closer, jnp.argmin(onward, axis=0), tree.from_row)
        columns = jnp.minimum(tree.columns, nearest)
        back = jnp.where(used, columns[None], jnp.inf)
        nearest = jnp.min(back, axis=1)
        closer = nearest < tree.rows
        from_column = jnp.where(closer, jnp.argmin(back, axis=1), tree.from_column)
        rows = jnp.minimum(tree.rows, nearest)
        return _Tree(rows, columns, from_row, from_column, jnp.any(closer))

    num_rows, num_columns = lengths.shape
    far = jnp.full(num_rows, jnp.inf, lengths.dtype)
    start = _Tree(
        rows=jnp.where(roots, 0.0, far),
        columns=jnp.full(num_columns, jnp.inf, lengths.dtype),
        from_row=jnp.full(num_columns, -1),
        from_column=jnp.full(num_rows, -1),
        changed=jnp.array(True),
    )
    return jax.lax.while_loop(lambda tree: tree.changed, sweep, start)


def _trace(target, from_row, from_column):
    """The path to a column and the row where it begins; +1 in a table forward, −1 backward."""

    def is_on_path(state):
        _, column, _ = state
        return column >= 0

    def step_back(state):
        path, column, _ = state
        row = from_row[column]
        previous = from_column[row]
        path = path.at[row, column].add(1)
        backward = jnp.where(previous < 0, 0, -1)
        path = path.at[row, jnp.maximum(previous, 0)].add(backward)
        return path, previous, row

    blank = jnp.zeros((from_column.size, from_row.size), jnp.int32)
    path, _, root = jax.lax.while_loop(is_on_path, step_back, (blank, target, target))
    return path, root
