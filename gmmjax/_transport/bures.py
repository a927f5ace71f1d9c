"""Barycentres of covariances: the fixed point of means of factors that are turned towards it."""

import functools

import jax
import jax.numpy as jnp

from gmmjax._matrices import linalg, triangular
from gmmjax._transport.polar import rotations


def bures_step(shares: jax.Array, scales: jax.Array, here: jax.Array) -> jax.Array:
    """One step of n scales towards the barycentres of m others, with `(n, m)` shares.

    L becomes the lower factor of Σ_b share_b L_b U_bᵀ, the mean of all maps from L applied to it
    (Álvarez-Esteban et al. 2016). Deviations are done in one step.
    """
    if here.ndim < 3:
        flat = jnp.abs(scales).reshape(len(scales), -1)
        return linalg.matmul(shares, flat).reshape(len(shares), *here.shape[1:])
    inverses = triangular.tril_inverse(scales)

    def row(factor, part):
        turned = linalg.matmul(scales, rotations(factor, scales, inverses).mT)
        return triangular.lower_factor(jnp.sum(part[:, None, None] * turned, axis=0))

    return jax.lax.map(lambda pair: row(*pair), (here, shares))


def bures_mean(shares: jax.Array, scales: jax.Array, found: jax.Array) -> jax.Array:
    """Barycentres that are found already, with the gradient of the implicit function."""
    if found.ndim < 3:
        return bures_step(shares, scales, found)
    step = functools.partial(bures_step, shares, scales)
    found = jax.lax.stop_gradient(found)
    return jax.lax.custom_root(
        lambda here: here - step(here), found, lambda _, here: here, _solve_linear
    )


def _solve_linear(function, right):
    """X with f(X) = right for a linear f = 1 − A, where A shrinks: steps to a barycentre do."""
    return jax.lax.custom_linear_solve(
        function, right, _solve_by_iterating, transpose_solve=_solve_by_iterating
    )


def _solve_by_iterating(function, right):
    """The same, by adding up Aⁿ right."""
    tolerance = 4 * jnp.finfo(right.dtype).eps

    def unfinished(state):
        x, rest, count = state
        return (jnp.max(jnp.abs(rest)) > tolerance * jnp.max(jnp.abs(x))) & (count < 200)

    def iterate(state):
        x, rest, count = state
        x = x + rest
        return x, right - function(x), count + 1

    start = (jnp.zeros_like(right), right, jnp.zeros((), jnp.int32))
    return jax.lax.while_loop(unfinished, iterate, start)[0]
