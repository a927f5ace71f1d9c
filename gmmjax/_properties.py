"""What holds for a divergence whatever its arguments, said once, where it is defined."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple, TypeVar

Function = TypeVar("Function", bound=Callable)
_ATTRIBUTE = "divergence_properties"


class Properties(NamedTuple):
    """What is known of a function of two mixtures: nothing, unless it says so."""

    symmetric: bool = False  # f(p, q) = f(q, p)
    zero_at_equality: bool = False  # f(p, p) = 0
    skewed_by: str | None = None  # a keyword that takes the symmetry where it is given
    at_most: float = math.inf  # f(p, q) is not above it
    signed: bool = False  # f(p, q) may be below 0, though it is 0 at equality

    @property
    def nonnegative(self) -> bool:
        """Whether f(p, q) ≥ 0 is known: 0 at equality is then its least value."""
        return self.zero_at_equality and not self.signed


def divergence(
    *,
    symmetric: bool = False,
    zero_at_equality: bool = False,
    skewed_by: str | None = None,
    at_most: float = math.inf,
    signed: bool = False,
) -> Callable[[Function], Function]:
    """Say what holds for the function that is defined below; it stays what it is."""
    known = Properties(symmetric, zero_at_equality, skewed_by, at_most, signed)

    def mark(function: Function) -> Function:
        setattr(function, _ATTRIBUTE, known)
        return function

    return mark


def properties(function: Callable) -> Properties:
    """What is known of a function, with the keywords that `functools.partial` has bound to it."""
    function, bound = unbound(function)
    known = getattr(function, _ATTRIBUTE, Properties())
    return known._replace(symmetric=known.symmetric and known.skewed_by not in bound)


def is_divergence(function: Callable) -> bool:
    """Whether a function is a divergence of this package, bare or with keywords bound to it."""
    return hasattr(unbound(function)[0], _ATTRIBUTE)


def unbound(function: Callable) -> tuple[Callable, set[str]]:
    """A function without `jax.jit` and `functools.partial`, and the keywords that were bound."""
    bound = set()
    while not hasattr(function, _ATTRIBUTE):
        if isinstance(function, functools.partial):
            bound |= set(function.keywords)
            function = function.func
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        else:
            break
    return function, bound
