"""Many components at many points, in tiles of both that a cache holds."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

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
