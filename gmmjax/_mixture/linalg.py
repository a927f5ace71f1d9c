"""Linear algebra of scale factors: everything that depends on the shape of a scale lives here.

A scale is stored as small as its structure allows, and its rank tells which it is: `(K, D, D)`
lower Cholesky factors, `(K, D)` standard deviations, `(K,)` one standard deviation per component,
each with a leading axis 1 instead of K when all components share it. Points are kept as `(D, n)`,
so that the long axis is the contiguous one.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

HIGHEST = jax.lax.Precision.HIGHEST  # GPUs would otherwise round the factors of a product to TF32


@jax.custom_jvp
def tril_inverse(lower: jax.Array) -> jax.Array:
    """Inverse of lower-triangular matrices `(..., D, D)`; entries above the diagonal are not
    read.
    """
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
    product = jnp.matmul(jnp.tril(tangents[0]), inverse, precision=HIGHEST)
    return inverse, -jnp.matmul(inverse, product, precision=HIGHEST)


@jax.custom_jvp
def cholesky(matrix: jax.Array) -> jax.Array:
    """Lower Cholesky factors of matrices `(..., D, D)`, NaN where one is not positive definite; no
    LAPACK call.
    """
    # One column of all matrices at a time: the batch is the long axis here, not D.
    dim = matrix.shape[-1]

    def column(j, state):
        rest, lower = state
        pivot = jax.lax.dynamic_slice_in_dim(rest, j, 1, axis=-1)[..., 0]
        here = (jnp.arange(dim) == j).reshape((1,) * (matrix.ndim - 2) + (dim,))
        below = (jnp.arange(dim) >= j).reshape(here.shape)
        root = jnp.sqrt(jnp.sum(jnp.where(here, pivot, 0.0), axis=-1, keepdims=True))
        pivot = jnp.where(below, pivot, 0.0) / root
        return rest - pivot[..., :, None] * pivot[..., None, :], jnp.where(
            here[..., None, :], pivot[..., None], lower
        )

    return jax.lax.fori_loop(0, dim, column, (matrix, jnp.zeros_like(matrix)))[1]


@cholesky.defjvp
def _cholesky_jvp(primals, tangents):
    lower = cholesky(*primals)
    inverse = tril_inverse(lower)
    half = jnp.matmul(
        jnp.matmul(inverse, tangents[0] / 2, precision=HIGHEST), inverse.mT, precision=HIGHEST
    )
    return lower, _factor_tangent(lower, half)


@jax.custom_jvp
def lower_factor(rows: jax.Array) -> jax.Array:
    """The lower-triangular L with L Lᵀ = B Bᵀ and a positive diagonal, for B `(..., E, D)` of rank
    E ≤ D.
    """
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
    orthogonal = jnp.matmul(inverse, primals[0], precision=HIGHEST)
    half = jnp.matmul(
        jnp.matmul(inverse, tangents[0], precision=HIGHEST), orthogonal.mT, precision=HIGHEST
    )
    return lower, _factor_tangent(lower, half)


def _factor_tangent(lower, half):
    """The tangent of L where that of L Lᵀ is L (H + Hᵀ) Lᵀ."""
    inner = jnp.tril(half + half.mT)
    diagonal = np.eye(inner.shape[-1]).reshape((1,) * (inner.ndim - 2) + inner.shape[-2:])
    return jnp.matmul(lower, inner * (1 - 0.5 * diagonal).astype(inner.dtype), precision=HIGHEST)


def inverse_scale(scale: jax.Array, means: jax.Array) -> jax.Array:
    """The inverse of each factor, in the same structure."""
    return tril_inverse(scale) if scale.ndim > means.ndim else 1.0 / scale


def log_abs_det(scale: jax.Array, means: jax.Array) -> jax.Array:
    """log|det L_k| of each factor, `(K,)` or `(1,)`; the sign of the diagonal does not matter."""
    if scale.ndim == means.ndim - 1:
        return means.shape[-1] * jnp.log(jnp.abs(scale))
    return jnp.sum(jnp.log(jnp.abs(diagonal(scale) if scale.ndim > means.ndim else scale)), axis=-1)


def diagonal(matrices: jax.Array) -> jax.Array:
    """Diagonals `(…, D)` of matrices `(…, D, D)`."""
    # A slice: `jnp.diagonal` gathers, and its gradient scatters, which compiles and runs slowly.
    dim = matrices.shape[-1]
    return matrices.reshape(*matrices.shape[:-2], dim * dim)[..., :: dim + 1]


def whiten(inverse: jax.Array, means: jax.Array, x: jax.Array) -> jax.Array:
    """L_k⁻¹(x − μ_k) for points `(D, n)`, as `(K, D, n)`."""
    if inverse.ndim > means.ndim:
        return _whiten(inverse, means, x)
    return (x[None] - means[:, :, None]) * _rates(inverse)


def squared_distances(inverse: jax.Array, means: jax.Array, x: jax.Array) -> jax.Array:
    """‖L_k⁻¹(x − μ_k)‖² for points `(D, n)`, as `(K, n)`."""
    white = whiten(inverse, means, x)
    return jnp.sum(white * white, axis=1)


def cuts(dim: int) -> list[tuple[int, int]]:
    """Where to cut the coordinates of lower-triangular factors, whose upper right quarter is
    zero.
    """
    # Products take the time in many dimensions. XLA also turns a sum over more than 32 numbers into
    # two passes.
    return [(0, dim // 2), (dim // 2, dim)] if dim >= 16 else [(0, dim)]


def row_blocks(inverse: jax.Array, means: jax.Array) -> tuple[jax.Array, ...]:
    """What `squared_norms` needs of inverse factors: rows `(K, E, known)` without the zeros that
    all of them end in.
    """
    return (
        tuple(inverse[:, a:b, :b] for a, b in cuts(means.shape[1]))
        if inverse.ndim > means.ndim
        else (inverse,)
    )


def squared_norms(blocks: Sequence[jax.Array], shift: jax.Array, x: jax.Array) -> jax.Array:
    """‖L_k⁻¹x − s_k‖² for points `(D, n)`, as `(K, n)`: squared distances where s_k = L_k⁻¹μ_k."""
    # Flat products, several times faster on a CPU than one per component. They lose the digits by
    # which a component is narrower than x is far from 0, as rounding x does: for points made here,
    # about 0, nothing more.
    if blocks[0].ndim <= shift.ndim:
        return jnp.sum((_rates(blocks[0]) * x[None] - shift[:, :, None]) ** 2, axis=1)
    white = [
        _flat_product(m, x[:b]) - shift[:, a:b, None]
        for m, (a, b) in zip(blocks, cuts(len(x)), strict=True)
    ]
    return functools.reduce(jnp.add, [jnp.sum(part * part, axis=1) for part in white])


def apply(matrices: jax.Array, vectors: jax.Array) -> jax.Array:
    """A_k v_k for factors of any structure and `(K, D)` vectors."""
    if matrices.ndim > vectors.ndim:
        return _pointwise_product(matrices, vectors)
    return _rates(matrices)[:, :, 0] * vectors


def _rates(scale):
    """Diagonal factors as `(K or 1, D or 1, 1)`."""
    return scale.reshape(scale.shape[0], -1, 1)


@jax.custom_jvp
def _whiten(inverse, means, x):
    # Centred before the product: the expanded form loses all digits in float32 when data lie far
    # from 0.
    return jnp.matmul(inverse, x[None] - means[:, :, None], precision=HIGHEST)


@functools.partial(_whiten.defjvp, symbolic_zeros=True)
def _whiten_jvp(primals, tangents):
    # The derivative is arranged so that its transpose is one flat product per argument; that of the
    # batched product above is 3–5 times slower on a CPU. Terms of arguments that do not move are
    # left out.
    (inverse, means, x), (d_inverse, d_means, d_x) = primals, tangents
    white = _whiten(inverse, means, x)
    tangent = jnp.zeros_like(white)
    if not is_zero(d_inverse):
        centre = jnp.mean(means, axis=0)
        tangent += _flat_product(d_inverse, x - centre[:, None])
        tangent -= _pointwise_product(d_inverse, means - centre[None])[:, :, None]
    if not is_zero(d_x):
        tangent += _flat_product(inverse, d_x)
    if not is_zero(d_means):
        tangent -= _pointwise_product(inverse, d_means)[:, :, None]
    return white, tangent


def is_zero(tangent):
    """Whether a tangent of a custom rule is known to be zero."""
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero)


def _flat_product(matrices, x):
    """M_k x_i for `(K, E, D)` as `(K, E, n)` through one `(K·E, D) @ (D, n)` product."""
    product = jnp.matmul(matrices.reshape(-1, matrices.shape[2]), x, precision=HIGHEST)
    return product.reshape(*matrices.shape[:2], x.shape[1])


def _pointwise_product(matrices, vectors):
    """M_k v_k as `(K, D)`."""
    return jnp.matmul(matrices, vectors[:, :, None], precision=HIGHEST)[:, :, 0]


def least(table: jax.Array, axis: int) -> jax.Array:
    """The minimum along an axis, with the gradient of its first place: XLA may round what it
    compares differently.
    """
    return jnp.take_along_axis(
        table, jnp.argmin(table, axis=axis, keepdims=True), axis=axis
    ).squeeze(axis)


def dense_covariances(scale: jax.Array, means: jax.Array) -> jax.Array:
    """Covariance matrices `(K, D, D)` of any scale."""
    count, dim = means.shape
    if scale.ndim > means.ndim:
        dense = jnp.matmul(scale, scale.mT, precision=HIGHEST)
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
