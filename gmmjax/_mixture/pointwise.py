"""Functions of many points a block at a time, in memory that does not grow with their number."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gmmjax._jax import on_mesh_of


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
    arguments = function, g, x, length
    return on_mesh_of(_over_blocks, arguments, {})(*arguments)


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
