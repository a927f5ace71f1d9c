"""How estimates are compiled: small ones, as programs of their own, in half of the time."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from gmmjax._compile import SOON, is_ours
from gmmjax._jax import is_traced
from gmmjax._sampling.batching import with_gradient
from gmmjax._sampling.estimate import Estimate


class JitEstimate:
    """`jit` of `function(arguments, static) -> (value, stderr)`, called as `(arguments, *static)`.

    Where it is small and ours to compile it is so in half of the time, and differentiated it is one
    program, of the value and its gradient.

    Args:
      function: its second argument is a hashable tuple.
      is_small: of the same arguments, whether it takes about as long however compiled.
    """

    def __init__(self, function: Callable, is_small: Callable[..., bool]):
        self._function, self._is_small = function, is_small
        gradient = functools.partial(_value_and_gradient, function)
        self._plain: Any = jax.jit(function, static_argnums=1)
        self._soon: Any = jax.jit(function, static_argnums=1, compiler_options=SOON)
        self._gradient: Any = jax.jit(gradient, static_argnums=(0, 3), compiler_options=SOON)

    def __call__(self, arguments, *static) -> Estimate:
        """The estimate."""
        if not (is_ours() and self._is_small(arguments, static)):
            found = self._plain(arguments, static)
        elif is_traced(arguments):
            found = self._differentiable(static)(arguments)
        else:
            found = self._soon(arguments, static)
        return Estimate(*found)

    def _differentiable(self, static):
        def value(arguments):
            return self._soon(arguments, static)

        def gradient(put, values, leaves):
            return self._gradient(put, values, leaves, static)

        return with_gradient(value, gradient)

    def __wrapped__(self, arguments, *static) -> Estimate:
        """The same without a program."""
        return Estimate(*self._function(arguments, static))

    def clear_cache(self) -> None:
        """Forget all programs."""
        for jitted in (self._plain, self._soon, self._gradient):
            jitted.clear_cache()

    def _cache_size(self) -> int:
        return self._plain._cache_size() + self._soon._cache_size()


def _value_and_gradient(function, put, values, leaves, static):
    def of_values(values):
        return function(put(values, leaves), static)

    return jax.value_and_grad(of_values, has_aux=True)(values)
