"""Tables of integrals of one component against another, from the ratios of their factors."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._matrices import linalg, scales, triangular
from gmmjax._mixture.gmm import GMM
from gmmjax._pairs.components import relative_scale, shifts, sum_coordinates


class Ratios(NamedTuple):
    """Components p_a in the coordinates in which components q_b are standard normal, in full.

    There p_a is N(shift, ratio ratioᵀ).
    """

    shift: jax.Array  # (K_p, K_q, D) L_b⁻¹(μ_a − μ_b)
    ratio: jax.Array  # L_b⁻¹L_a, as `relative_scale` gives it
    log_det_p: jax.Array  # (K_p|1, 1) log|L_a|
    log_det_q: jax.Array  # (1, K_q|1) log|L_b|

    @property
    def dim(self) -> int:
        return self.shift.shape[-1]

    @property
    def is_diagonal(self) -> bool:
        return self.ratio.ndim == self.shift.ndim


def factor_ratios(p: GMM, q: GMM) -> Ratios:
    """Every component of p in the coordinates of every one of q; all tables may share them."""
    inverse = scales.inverse(q.scale, q.means)
    return Ratios(
        shifts(p, q, inverse),
        relative_scale(p.scale, p.means, inverse, q.means),
        scales.log_abs_det(p.scale, p.means)[:, None],
        scales.log_abs_det(q.scale, q.means)[None],
    )


def kl_table(r: Ratios) -> jax.Array:
    """KL(p_a ‖ q_b), `(K_p, K_q)`: `pairwise_kl` from ratios that other tables need as well."""
    squares = r.ratio * r.ratio
    variances = squares if r.is_diagonal else jnp.sum(squares, axis=-1)
    distances = sum_coordinates(variances, r.dim) + jnp.sum(r.shift * r.shift, axis=-1)
    return r.log_det_q - r.log_det_p + 0.5 * (distances - r.dim)


def pairwise_log_integral(
    p: GMM, q: GMM, alpha: jax.Array | float = 1.0, beta: jax.Array | float = 1.0
) -> jax.Array:
    """Log ∫ p_a^α q_b^β for α, β > 0, less ½ D (1 − α − β) log 2π, `(K_p, K_q)`.

    With α = β = 1 these are the products,
    ∫ N(a, A) N(b, B) = N(a; b, A + B), and with α + β = 1 minus the Chernoff distances.
    """
    return log_integral_table(factor_ratios(p, q), alpha, beta)


def factor_of_sum(ratio: jax.Array, alpha: jax.Array | float, beta: jax.Array | float) -> jax.Array:
    """The lower factor of β R Rᵀ + α I for α, β > 0, from its rows: as R Rᵀ digits are lost."""
    roots = [jnp.sqrt(jnp.asarray(order, ratio.dtype)) for order in (beta, alpha)]
    identity = jnp.broadcast_to(jnp.eye(ratio.shape[-1], dtype=ratio.dtype), ratio.shape)
    return triangular.lower_factor(
        jnp.concatenate([roots[0] * ratio, roots[1] * identity], axis=-1)
    )


def factor_of_signed_sum(ratio: jax.Array, alpha: jax.Array, beta: jax.Array) -> jax.Array:
    """The same for β of either sign; NaN where the sum is not positive definite."""
    adds = beta > 0
    identity = jnp.eye(ratio.shape[-1], dtype=ratio.dtype)[None, None]
    core = beta * linalg.matmul(ratio, ratio.mT) + alpha * identity
    by_squares = triangular.cholesky(jnp.where(adds, identity, core))
    by_rows = factor_of_sum(ratio, jnp.where(adds, alpha, 0.5), jnp.where(adds, beta, 0.5))
    return jnp.where(adds, by_rows, by_squares)


def log_integral_table(
    r: Ratios,
    alpha: jax.Array | float = 1.0,
    beta: jax.Array | float = 1.0,
    core_factor: Callable = factor_of_sum,
) -> jax.Array:
    """`pairwise_log_integral` from ratios that other tables need as well.

    `core_factor(R, α, β)` is the lower factor of β R Rᵀ + α I.
    """
    # S = β Σ_a + α Σ_b = L_b (β R Rᵀ + α I) L_bᵀ with R = L_b⁻¹ L_a: forming it would square the
    # condition numbers.
    if r.is_diagonal:
        core = beta * r.ratio * r.ratio + alpha
        half_log_det = 0.5 * sum_coordinates(jnp.log(core), r.dim)
        distances = jnp.sum(r.shift * r.shift / core, axis=-1)
    else:
        lower = core_factor(r.ratio, alpha, beta)
        white = linalg.matvec(triangular.tril_inverse(lower), r.shift)
        half_log_det = _log_diagonal(lower)
        distances = jnp.sum(white * white, axis=-1)
    log_dets = (1 - alpha) * r.log_det_p - beta * r.log_det_q
    return log_dets - half_log_det - 0.5 * alpha * beta * distances


def tilted_table(r: Ratios, nearest: jax.Array, gamma: jax.Array) -> jax.Array:
    """Log ∫ p_a q_b q_c^(−γ), plus ½ D (1 − γ) log 2π, with `nearest` the c of each a.

    `(K_p, K_q)`, +inf where it is infinite.
    """
    shape = r.shift.shape[:2]
    ratio = jnp.broadcast_to(r.ratio, shape + r.ratio.shape[2:])
    log_dets = jnp.broadcast_to(r.log_det_q, shape)
    is_nearest = nearest[:, None] == np.arange(shape[1])[None]

    def of_nearest(table):
        chosen = is_nearest.reshape(shape + (1,) * (table.ndim - 2))
        return jnp.sum(table, axis=1, keepdims=True, where=chosen)

    diagonal = r.is_diagonal
    apply = jnp.multiply if diagonal else linalg.matvec
    transposed = ratio if diagonal else ratio.mT
    # In the coordinates where p_a is standard normal the exponent is
    # −½‖y‖² − ½‖R_b y + r_b‖² + ½γ‖R_c y + r_c‖².
    gram = ratio * ratio if diagonal else linalg.matmul(transposed, ratio)
    pull = apply(of_nearest(transposed), of_nearest(r.shift))
    slope = gamma * pull - apply(transposed, r.shift)
    excess = gram - gamma * of_nearest(gram)
    finite, half_log_det, peak = _peak(excess, slope) if diagonal else _full_peak(excess, slope)
    # The exponent is evaluated at its peak: completed squares would cancel for components far away.
    above = _half_square(apply(of_nearest(ratio), peak) + of_nearest(r.shift))
    below = _half_square(apply(ratio, peak) + r.shift)
    gap = gamma * of_nearest(log_dets) - log_dets
    exponent = gamma * above - below - _half_square(peak)
    return jnp.where(finite, exponent - half_log_det + gap, jnp.inf)


def _peak(excess: jax.Array, slope: jax.Array):
    """Whether exp(−½ yᵀ(1 + E)y + slope·y) has a peak, ½ log|1 + E|, and where; E is diagonal."""
    curvature = 1 + excess
    finite = jnp.all(~(curvature <= 0), axis=-1)  # NaN is not infinite
    curvature = jnp.where(finite[..., None], curvature, jnp.ones_like(curvature))
    half_log_det = 0.5 * sum_coordinates(jnp.log(curvature), slope.shape[-1])
    return finite, half_log_det, slope / curvature


def _full_peak(excess: jax.Array, slope: jax.Array):
    """The same for full matrices E."""
    identity = jnp.eye(slope.shape[-1], dtype=slope.dtype)[None, None]
    curvature = identity + excess
    finite = ~is_indefinite(curvature)
    lower = triangular.cholesky(jnp.where(finite[..., None, None], curvature, identity))
    inner = triangular.tril_inverse(lower)
    return finite, _log_diagonal(lower), linalg.matvec(inner.mT, linalg.matvec(inner, slope))


def is_indefinite(matrix: jax.Array) -> jax.Array:
    """Whether finite symmetric matrices `(…, D, D)` are not positive definite."""
    failed = jnp.isnan(_log_diagonal(triangular.cholesky(matrix)))
    return failed & jnp.all(jnp.isfinite(matrix), axis=(-2, -1))


def _log_diagonal(lower):
    return jnp.sum(jnp.log(linalg.diagonal(lower)), axis=-1)


def _half_square(v):
    return 0.5 * jnp.sum(v * v, axis=-1)
