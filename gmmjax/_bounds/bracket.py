"""Bounds of what numerical integration knows: the number itself, and what it may be off by."""

import jax
import jax.numpy as jnp

from gmmjax._mixture.gmm import GMM

# Of all mixtures together, by dimension: integrals of more of them take longer than half a second.
MOST_COMPONENTS = {1: 1024, 2: 32}

# Far above what panels and strips leave, 1e-12 and ten units in the last place.
RELATIVE_ERROR = {"float64": 1e-9, "float32": 1e-5}
ROUNDING = 64  # units in the last place of 1


def is_quick(*mixtures: GMM) -> bool:
    """Whether numerical integration takes milliseconds."""
    count = sum(g.num_components for g in mixtures)
    return count <= MOST_COMPONENTS.get(mixtures[0].dim, 0)


def bracket(value: jax.Array, at_most: float = jnp.inf) -> tuple[jax.Array, jax.Array]:
    """A lower and an upper bound around an integral of terms that are at least 0."""
    lower, upper = widened(value)
    return jnp.maximum(lower, 0.0), jnp.minimum(upper, jnp.asarray(at_most, value.dtype))


def widened(value: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Either side of an integral by what it may be off."""
    eps = jnp.finfo(value.dtype).eps
    slack = RELATIVE_ERROR[value.dtype.name] * jnp.abs(value) + ROUNDING * eps
    slack = jax.lax.stop_gradient(slack)
    return value - slack, value + slack
