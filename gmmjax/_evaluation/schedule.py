"""Which pairs each row of a matrix computes, and where each entry is then found."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Schedule(NamedTuple):
    """The columns that each row computes, and for each entry of the matrix the row and the place
    where it was computed.
    """

    columns: np.ndarray  # (M, C)
    row: np.ndarray | None  # (M, N); None where each entry is in its own row and column
    place: np.ndarray  # (M, N); −1 for an entry that is 0 and is not computed

    def chunks(self, size: int) -> np.ndarray:
        """The columns of each row in equal chunks of at most `size`, `(M, B, size)`.

        The last ones may be computed twice, so that all chunks are of one shape.
        """
        length = self.columns.shape[1]
        count = math.ceil(length / size)
        size = math.ceil(length / count)
        filled = np.minimum(np.arange(count * size), length - 1)
        return self.columns[:, filled].reshape(-1, count, size)

    def gather(self, table: jax.Array) -> jax.Array:
        """Entries `(M, N, …)` of a table that was computed in chunks, `(M, B, size, …)`."""
        computed = table.reshape(table.shape[0], -1, *table.shape[3:])
        if self.row is None:
            return computed[:, : self.columns.shape[1]]
        entries = computed[self.row, self.place]
        inner = (1,) * (entries.ndim - 2)
        zero = (self.place < 0).reshape(*self.place.shape, *inner)
        return jnp.where(zero, 0, entries)


def rectangle(num_rows: int, num_columns: int) -> Schedule:
    """Every row computes every column."""
    _, column = np.indices((num_rows, num_columns))
    return Schedule(column, None, column)


def all_pairs(size: int, symmetric: bool, zero_diagonal: bool) -> Schedule:
    """Row i computes the pairs (i, i + first) … (i, i + last), modulo the size.

    Each row computes the same number of pairs, so that one program serves all of them; a triangle
    of the matrix would not do.
    """
    first = 1 if zero_diagonal and size > 1 else 0
    last = size // 2 if symmetric else size - 1
    columns = (np.arange(size)[:, None] + np.arange(first, last + 1)) % size
    row, column = np.indices((size, size))
    steps = (column - row) % size
    # Of an even size, both rows of a pair half the size apart have computed it: one is taken.
    computed_twice = symmetric & (2 * steps == size)
    mirrored = (steps > last) | (computed_twice & (row > column))
    place = np.where(mirrored, size - steps, steps) - first
    if zero_diagonal:
        np.fill_diagonal(place, -1)
    return Schedule(columns, np.where(mirrored, column, row), place)
