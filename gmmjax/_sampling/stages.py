"""Estimates as programs of two stages, which are compiled side by side.

What is known before any point is drawn takes a hundred small operations, and each keeps the
compiler as long as one of the few in the loop over points, which do all of the work. Where an
estimate or its gradient is called by itself, only that loop is compiled with all care.
"""

import functools
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._compile import SOON, WIDE, compile_side_by_side, is_new, jit_with
from gmmjax._jax import evaluated, is_alone, is_traced
from gmmjax._sampling.blocks import in_bounded_memory
from gmmjax._sampling.estimate import Estimate
from gmmjax._trees import moving, replaced, slope

_slope = jax.jit(slope)


def estimate_in_stages(prepare: Callable, begin: Callable, end: Callable) -> Callable:
    """A compiled estimate `((key, mixtures, *more), problem)`, in bounded memory where batched.

    Args:
      prepare: `(arrays, problem) -> tree`, of the mixtures alone.
      begin: `(tree, problem) -> tree`, all before the points; `problem.sampling` says which.
      end: `(tree, problem) -> Estimate`.
    """

    def whole(arrays, problem):
        def finish(prepared):
            return tuple(end(begin(prepared, problem), problem))

        finish = in_bounded_memory(finish, problem.sampling, arrays[1])
        return Estimate(*finish(prepare(arrays, problem)))

    def first(arrays, problem):
        return begin(prepare(arrays, problem), problem)

    return in_stages(whole, first, end)


def in_stages(whole: Callable, first: Callable, last: Callable) -> Callable:
    """A compiled function `(arrays, static)`, to a number and what has no derivative.

    Args:
      whole: what it is inside of other programs, in batches, and on other devices than CPUs.
      first: `(arrays, static) -> tree`.
      last: `(tree, static) -> (value, rest)`; after `first` it gives what `whole` does.
    """
    together: Any = jit_with(WIDE, static_argnums=1)(whole)
    begin = jax.jit(first, static_argnums=1, compiler_options=SOON)
    end = jax.jit(last, static_argnums=1, compiler_options=WIDE)
    value_and_gradient = _value_and_gradient(first, last)

    def programs(arrays, static):
        yield begin, arrays, static
        yield end, begin.eval_shape(arrays, static), static

    def value(arrays, static):
        if is_new(begin, arrays, static):
            compile_side_by_side(programs(arrays, static))
        return end(begin(arrays, static), static)

    @functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
    def differentiable(arrays, static):
        return value(arrays, static)

    @functools.partial(differentiable.defjvp, symbolic_zeros=True)
    def _jvp(static, primals, tangents):
        (arrays,) = primals
        leaves, tree = jax.tree.flatten(arrays)
        moves = moving(tangents)
        places, directions = tuple(moves), list(moves.values())
        if is_traced(arrays):  # a derivative of this one is taken, too
            at = lambda values: together(tree.unflatten(replaced(leaves, places, values)), static)
            return jax.jvp(at, ([leaves[i] for i in places],), (directions,))
        found, gradient = evaluated(value_and_gradient, arrays, static, places)
        value, *rest = jax.tree.leaves(found)
        zeros = [jnp.zeros_like(leaf) for leaf in rest]
        along = _slope(value, gradient, directions)
        return found, jax.tree.structure(found).unflatten([along, *zeros])

    @functools.wraps(whole)
    def call(arrays, static: Hashable) -> Any:
        if jax.default_backend() != "cpu" or not is_alone():
            return together(arrays, static)
        return (differentiable if is_traced(arrays) else value)(arrays, static)

    function: Any = call
    programs_of_values: list[Any] = [together, begin, end]
    function.clear_cache = lambda: [program.clear_cache() for program in programs_of_values]
    return function


def _value_and_gradient(first, last):
    """`(arrays, static, places)` to what `last` gives, and its gradient in those leaves."""

    @functools.partial(jax.jit, static_argnums=(1, 2), compiler_options=SOON)
    def begin(arrays, static, places):
        leaves, tree = jax.tree.flatten(arrays)
        moves = []

        def at(values):
            tree_of_all = first(tree.unflatten(replaced(leaves, places, values)), static)
            return _watched(moves, tree_of_all)

        begun, pull = jax.vjp(at, [leaves[i] for i in places])
        return *_parted(begun, moves), pull

    @functools.partial(jax.jit, static_argnums=2, compiler_options=WIDE)
    def end(begun, fixed, static):
        def at(begun):
            found = last(_joined(begun, fixed), static)
            return found[0], found

        (_, found), gradient = jax.value_and_grad(at, has_aux=True)(begun)
        return found, gradient

    @functools.partial(jax.jit, compiler_options=SOON)
    def back(pull, gradient, fixed):
        return pull(_joined(gradient, jax.tree.map(_nothing, fixed)))[0]

    def programs(arrays, static, places):
        yield begin, arrays, static, places
        begun, fixed, pull = begin.eval_shape(arrays, static, places)
        yield end, begun, fixed, static
        yield back, pull, begun, fixed

    def call(arrays, static, places):
        if is_new(begin, arrays, static, places):
            compile_side_by_side(programs(arrays, static, places))
        begun, fixed, pull = begin(arrays, static, places)
        found, gradient = end(begun, fixed, static)
        return found, back(pull, gradient, fixed)

    return call


def _watched(moves, tree):
    """The same tree, which notes when it is differentiated which of its leaves move."""

    @jax.custom_jvp
    def same(tree):
        return tree

    @functools.partial(same.defjvp, symbolic_zeros=True)
    def _jvp(primals, tangents):
        directions = moving(tangents)
        moves.extend(i in directions for i in range(len(jax.tree.leaves(primals))))
        return primals[0], tangents[0]

    return same(tree)


def _parted(tree, moves):
    """The leaves that move, and those that do not, each with `None` for the others."""
    leaves, structure = jax.tree.flatten(tree)
    pairs = list(zip(leaves, moves, strict=True))
    free = [leaf if moves else None for leaf, moves in pairs]
    fixed = [None if moves else leaf for leaf, moves in pairs]
    return structure.unflatten(free), structure.unflatten(fixed)


def _joined(tree, other):
    """A tree of the leaves that are in either."""
    either = lambda one, another: another if one is None else one
    return jax.tree.map(either, tree, other, is_leaf=lambda leaf: leaf is None)


def _nothing(leaf):
    """A gradient of zero."""
    if jnp.issubdtype(leaf.dtype, jnp.floating):
        return jnp.zeros_like(leaf)
    return np.zeros(leaf.shape, jax.dtypes.float0)
