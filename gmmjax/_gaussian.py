"""One Gaussian against one Gaussian, for every pair of components of two mixtures at once."""

import jax
import jax.numpy as jnp

from gmmjax import _linalg
from gmmjax._gmm import GMM


def entropies(p: GMM) -> jax.Array:
    """Differential entropy of each component, `(K,)`."""
    constant = 0.5 * p.dim * jnp.log(2 * jnp.pi * jnp.e).astype(p.means.dtype)
    return jnp.broadcast_to(constant + _linalg.log_abs_det(p.scale, p.means), p.logits.shape)


def pairwise_kl(p: GMM, q: GMM) -> jax.Array:
    """KL(p_a ‖ q_b) of the components of two checked mixtures, `(K_p, K_q)`; weights play no part."""
    log_dets = _linalg.log_abs_det(q.scale, q.means)[None] - _linalg.log_abs_det(p.scale, p.means)[:, None]
    return log_dets + 0.5 * (expected_distances(p, q) - p.dim)


def expected_distances(p: GMM, q: GMM) -> jax.Array:
    """E[‖L_b⁻¹(x − μ_b)‖²] under each component p_a for the components q_b, `(K_p, K_q)`."""
    inverse = _linalg.inverse_scale(q.scale, q.means)
    return (
        _pairwise_trace(p.scale, p.means, inverse, q.means) + _linalg.squared_distances(inverse, q.means, p.means.T).T
    )


def _pairwise_trace(scale, means, inverse, other_means):
    """‖M_b L_a‖² for factors L_a and inverse factors M_b of any structure, `(K_a or 1, K_b or 1)`."""
    # Squares of a product and not a product of squares: precisions and covariances square the condition number.
    if scale.ndim > means.ndim and inverse.ndim > other_means.ndim:
        product = jnp.matmul(inverse[None], jnp.tril(scale)[:, None], precision=_linalg.HIGHEST)
        return jnp.sum(product * product, axis=(-2, -1))
    variances = _per_coordinate(scale, means, axis=-1)
    rates = _per_coordinate(inverse, other_means, axis=-2)
    return jnp.matmul(variances, rates.T, precision=_linalg.HIGHEST)


def _per_coordinate(scale, means, axis):
    """Sums of squares of a factor along one of its axes, `(K or 1, D)`."""
    if scale.ndim > means.ndim:
        return jnp.sum(jnp.tril(scale) ** 2, axis=axis)
    squares = (scale * scale).reshape(scale.shape[0], -1)
    return jnp.broadcast_to(squares, (scale.shape[0], means.shape[-1]))
