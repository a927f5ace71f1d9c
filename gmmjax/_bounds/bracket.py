"""Bounds of what numerical integration knows: the number itself, and what it may be off by."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gmmjax._jax import is_traced
from gmmjax._matrices import linalg, scales
from gmmjax._mixture.gmm import GMM
from gmmjax._mixture.moments import recentred

# Of all mixtures together, by dimension: integrals of more of them take longer than half a second.
MOST_COMPONENTS = {1: 1024, 2: 32}

# Far above what panels and strips leave, 1e-12 and ten units in the last place.
RELATIVE_ERROR = {"float64": 1e-9, "float32": 1e-5}
ROUNDING = 64  # units in the last place of 1


# Of deviations: where rounding moves points by more than that, panels and strips miss their places.
COARSE = 0.1


def is_quick(*mixtures: GMM) -> bool:
    """Whether numerical integration takes milliseconds."""
    count = sum(g.num_components for g in mixtures)
    return count <= MOST_COMPONENTS.get(mixtures[0].dim, 0)


def where_quick(integrated: Callable, by_components: Callable, *mixtures: GMM):
    """Bounds by numerical integration where it is quick and sees all, otherwise by components.

    Under `jit` integration is chosen by shapes alone: what it does not see is then not bounded.
    """
    if is_quick(*mixtures):
        lower, upper, sees_all = integrated(*mixtures)
        if is_traced(sees_all) or sees_all:
            return lower, upper
    return by_components(*mixtures)


def bracket(value: jax.Array, *mixtures: GMM, at_most: float = jnp.inf):
    """A lower and an upper bound around an integral of terms that are at least 0."""
    lower, upper, sees_all = widened(value, *mixtures)
    most = jnp.asarray(at_most, value.dtype)
    return jnp.maximum(lower, 0.0), jnp.minimum(upper, most), sees_all


def widened(value: jax.Array, *mixtures: GMM):
    """Either side of an integral by what it may be off, and whether that is known."""
    eps = jnp.finfo(value.dtype).eps
    moved = eps * _most_distant(mixtures)
    slack = RELATIVE_ERROR[value.dtype.name] * jnp.abs(value) + ROUNDING * eps
    # A fifth of it is the most that was seen, of single precision against double.
    slack = jnp.maximum(slack, 0.5 * moved * (1 + jnp.abs(value)))
    sees_all = moved < COARSE
    slack = jax.lax.stop_gradient(jnp.where(sees_all, slack, jnp.inf))
    return value - slack, value + slack, sees_all


def _most_distant(mixtures):
    """How far from the origin points of any component are, in its deviations along a coordinate."""
    centred = recentred(*mixtures)
    return jnp.max(jnp.stack([jnp.max(_distances(g)) for g in centred]))


def _distances(g):
    factors = scales.dense_factors(g.scale, g.means)
    extents = 6 * jnp.sqrt(jnp.sum(factors * factors, axis=2))
    return (jnp.abs(g.means) + extents) / jnp.abs(linalg.diagonal(factors))
