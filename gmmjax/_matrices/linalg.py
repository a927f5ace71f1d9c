"""Products of many small matrices at full precision, and roots and quotients safe at 0."""

import jax
import jax.numpy as jnp

HIGHEST = jax.lax.Precision.HIGHEST


def matmul(a: jax.typing.ArrayLike, b: jax.typing.ArrayLike) -> jax.Array:
    """A product of matrices; GPUs would otherwise round its factors to TF32."""
    return jnp.matmul(a, b, precision=HIGHEST)


def flat_product(matrices, x):
    """M_k x_i for `(K, E, D)` as `(K, E, n)` through one `(K·E, D) @ (D, n)` product."""
    product = matmul(matrices.reshape(-1, matrices.shape[2]), x)
    return product.reshape(*matrices.shape[:2], x.shape[1])


def matvec(matrices: jax.Array, vectors: jax.Array) -> jax.Array:
    """Products of matrices `(…, E, D)` with vectors `(…, D)`, one by one."""
    return matmul(matrices, vectors[..., None])[..., 0]


def diagonal(matrices: jax.Array) -> jax.Array:
    """Diagonals `(…, D)` of matrices `(…, D, D)`."""
    # A slice: `jnp.diagonal` gathers, and its gradient scatters, which compiles and runs slowly.
    dim = matrices.shape[-1]
    return matrices.reshape(*matrices.shape[:-2], dim * dim)[..., :: dim + 1]


def diagonal_matrices(diagonals: jax.Array) -> jax.Array:
    """Matrices `(…, D, D)` with these diagonals `(…, D)`, and zeros elsewhere."""
    dim = diagonals.shape[-1]
    unit = jnp.eye(dim, dtype=diagonals.dtype).reshape(*[1] * (diagonals.ndim - 1), dim, dim)
    return diagonals[..., None] * unit


def safe_divide(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """The quotient, and 0 where the denominator is 0; no gradient passes there."""
    divisible = denominator != 0
    return jnp.where(divisible, numerator / jnp.where(divisible, denominator, 1), 0)


def safe_sqrt(x: jax.Array) -> jax.Array:
    """The square root of what is at least 0; no gradient passes at 0."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)


def least(table: jax.Array, axis: int) -> jax.Array:
    """The minimum along an axis, with the gradient of its first place.

    XLA may round what it compares differently, and a gradient would be shared or lost.
    """
    return jnp.take_along_axis(
        table, jnp.argmin(table, axis=axis, keepdims=True), axis=axis
    ).squeeze(axis)
