"""Many components at many points, some of either at a time, in memory that does not grow."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gmmjax._jax import on_mesh_of

LENGTH = 256  # points in a tile
LEAST = 32  # components in a tile, at least


def largest_table() -> int:
    """How many numbers a table of components and points may have to be made at once."""
    return 1 << 21 if jax.default_backend() == "cpu" else 1 << 25


def tile_size() -> int:
    """How many numbers a tile has."""
    return 1 << 18 if jax.default_backend() == "cpu" else 1 << 24


def log_sum(
    log_peaks: jax.Array, distances: Callable, parts: Any, width: int, x: jax.Array
) -> jax.Array:
    """Log Σ_k exp(log_peaks_k − ½ distances_k(x)), `(n,)`, at points `(D, n)`.

    Where the table of all components and points is small it is made at once. For a derivative each
    tile is made once more, and none is kept.

    Args:
      log_peaks: `(K,)`.
      distances: `(parts, x) -> (K, n)`.
      parts: arrays with an entry for each component, or with one for all.
      width: how many numbers a component takes for one point.
      x: the points.
    """

    def at_once(log_peaks, parts, x):
        table = log_peaks[:, None] - 0.5 * distances(parts, x)
        return jax.nn.logsumexp(table, axis=0)

    count, num_points = len(log_peaks), x.shape[1]
    if count * width * num_points <= largest_table():
        return at_once(log_peaks, parts, x)
    length = min(LENGTH, num_points)
    size = max(LEAST, tile_size() // (width * length))
    # A tile without a component sums to next to nothing: of nothing there is no derivative.
    lowest = 0.25 * jnp.finfo(x.dtype).min
    peaks = jnp.maximum(cut(log_peaks, count, size, -jnp.inf), lowest)
    tiles = peaks, jax.tree.map(lambda leaf: cut(leaf, count, size), parts)
    of_tile = jax.checkpoint(at_once)

    def over_tiles(x):
        sums = jax.lax.map(lambda tile: of_tile(*tile, x), tiles)
        return jax.nn.logsumexp(sums, axis=0)

    return over_points(over_tiles, x, length)


def cut(leaf: jax.Array, count: int, size: int, fill: float = 0.0) -> jax.Array:
    """Entries of `count` components in equal parts of at most `size`, the last one filled up.

    One entry for all components is repeated in each part.
    """
    parts = math.ceil(count / size)
    if len(leaf) < count:
        return jnp.broadcast_to(leaf[None], (parts, *leaf.shape))
    size = math.ceil(count / parts)
    missing = ((0, parts * size - count), *[(0, 0)] * (leaf.ndim - 1))
    padded = jnp.pad(leaf, missing, constant_values=fill)
    return padded.reshape(parts, size, *leaf.shape[1:])


def over_points(function: Callable, x: jax.Array, length: int) -> jax.Array:
    """A function of points `(D, n)`, which gives each a number, so many points at a time."""
    num_points = x.shape[1]
    if num_points <= length:
        return function(x)
    blocks = jax.vmap(lambda row: cut(row, num_points, length), out_axes=1)(x)
    return jax.lax.map(function, blocks).reshape(-1)[:num_points]


def block_length(num_components: int, dim: int) -> int:
    """For how many points to make `(K, D, points)` tables at once."""
    # On a CPU they should stay in cache, elsewhere launches count.
    numbers = 1 << 18 if jax.default_backend() == "cpu" else 1 << 25
    return max(256, numbers // (num_components * dim))


def over_blocks(function: Callable, g, x: jax.Array) -> jax.Array:
    """function(g, points) of points `(n, D)`, which gives each point a row of its own.

    The function closes over nothing traced. For a derivative blocks are computed once more, and
    none of their tables is kept.
    """
    length = block_length(g.num_components, g.dim)
    if len(x) <= length:
        return function(g, x)
    return on_mesh_of(_over_blocks, (function, g, x, length), {})(function, g, x, length)


def _over_blocks(function, g, x, length):
    @jax.custom_jvp
    def rows(g, x):
        return _in_place(function, g, x, length)

    @rows.defjvp
    def _rows_jvp(primals, tangents):
        return jax.jvp(lambda g, x: _in_parts(function, g, x, length), primals, tangents)

    return rows(g, x)


def _in_place(function, g, x, length):
    """Block after block is written into one result, which is never copied."""
    shape = jax.eval_shape(function, g, x)

    def step(i, found):
        start = jnp.minimum(i * length, len(x) - length)  # the last block overlaps
        block = function(g, jax.lax.dynamic_slice_in_dim(x, start, length))
        return jax.lax.dynamic_update_slice_in_dim(found, block, start, 0)

    return jax.lax.fori_loop(0, -(-len(x) // length), step, jnp.zeros(shape.shape, shape.dtype))


def _in_parts(function, g, x, length):
    """The same as a map over whole blocks and one for the rest, which can be transposed."""
    checkpointed = jax.checkpoint(function)
    count = len(x) // length
    blocks = x[: count * length].reshape(count, length, -1)
    found = jax.lax.map(lambda points: checkpointed(g, points), blocks)
    found = found.reshape(count * length, *found.shape[2:])
    if len(found) == len(x):
        return found
    # The last block is as long as the others, so that one program does for both.
    last = checkpointed(g, x[-length:])
    return jnp.concatenate([found, last[len(found) - len(x) :]])
