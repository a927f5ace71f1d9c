"""The natural gradient of each component: a quadratic fitted to f = log p − log q at its points."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gmmjax._matrices import linalg, triangular
from gmmjax._variational.own_points import estimate, pairs

_RIDGE = 0.02  # measured, where points are hardly more than numbers; it moves no fixed point
_ITERATIONS = 40


class Quadratic(NamedTuple):
    """E_k[f], and the fit of f by a constant and mᵀz + ½ zᵀAz, in whitened coordinates."""

    level: jax.Array  # (K,)
    stderr: jax.Array  # (K,) of the level
    slope: jax.Array  # (K, D)
    curvature: jax.Array  # (K, D, D) full, (K, D) diagonal, (K, 1) spherical


def from_gradients(z, values, gradients, rank: int) -> Quadratic:
    """The fit to gradients `(K, D, S)` at pairs of points; `rank` is that of the scale."""
    # Least squares are exact where f is quadratic; Stein's E[z ∇fᵀ] has the noise of ∇f itself.
    # The mean over pairs has no part of A, and the difference none of m.
    slope = jnp.mean(gradients, axis=2)
    if rank == 3:
        squares = linalg.matmul(z, z.mT) / z.shape[2]
        products = linalg.matmul(z, gradients.mT) / z.shape[2]
        return _with_level(z, values, slope, _regress(squares, products))
    squares, products = jnp.sum(z * z, axis=2), jnp.sum(z * gradients, axis=2)
    if rank == 1:
        squares, products = (jnp.sum(t, axis=1, keepdims=True) for t in (squares, products))
    return _with_level(z, values, slope, products / squares)


def from_values(z, values, rank: int) -> Quadratic:
    """The fit to values `(K, S)` at pairs of points."""
    even, odd = pairs(values)
    half = z[:, :, : z.shape[2] // 2]
    even = even - jnp.mean(even, axis=1, keepdims=True)

    def line(slope):
        return jnp.sum(slope[:, :, None] * half, axis=1)

    def square(curvature):
        found = _square(curvature, half)
        return found - jnp.mean(found, axis=1, keepdims=True)

    dim = z.shape[1]
    start = jnp.zeros((len(z), *[(1,), (dim,), (dim, dim)][rank - 1]), z.dtype)
    slope = _least_squares(line, odd, jnp.zeros(z.shape[:2], z.dtype))
    return _with_level(z, values, slope, _least_squares(square, even, start))


def _regress(squares, products):
    """The symmetric part of C⁻¹P, drawn to P where C is nearly singular."""
    identity = jnp.eye(squares.shape[-1], dtype=squares.dtype)[None]
    inverse = triangular.tril_inverse(triangular.cholesky(squares + _RIDGE * identity))
    found = linalg.matmul(inverse.mT, linalg.matmul(inverse, (1 + _RIDGE) * products))
    return 0.5 * (found + found.mT)


def _least_squares(linear, values, start):
    """Conjugate gradients on ‖T x − v‖² for each component; `start` is zero."""
    # The normal equations of a quadratic have D²/2 unknowns, and are close to the identity.
    transpose = jax.linear_transpose(linear, start)

    def dot(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.sum((a * b).reshape(len(a), -1), axis=1)

    def scaled(weights, x):
        return weights.reshape(-1, *[1] * (x.ndim - 1)) * x

    def iterate(_, state):
        x, rest, direction, square = state
        image = linear(direction)
        # What is left at the end is rounding, of which another direction would make something.
        square: jax.Array = jnp.where(square > least, square, 0.0)
        length = linalg.safe_divide(square, dot(image, image))
        rest = rest - scaled(length, image)
        (residual,) = transpose(rest)
        new = dot(residual, residual)
        turned = residual + scaled(linalg.safe_divide(new, square), direction)
        return x + scaled(length, direction), rest, turned, new

    (direction,) = transpose(values)
    first = dot(direction, direction)
    least = (1e3 * jnp.finfo(first.dtype).eps) ** 2 * first
    state = start, values, direction, first
    return jax.lax.fori_loop(0, _ITERATIONS, iterate, state)[0]


def _with_level(z, values, slope, curvature):
    """The mean of f, with the fit, whose mean is known, as its control."""
    trace = jnp.sum(_diagonal(curvature), axis=1) * (z.shape[1] // curvature.shape[1])
    fitted = jnp.sum(slope[:, :, None] * z, axis=1) + _square(curvature, z) - 0.5 * trace[:, None]
    # Where f is nothing like a quadratic the fit extrapolates, and its control is worse than none.
    plain, controlled = estimate(pairs(values)[0]), estimate(pairs(values - fitted)[0])
    helps = controlled.stderr < plain.stderr
    level, stderr = (jnp.where(helps, c, p) for c, p in zip(controlled, plain, strict=True))
    return Quadratic(level, stderr, slope, curvature)


def _square(curvature, z):
    """½ zᵀAz, `(K, S)`."""
    turned = linalg.matmul(curvature, z) if curvature.ndim == 3 else curvature[:, :, None] * z
    return 0.5 * jnp.sum(z * turned, axis=1)


def _diagonal(curvature):
    return linalg.diagonal(curvature) if curvature.ndim == 3 else curvature


def mean_curvature(found: Quadratic) -> jax.Array:
    """The mean of the diagonal, `(K,)`: whether a component should grow or shrink."""
    return jnp.mean(_diagonal(found.curvature), axis=1)


def stretched(found: Quadratic, reach: jax.Array) -> Quadratic:
    """The same with the mean curvature, which changes the size of a component, `reach` times as
    large.
    """
    curvature = found.curvature
    more = (reach - 1) * mean_curvature(found)
    if curvature.ndim == 3:
        identity = jnp.eye(curvature.shape[1], dtype=curvature.dtype)
        return found._replace(curvature=curvature + more[:, None, None] * identity[None])
    return found._replace(curvature=curvature + more[:, None])
