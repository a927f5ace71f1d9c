"""One Gaussian against one Gaussian, for every pair of components of two mixtures at once."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._mixture import density, linalg, triangular
from gmmjax._mixture.density import Prepared
from gmmjax._mixture.gmm import GMM


class Relation(NamedTuple):
    """Where components p_a lie in the coordinates in which components q_b are standard normal."""

    shift: jax.Array  # (K_p, K_q, D) L_b⁻¹(μ_a − μ_b)
    variances: jax.Array  # (K_p or 1, K_q or 1, D or 1), the diagonals of L_b⁻¹Σ_a L_b⁻ᵀ

    @property
    def expected_distances(self) -> jax.Array:
        """E[‖L_b⁻¹(x − μ_b)‖²] under each component p_a, `(K_p, K_q)`."""
        spread = sum_coordinates(self.variances, self.shift.shape[-1])
        return spread + jnp.sum(self.shift**2, axis=-1)


def relate(p: GMM, q: Prepared) -> Relation:
    """Every component of p to every one of q."""
    shift = jnp.moveaxis(linalg.whiten(q.inverse, q.mixture.means, p.means.T), -1, 0)
    full_p, full_q = p.scale.ndim > p.means.ndim, q.inverse.ndim > q.mixture.means.ndim
    if not full_q:
        squares = jnp.sum(p.scale**2, axis=-1) if full_p else p.scale**2
        squares = squares.reshape(len(squares), 1, -1)
        return Relation(shift, squares * (q.inverse**2).reshape(1, len(q.inverse), -1))
    # Flat products: one for every pair would be several times slower on a CPU.
    if not full_p:
        squares = (p.scale**2).reshape(len(p.scale), -1)
        squares = jnp.broadcast_to(squares, (len(squares), p.dim))
        columns = jnp.moveaxis(q.inverse**2, 2, 0).reshape(p.dim, -1)
        variances = linalg.matmul(squares, columns)
        return Relation(shift, variances.reshape(len(squares), len(q.inverse), p.dim))
    return Relation(shift, _full_variances(p.scale, q.inverse))


def _full_variances(scale, inverse):
    """The diagonals of L_b⁻¹ L_a L_aᵀ L_b⁻ᵀ for full factors, `(K_a, K_b, D)`."""
    # Squares of a product and not a product of squares: precisions and covariances square the
    # condition number.
    dim = scale.shape[-1]
    parts = []
    for a, b in linalg.cuts(dim):
        rows = scale[:, a:, a:b].mT.reshape(-1, dim - a)
        columns = jnp.moveaxis(inverse[:, a:, a:], 2, 0).reshape(dim - a, -1)
        product = linalg.matmul(rows, columns).reshape(-1, b - a, len(inverse), dim - a)
        squares = jnp.sum(product**2, axis=1)
        parts.append(jnp.pad(squares, ((0, 0), (0, 0), (a, 0))) if a else squares)
    return functools.reduce(jnp.add, parts)


def entropies(p: GMM) -> jax.Array:
    """Differential entropy of each component, `(K,)`."""
    constant = 0.5 * p.dim * jnp.log(2 * jnp.pi * jnp.e).astype(p.means.dtype)
    return jnp.broadcast_to(constant + linalg.log_abs_det(p.scale, p.means), p.logits.shape)


def pairwise_kl(p: GMM, q: GMM) -> jax.Array:
    """KL(p_a ‖ q_b) of the components of two checked mixtures, `(K_p, K_q)`; weights play no
    part.
    """
    log_dets = (
        linalg.log_abs_det(q.scale, q.means)[None] - linalg.log_abs_det(p.scale, p.means)[:, None]
    )
    return log_dets + 0.5 * (relate(p, density.prepare(q)).expected_distances - p.dim)


def pairwise_log_integral(
    p: GMM, q: GMM, alpha: jax.Array | float = 1.0, beta: jax.Array | float = 1.0
) -> jax.Array:
    """Log ∫ p_a^α q_b^β, less ½ D (1 − α − β) log 2π, `(K_p, K_q)`; NaN where it is infinite, which
    needs α or β < 0.

    With α = β = 1 these are the products, ∫ N(a, A) N(b, B) = N(a; b, A + B), and with α + β = 1
    minus the Chernoff distances.
    """
    # S = β Σ_a + α Σ_b = L_b (β R Rᵀ + α I) L_bᵀ with R = L_b⁻¹ L_a: forming it would square the
    # condition numbers.
    inverse = linalg.inverse_scale(q.scale, q.means)
    shift = jnp.moveaxis(linalg.whiten(inverse, q.means, p.means.T), -1, 0)
    ratio = relative_scale(p.scale, p.means, inverse, q.means)
    if ratio.ndim == 3:
        core = beta * ratio * ratio + alpha
        half_log_det, distances = (
            0.5 * sum_coordinates(jnp.log(core), p.dim),
            jnp.sum(shift * shift / core, axis=-1),
        )
    else:
        lower = triangular.cholesky(beta * linalg.matmul(ratio, ratio.mT) + alpha * _identity(p))
        white = _multiply(triangular.tril_inverse(lower), shift)
        half_log_det, distances = _log_diagonal(lower), jnp.sum(white * white, axis=-1)
    of_p, of_q = (
        linalg.log_abs_det(p.scale, p.means)[:, None],
        linalg.log_abs_det(q.scale, q.means)[None],
    )
    return (1 - alpha) * of_p - beta * of_q - half_log_det - 0.5 * alpha * beta * distances


def pairwise_tilted(p: GMM, q: GMM, nearest: jax.Array, gamma: jax.Array) -> jax.Array:
    """Log ∫ p_a q_b q_c^(−γ), plus ½ D (1 − γ) log 2π, for a component c of q for each of p,
    `nearest`.

    `(K_p, K_q)`, +inf where it is infinite.
    """
    inverse = linalg.inverse_scale(q.scale, q.means)
    shift = jnp.moveaxis(linalg.whiten(inverse, q.means, p.means.T), -1, 0)
    shape = (p.num_components, q.num_components)
    log_dets = jnp.broadcast_to(linalg.log_abs_det(q.scale, q.means), shape[1:])
    ratio = relative_scale(p.scale, p.means, inverse, q.means)
    ratio = jnp.broadcast_to(ratio, shape + ratio.shape[2:])
    chosen = nearest[:, None] == np.arange(q.num_components)[None]
    chosen = [chosen.reshape(shape + (1,) * rank) for rank in range(3)]
    pick = lambda table: jnp.sum(table, axis=1, keepdims=True, where=chosen[table.ndim - 2])
    apply = (lambda m, v: m * v) if ratio.ndim == 3 else _multiply
    transposed = ratio if ratio.ndim == 3 else ratio.mT
    # In the coordinates where p_a is standard normal the exponent is −½‖y‖² − ½‖R_b y + r_b‖² +
    # ½γ‖R_c y + r_c‖².
    slope = gamma * apply(pick(transposed), pick(shift)) - apply(transposed, shift)
    if ratio.ndim == 3:
        curvature: jax.Array = 1 + ratio * ratio - gamma * pick(ratio * ratio)
        finite = jnp.all(~(curvature <= 0), axis=-1)  # NaN is not infinite
        curvature = jnp.where(finite[..., None], curvature, jnp.ones_like(curvature))
        half_log_det = 0.5 * sum_coordinates(jnp.log(curvature), p.dim)
        peak = slope / curvature
    else:
        gram = linalg.matmul(ratio.mT, ratio)
        curvature = _identity(p) + gram - gamma * pick(gram)
        finite = ~is_indefinite(curvature)
        curvature = jnp.where(finite[..., None, None], curvature, _identity(p))
        lower = triangular.cholesky(curvature)
        half_log_det = _log_diagonal(lower)
        inner = triangular.tril_inverse(lower)
        peak = _multiply(inner.mT, _multiply(inner, slope))
    # The exponent is evaluated at its peak: completed squares would cancel for components far away.
    square = lambda v: 0.5 * jnp.sum(v * v, axis=-1)
    above, below = (
        square(apply(pick(ratio), peak) + pick(shift)),
        square(apply(ratio, peak) + shift),
    )
    gap = gamma * pick(log_dets[None] + jnp.zeros(shape, log_dets.dtype)) - log_dets[None]
    return jnp.where(finite, gamma * above - below - square(peak) - half_log_det + gap, jnp.inf)


def relative_scale(scale, means, inverse, other_means):
    """M_b L_a of factors L_a and inverse factors M_b: `(K_a|1, K_b|1, D, D)`, or `(…, D|1)` where
    both are diagonal.
    """
    if scale.ndim > means.ndim and inverse.ndim > other_means.ndim:
        return linalg.matmul(inverse[None], scale[:, None])
    deviations = scale.reshape(scale.shape[0], 1, -1)
    rates = inverse.reshape(1, inverse.shape[0], -1)
    if scale.ndim > means.ndim:
        return rates[..., None] * scale[:, None]
    if inverse.ndim > other_means.ndim:
        return inverse[None] * deviations[:, :, None]
    return rates * deviations


def is_indefinite(matrix: jax.Array) -> jax.Array:
    """Whether finite symmetric matrices `(…, D, D)` are not positive definite."""
    return jnp.isnan(_log_diagonal(triangular.cholesky(matrix))) & jnp.all(
        jnp.isfinite(matrix), axis=(-2, -1)
    )


def sum_coordinates(values, dim):
    """Sum over the last axis, where an axis of 1 stands for `dim` equal coordinates."""
    return jnp.sum(values, axis=-1) * (dim // values.shape[-1])


def _log_diagonal(lower):
    return jnp.sum(jnp.log(linalg.diagonal(lower)), axis=-1)


def _multiply(matrices, vectors):
    return linalg.matmul(matrices, vectors[..., None])[..., 0]


def _identity(g):
    return jnp.eye(g.dim, dtype=g.means.dtype)[None, None]
