"""Arguments that are the same everywhere, checked with words a user can act on."""

import contextlib
import functools
import inspect
import operator
import os
import sys
import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax
import jax.numpy as jnp

from gmmjax._jax import is_traced, on_mesh_of

P = ParamSpec("P")
R = TypeVar("R")


def keyed(function: Callable[P, R]) -> Callable[P, R]:
    """Check the key before Python counts arguments, so that `f(p, q)` is told what is missing."""

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        check_key(args[0] if args else kwargs.get("key"))
        return on_mesh_of(function, args, kwargs)(*args, **kwargs)

    return checked


def keyless(function: Callable[P, R]) -> Callable[P, R]:
    """Refuse a key before Python counts arguments, so that `f(key, p, q)` is told what is wrong."""

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        if "key" in kwargs or (args and is_key(args[0])):
            raise TypeError(f"key: {function.__name__} is deterministic and takes no key")
        return on_mesh_of(function, args, kwargs)(*args, **kwargs)

    return checked


def on_any_mesh(function: Callable[P, R]) -> Callable[P, R]:
    """Take arrays on meshes of explicit axes, as functions do that are `keyed` or `keyless`."""

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        return on_mesh_of(function, args, kwargs)(*args, **kwargs)

    return called


def is_key(value) -> bool:
    """Whether a value is a new-style JAX key, or an array of them."""
    return isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def check_key(key, place: str = "first") -> None:
    """Refuse what is not one new-style JAX key; errors say at which place it is wanted."""
    advice = "expected a JAX key such as jax.random.key(0)"
    if isinstance(key, tuple) or callable(key):  # a mixture or a function
        raise TypeError(f"key: {advice}; the key comes {place}, got {type(key).__name__}")
    if not isinstance(key, jax.Array):
        raise TypeError(f"key: {advice}, got {type(key).__name__}")
    if key.dtype == jnp.uint32:
        raise TypeError(
            f"key: {advice}, got an old-style key; convert it with jax.random.wrap_key_data"
        )
    if not is_key(key):
        raise TypeError(f"key: {advice}, got {type(key).__name__}")
    if key.shape:
        raise ValueError(
            f"key: {advice}, got an array of keys of shape {key.shape}; lift with jax.vmap"
        )


def check_count(name: str, value) -> int:
    """A count as a Python int of at least 1; anything else is refused."""
    if is_traced(value):
        raise TypeError(
            f"{name}: is traced but sets shapes and must be a Python int; bind it before jit or "
            f"vmap, for example functools.partial(gmmjax.kl_divergence, {name}=4096)"
        )
    if isinstance(value, bool):
        raise TypeError(f"{name}: expected an int, got {value!r}")
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(
            f"{name}: expected an int, got {value!r} of type {type(value).__name__}"
        ) from None
    if count < 1:
        raise ValueError(f"{name}: expected at least 1, got {value}")
    return count


def check_between(name: str, value, low: float, high: float):
    """A real number in (low, high]; anything else is refused, and NaN where it is traced."""
    if is_traced(value):
        return _nan_outside(name, value, low, high)
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(
            f"{name}: expected a scalar, got {value!r}; arrays are lifted with jax.vmap"
        ) from None
    if not low < number <= high:
        raise ValueError(f"{name}: expected a number above {low} and at most {high}, got {number}")
    return number


def _nan_outside(name, value, low, high):
    """A traced scalar, and NaN where it is not in (low, high]: nothing can be raised then."""
    value = jnp.asarray(value)
    if value.shape != ():
        raise ValueError(f"{name}: expected a scalar, got shape {value.shape}; lift with jax.vmap")
    return jnp.where((low < value) & (value <= high), value, jnp.nan)


def check_function(name: str, value) -> None:
    """Refuse what cannot be called."""
    if not callable(value):
        raise TypeError(
            f"{name}: expected a function, got {_shortened(repr(value))} of type "
            f"{type(value).__name__}"
        )


def _shortened(text, length=60):
    return text if len(text) <= length else text[:length].split("\n")[0] + " …"


@contextlib.contextmanager
def given_points(name: str):
    """Errors of a user's function come with what it is given: one point is the usual mistake."""
    try:
        yield
    except Exception as error:
        error.add_note(
            f"{name}: is given points of shape (n, D) and returns n values; of a function of one "
            "point pass jax.vmap of it, and of one that is not made of JAX a jax.pure_callback"
        )
        raise


def check_values(name: str, values, num_points: int) -> None:
    """Refuse what a user's function gives for points, unless it is one value for each."""
    if (shape := getattr(values, "shape", None)) != (num_points,):
        got = type(values).__name__ if shape is None else shape
        raise ValueError(
            f"{name}: expected values of shape ({num_points},), one for each point, got {got}; "
            "a function of one point is lifted with jax.vmap"
        )


def takes_key(divergence: Callable) -> bool:
    """Whether the first argument of a divergence is a key, which the contract calls `key`."""
    return first_parameter(divergence) == "key"


def first_parameter(divergence: Callable) -> str | None:
    """The name of the first argument of a divergence, by which estimates are told from others."""
    try:
        return next(iter(inspect.signature(divergence).parameters), None)
    except (TypeError, ValueError):  # of builtins and of some classes
        raise TypeError(
            f"divergence: {divergence!r} does not say which arguments it takes; "
            "wrap it in a function of (key, p, q) or of (p, q)"
        ) from None


def warn(message: str) -> None:
    """Warn of something at the line outside this package that asked for it."""
    package = os.path.dirname(__file__)
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(package):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)
