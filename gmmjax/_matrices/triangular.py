"""Triangular factors without LAPACK: inverses, Cholesky and Gram-Schmidt factors of many matrices.

Two batched LAPACK calls in one program can deadlock on two cores, and a loop over the rows of all
matrices at once compiles quickly: the batch is the long axis here, not D.
"""

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._matrices import linalg


@jax.custom_jvp
def tril_inverse(lower: jax.Array) -> jax.Array:
    """Inverse of lower-triangular `(..., D, D)`; entries above the diagonal are not read."""
    # Forward substitution, one row of all matrices at a time: no LAPACK call (two of which can
    # deadlock on two cores), and a loop compiles in a quarter of the time of recursive halving.
    dim = lower.shape[-1]
    places = np.arange(dim).reshape((1,) * (lower.ndim - 2) + (dim,))

    def row(j, inverse):
        given = jax.lax.dynamic_slice_in_dim(lower, j, 1, axis=-2)[..., 0, :]
        known = jnp.sum(jnp.where(places < j, given, 0.0)[..., None] * inverse, axis=-2)
        pivot = jnp.sum(jnp.where(places == j, given, 0.0), axis=-1, keepdims=True)
        solved = ((places == j).astype(lower.dtype) - known) / pivot
        return jax.lax.dynamic_update_slice_in_dim(inverse, solved[..., None, :], j, axis=-2)

    return jax.lax.fori_loop(0, dim, row, jnp.zeros_like(lower))


@tril_inverse.defjvp
def _tril_inverse_jvp(primals, tangents):
    inverse = tril_inverse(*primals)
    product = linalg.matmul(jnp.tril(tangents[0]), inverse)
    return inverse, -linalg.matmul(inverse, product)


@jax.custom_jvp
def cholesky(matrix: jax.Array) -> jax.Array:
    """Lower Cholesky factors of `(..., D, D)`, NaN where a matrix is not positive definite."""
    return _cholesky(matrix, None)


def floored_cholesky(matrix: jax.Array, least: jax.Array) -> jax.Array:
    """The same with no squared pivot below `least`, `(D,)`: variances given the coordinates before.

    Without a rule for derivatives.
    """
    return _cholesky(matrix, least)


def _cholesky(matrix: jax.Array, least: jax.Array | None) -> jax.Array:
    # One column of all matrices at a time: the batch is the long axis here, not D.
    dim = matrix.shape[-1]

    def column(j, state):
        rest, lower = state
        pivot = jax.lax.dynamic_slice_in_dim(rest, j, 1, axis=-1)[..., 0]
        here = (jnp.arange(dim) == j).reshape((1,) * (matrix.ndim - 2) + (dim,))
        below = (jnp.arange(dim) > j).reshape(here.shape)
        square = jnp.sum(jnp.where(here, pivot, 0.0), axis=-1, keepdims=True)
        if least is not None:
            floor = jnp.sum(jnp.where(here, least.reshape(here.shape), 0.0), axis=-1, keepdims=True)
            square = jnp.maximum(square, floor)
        root = jnp.sqrt(square)
        pivot = jnp.where(here, root, jnp.where(below, pivot, 0.0) / root)
        return rest - pivot[..., :, None] * pivot[..., None, :], jnp.where(
            here[..., None, :], pivot[..., None], lower
        )

    return jax.lax.fori_loop(0, dim, column, (matrix, jnp.zeros_like(matrix)))[1]


@cholesky.defjvp
def _cholesky_jvp(primals, tangents):
    lower = cholesky(*primals)
    inverse = tril_inverse(lower)
    half = linalg.matmul(linalg.matmul(inverse, tangents[0] / 2), inverse.mT)
    return lower, _factor_tangent(lower, half)


@jax.custom_jvp
def lower_factor(rows: jax.Array) -> jax.Array:
    """The lower L with L Lᵀ = B Bᵀ and a positive diagonal, for B `(..., E, D)` of rank E ≤ D."""
    # Modified Gram–Schmidt on the rows. Its triangular factor is as accurate as Householder's
    # (Björck 1967), and forming B Bᵀ would square the condition number.
    count = rows.shape[-2]

    def column(j, state):
        rest, lower = state
        here = (jnp.arange(count) == j).reshape((1,) * (rows.ndim - 2) + (count,))
        below = (jnp.arange(count) >= j).reshape(here.shape)
        row = jax.lax.dynamic_slice_in_dim(rest, j, 1, axis=-2)
        unit = row / jnp.sqrt(jnp.sum(row * row, axis=-1, keepdims=True))
        along = jnp.where(below, jnp.sum(rest * unit, axis=-1), 0.0)
        return rest - along[..., None] * unit, jnp.where(
            here[..., None, :], along[..., None], lower
        )

    square = jnp.zeros((*rows.shape[:-1], count), rows.dtype)
    return jax.lax.fori_loop(0, count, column, (rows, square))[1]


@lower_factor.defjvp
def _lower_factor_jvp(primals, tangents):
    lower = lower_factor(*primals)
    inverse = tril_inverse(lower)
    orthogonal = linalg.matmul(inverse, primals[0])
    half = linalg.matmul(linalg.matmul(inverse, tangents[0]), orthogonal.mT)
    return lower, _factor_tangent(lower, half)


def _factor_tangent(lower, half):
    """The tangent of L where that of L Lᵀ is L (H + Hᵀ) Lᵀ."""
    inner = jnp.tril(half + half.mT)
    diagonal = np.eye(inner.shape[-1]).reshape((1,) * (inner.ndim - 2) + inner.shape[-2:])
    return linalg.matmul(lower, inner * (1 - 0.5 * diagonal).astype(inner.dtype))
