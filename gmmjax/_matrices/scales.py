"""Scale factors: everything that depends on the shape of a scale lives here.

A scale is stored as small as its structure allows, and its rank tells which it is: `(K, D, D)`
lower Cholesky factors, `(K, D)` standard deviations, `(K,)` one standard deviation per component,
each with a leading axis 1 instead of K when all components share it.
"""

import jax
import jax.numpy as jnp

from gmmjax._matrices import linalg, triangular


def inverse(scale: jax.Array, means: jax.Array) -> jax.Array:
    """The inverse of each factor, in the same structure."""
    return triangular.tril_inverse(scale) if scale.ndim > means.ndim else 1.0 / scale


def log_abs_det(scale: jax.Array, means: jax.Array) -> jax.Array:
    """log|det L_k| of each factor, `(K,)` or `(1,)`; the sign of the diagonal does not matter."""
    if scale.ndim < means.ndim:
        return means.shape[-1] * jnp.log(jnp.abs(scale))
    return jnp.sum(jnp.log(jnp.abs(pivots(scale, means))), axis=-1)


def pivots(scale: jax.Array, means: jax.Array) -> jax.Array:
    """The diagonals of factors, or deviations as they are."""
    return linalg.diagonal(scale) if scale.ndim > means.ndim else scale


def apply(matrices: jax.Array, vectors: jax.Array) -> jax.Array:
    """A_k v_k for factors of any structure and `(K, D)` vectors."""
    if matrices.ndim > vectors.ndim:
        return linalg.matvec(matrices, vectors)
    return rates(matrices)[:, :, 0] * vectors


def rates(scale: jax.Array) -> jax.Array:
    """Diagonal factors as `(K or 1, D or 1, 1)`."""
    return scale.reshape(scale.shape[0], -1, 1)


def dense_covariances(scale: jax.Array, means: jax.Array) -> jax.Array:
    """Covariance matrices `(K, D, D)` of any scale."""
    count, dim = means.shape
    if scale.ndim > means.ndim:
        dense = linalg.matmul(scale, scale.mT)
    else:
        variances = jnp.broadcast_to(
            (scale * scale).reshape(scale.shape[0], -1), (scale.shape[0], dim)
        )
        dense = variances[:, :, None] * jnp.eye(dim, dtype=scale.dtype)[None]
    return jnp.broadcast_to(dense, (count, dim, dim))


def dense_factors(scale: jax.Array, means: jax.Array) -> jax.Array:
    """Lower factors `(K or 1, D, D)` of any scale."""
    if scale.ndim > means.ndim:
        return scale
    return scale.reshape(scale.shape[0], -1, 1) * jnp.eye(means.shape[-1], dtype=scale.dtype)[None]
