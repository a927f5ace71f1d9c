"""The Gauss–Legendre rule on panels, and how far what it finds can be trusted."""

import jax
import jax.numpy as jnp
import numpy as np
from numpy.polynomial import legendre

from gmmjax._matrices import linalg

ORDER = 10
POINTS, WEIGHTS = legendre.leggauss(ORDER)
# From the terms of the rule to the coefficients of the Legendre series, times the panel's width.
NORMS = 2 * np.arange(ORDER) + 1
PROJECTION = NORMS[:, None] * legendre.legvander(POINTS, ORDER - 1).T


def nodes(low: jax.Array, high: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Points and weights of panels, along a new last axis."""
    half_width = ((high - low) / 2)[..., None]
    shape = (1,) * low.ndim + (ORDER,)
    points = POINTS.reshape(shape).astype(low.dtype)
    weights = WEIGHTS.reshape(shape).astype(low.dtype)
    return low[..., None] + half_width * (1 + points), half_width * weights


def integral_and_error(terms: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The integral over a panel, and its error, from what each point adds."""
    series = jnp.abs(linalg.matmul(PROJECTION.astype(terms.dtype), terms))
    largest = jnp.max(series)
    tail = jnp.max(series[-2:])
    # Gauss's rule is exact to twice the degree: its error lies between the last coefficient and
    # its square.
    relative = tail / jnp.where(largest > 0, largest, 1)
    error = tail * jnp.sqrt(relative)
    return jnp.sum(terms), error
