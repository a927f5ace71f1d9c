"""Batches of estimates, so many at a time: under `vmap` memory stays near that of one."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from gmmjax._trees import moving, replaced, slope


def largest_batch() -> int:
    """How many numbers the tables of all estimates that are made at once may have."""
    return 1 << 22 if jax.default_backend() == "cpu" else 1 << 28


def in_batches(function: Callable, numbers: int) -> Callable:
    """A function of trees of arrays that `vmap` calls for a few elements at a time.

    Its derivative is that of the function itself, of all elements at once.

    Args:
      function: it closes over nothing traced.
      numbers: how many its largest table has.
    """
    bounded = _bounded(function, numbers)

    @jax.custom_jvp
    def call(*arguments):
        return bounded(*arguments)

    @call.defjvp
    def _call_jvp(primals, tangents):
        return jax.jvp(function, primals, tangents)

    return call


def _bounded(function, numbers):
    batched = jax.custom_batching.custom_vmap(function)

    @batched.def_vmap
    def _in_turns(length, is_batched, *arguments):
        size = _batch_size(length, numbers)
        leaves, tree = jax.tree.flatten(arguments)
        moving = jax.tree.leaves(is_batched)
        whole = functools.partial(_all_elements, function, tree, moving, size)
        # Once more, for a vmap around this one.
        found = _bounded(whole, size * numbers)(leaves)
        return found, jax.tree.map(lambda _: True, found)

    return batched


def _batch_size(length, numbers):
    """How many elements of a batch to take at a time."""
    size = max(1, largest_batch() // numbers)
    if size >= length:
        return length
    # Elements that are spread over devices are taken from all of them alike.
    return math.ceil(size / jax.device_count()) * jax.device_count()


def _all_elements(function, tree, moving, size, leaves):
    """Results for all elements of a batch, whose leaves are `moving`, `size` of them at a time."""
    length = next(len(leaf) for leaf, moves in zip(leaves, moving, strict=True) if moves)

    def at_once(chosen):
        given = iter(chosen)
        arguments = [
            next(given) if moves else leaf for leaf, moves in zip(leaves, moving, strict=True)
        ]
        axes = [0 if moves else None for moves in moving]
        call = lambda *leaves: function(*jax.tree.unflatten(tree, leaves))
        return jax.vmap(call, in_axes=axes)(*arguments)

    batch = [leaf for leaf, moves in zip(leaves, moving, strict=True) if moves]
    if size >= length:
        return at_once(batch)
    turns = math.ceil(length / size)
    found = jax.lax.map(at_once, [_deal(leaf, size, turns) for leaf in batch])
    return jax.tree.map(lambda leaf: _collect(leaf, length), found)


def _deal(leaf, size, turns):
    """Elements i, i + turns, i + 2 turns, … of a batch for turn i, `(turns, size, …)`."""
    missing = size * turns - len(leaf)
    if missing:
        leaf = jnp.concatenate([leaf, jnp.broadcast_to(leaf[-1:], (missing, *leaf.shape[1:]))])
    return jnp.swapaxes(leaf.reshape(size, turns, *leaf.shape[1:]), 0, 1)


def _collect(leaf, length):
    """The batch that was dealt."""
    return jnp.swapaxes(leaf, 0, 1).reshape(-1, *leaf.shape[2:])[:length]


def with_gradient(function: Callable, value_and_gradient: Callable) -> Callable:
    """A function of one tree, to a number and what has no derivative, with a gradient of its own.

    Args:
      function: `(arguments) -> (value, rest)`.
      value_and_gradient: `(put, values, leaves) -> ((value, rest), gradient)`, the gradient in the
        values of those leaves that move; `put(values, leaves)` are the arguments.
    """

    @jax.custom_jvp
    def call(arguments):
        return function(arguments)

    @functools.partial(call.defjvp, symbolic_zeros=True)
    def _call_jvp(primals, tangents):
        leaves, tree = jax.tree.flatten(primals[0])
        moves = moving(tangents)
        places, directions = tuple(moves), list(moves.values())

        # Batching keeps this function: it must know places, and no direction.
        def put(values, leaves):
            return jax.tree.unflatten(tree, replaced(leaves, places, values))

        values = [leaves[i] for i in places]
        (value, rest), gradient = value_and_gradient(put, values, leaves)
        along = slope(value, gradient, directions)
        return (value, rest), (along, jax.tree.map(jnp.zeros_like, rest))

    return call


def estimate_in_batches(function: Callable, numbers: int) -> Callable:
    """A function of one tree, to a number and what has no derivative, in bounded memory.

    Batches of it and of its gradient are made a few elements at a time.
    """

    def value_and_gradient(put, values, leaves):
        def of_values(values, leaves):
            return function(put(values, leaves))

        differentiate = jax.value_and_grad(of_values, has_aux=True)
        return in_batches(differentiate, 2 * numbers)(values, leaves)

    return with_gradient(in_batches(function, numbers), value_and_gradient)
