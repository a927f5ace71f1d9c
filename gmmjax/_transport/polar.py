"""Orthogonal polar factors without LAPACK, and how they turn as matrices change."""

import jax
import jax.numpy as jnp

from gmmjax._matrices import linalg, triangular


def rotations(factor: jax.Array, factors: jax.Array, inverses: jax.Array) -> jax.Array:
    """U_b such that L z and L_b U_bᵀ z are optimally coupled, for L `(D, D)` and each of n.

    The polar factors of Lᵀ L_b; the inverses of L_b are given. The map from one Gaussian to the
    other is then L_b U_bᵀ L⁻¹.
    """
    inverse = triangular.tril_inverse(factor)
    products = linalg.matmul(factor.mT[None], factors)
    return polar(products, linalg.matmul(inverses, inverse.mT[None]))


@jax.custom_jvp
def polar(matrix: jax.Array, inverse: jax.Array) -> jax.Array:
    """Orthogonal polar factors of matrices `(n, D, D)`, whose inverses are given.

    Those of singular matrices are 0 on what the matrices make 0.
    """
    norm = frobenius_norm(matrix)
    low = 1 / (norm * frobenius_norm(inverse))
    low = jnp.where(jnp.isfinite(low), low, 0.0)
    norm = jnp.where(norm > 0, norm, 1.0)

    def sharpen(rho, x):
        gram = linalg.matmul(x.mT, x)
        return rho * (1.5 * x - 0.5 * rho * rho * linalg.matmul(x, gram))

    return _iterate(sharpen, matrix / norm[:, None, None], low)


@polar.defjvp
def _polar_jvp(primals, tangents):
    # X = U P with P symmetric: dU = U Ω, Ω skew and Ω P + P Ω = Uᵀ dX − dXᵀ U.
    matrix, inverse = primals
    rotation = polar(matrix, inverse)
    stretch = linalg.matmul(rotation.mT, matrix)
    stretch = 0.5 * (stretch + stretch.mT)
    turned = linalg.matmul(rotation.mT, tangents[0])
    low = 1 / (frobenius_norm(matrix) * frobenius_norm(inverse))
    turn = _solve_sylvester(stretch, turned - turned.mT, low)
    return rotation, linalg.matmul(rotation, turn)


def _solve_sylvester(stretch, right, low):
    """Ω with P Ω + Ω P = K for symmetric, positive definite P."""

    def apply(turn):
        return linalg.matmul(stretch, turn) + linalg.matmul(turn, stretch)

    def solve(_, right):
        # The sign of [[P, K], [0, −P]] is [[1, 2 Ω], [0, −1]] (Roberts 1980).
        norm = frobenius_norm(stretch)[:, None, None]

        def sharpen(rho, blocks):
            p, k = blocks
            square, inner = linalg.matmul(p, p), linalg.matmul(p, k)
            cubed = linalg.matmul(p, square)
            mixed = linalg.matmul(p, inner - linalg.matmul(k, p)) + linalg.matmul(k, square)
            half = 0.5 * rho * rho
            return rho * (1.5 * p - half * cubed), rho * (1.5 * k - half * mixed)

        return 0.5 * _iterate(sharpen, (stretch / norm, right / norm), low)[1]

    return jax.lax.custom_linear_solve(apply, right, solve, symmetric=True)


def _iterate(sharpen, start, low):
    """Newton–Schulz, X ← ρX(3 − ρ²XᵀX)/2, with products only."""
    # `low` is a lower bound of the singular values, 1 an upper one, and ρ the scale that lifts the
    # lower bound most (Chen and Chow 2014). Beyond 3/2 it would push the large ones down into the
    # rounding errors of the small ones.
    eps = jnp.finfo(low.dtype).eps

    def unfinished(state):
        _, low = state
        return jnp.any(low < 1 - 4 * eps)

    def step(state):
        x, low = state
        rho = jnp.minimum(1.5, jnp.sqrt(3 / (1 + low + low**2)))
        return sharpen(rho[:, None, None], x), 0.5 * rho * low * (3 - (rho * low) ** 2)

    return jax.lax.while_loop(unfinished, step, (start, jnp.maximum(low, eps**2)))[0]


def frobenius_norm(matrices: jax.Array) -> jax.Array:
    """Roots of the sums of squares of matrices."""
    return jnp.sqrt(jnp.sum(matrices * matrices, axis=(-2, -1)))
