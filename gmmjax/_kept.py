"""Programs that an earlier process may have compiled: they are not even traced."""

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from gmmjax._compile import jit_quickly

P = ParamSpec("P")
R = TypeVar("R")

_finders: list[Callable[..., Callable]] = []  # none until a process of its own asks for one


def find_with(find: Callable[..., Callable]) -> None:
    """Look programs up for the rest of this process.

    Args:
      find: of a function, arrays and keywords to the program of it, which takes the arrays.
    """
    _finders[:] = [find]


def kept_quickly(function: Callable[P, R]) -> Callable[P, R]:
    """Compile as `jit_quickly` does, where no program is found; keywords are constants."""
    parameters = inspect.signature(function).parameters.values()
    constants = [one.name for one in parameters if one.kind is one.KEYWORD_ONLY]
    jitted = jit_quickly(function, static_argnames=constants)

    @functools.wraps(function)
    def call(*arguments: P.args, **options: P.kwargs) -> R:
        if _finders:
            return _finders[0](function, *arguments, **options)(*arguments)
        return jitted(*arguments, **options)

    return call
