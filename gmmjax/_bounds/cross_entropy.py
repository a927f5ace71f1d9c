"""What bounds are made of: how much is known of the entropy of a mixture, and of its cross-entropy
to another.

Everything is measured against the entropies of the components, H_a = H(p_a), which cancel in
divergences. The *mutual information* of a mixture, between a point and the component it came from,
is H(p) − Σ w_a H_a (see `gmmjax.mutual_information`). Its *excess cross-entropy* to q is
−Σ w_a (E_{p_a}[log q] + H_a). KL(p‖q) is the excess cross-entropy less the mutual information.
"""

import jax
import jax.numpy as jnp

from gmmjax._bounds.variational import mean_log_sum
from gmmjax._mixture import components, linalg, triangular
from gmmjax._mixture.gmm import GMM
from gmmjax._mixture.moments import covariance

ORDERS = (0.3, 0.7), (0.5, 0.5), (0.7, 0.3)  # of the Chernoff distances; the best is taken
PRODUCT = (1.0, 1.0)
TILTS = (0.0, 0.5, 0.9, 0.99, 1.0)  # the best is taken; 0 is Jensen's inequality for q itself


def own_integrals(p: GMM) -> jax.Array:
    """Log-integrals of the components of p against each other, of all `ORDERS` and of `PRODUCT`."""
    orders = jnp.asarray([*ORDERS, PRODUCT], p.means.dtype)
    return jax.vmap(lambda order: components.pairwise_log_integral(p, p, *order))(orders)


def mutual_information_bounds(p: GMM, kl: jax.Array, integrals: jax.Array):
    """Lower and upper bound of H(p) − Σ w_a H_a, from tables of its components against each
    other.
    """
    chernoff, product = integrals[:-1], integrals[-1]
    by_chernoff = jax.vmap(lambda table: -mean_log_sum(p, p, table))(chernoff)
    by_product = -mean_log_sum(p, p, relative_entropies(p)[:, None] + product)
    lower = jnp.maximum(jnp.max(by_chernoff), by_product)
    upper = jnp.minimum(-mean_log_sum(p, p, -kl), _from_moments(p))
    return lower, upper


def relative_entropies(p: GMM) -> jax.Array:
    """H_a, `(K,)`, less ½ D log 2π, which the products lack."""
    entropies = 0.5 * p.dim + linalg.log_abs_det(p.scale, p.means)
    return jnp.broadcast_to(entropies, p.logits.shape)


def cross_entropy_bounds(p: GMM, q: GMM, kl: jax.Array):
    """Lower and upper bound of −Σ w_a (E_{p_a}[log q] + H_a), from the divergences of the
    components.
    """
    tilts = jnp.asarray(TILTS, kl.dtype)
    by_tilt = jax.vmap(lambda gamma: _jensen(p, q, kl, gamma))(tilts)
    rows = jnp.minimum(linalg.least(by_tilt, axis=0), 0.0)  # E_{p_a}[log q] ≤ −H_a
    return -weighted(p, rows), -mean_log_sum(p, q, -kl)


def _jensen(p: GMM, q: GMM, kl: jax.Array, gamma: jax.Array) -> jax.Array:
    """E_{p_a}[log q] + H_a from above, `(K_p,)`: Jensen's inequality for q / q_c^γ, with c the
    component nearest to p_a.
    """
    log_v = jax.nn.log_softmax(q.logits)[None]
    nearest = jnp.argmax(log_v - kl, axis=1)
    matched = jnp.take_along_axis(kl, nearest[:, None], axis=1)[:, 0]
    table = components.pairwise_tilted(p, q, nearest, gamma)
    infinite = jnp.isinf(table)
    useless = jnp.any(infinite & (log_v > -jnp.inf), axis=1)
    finite = jnp.where(infinite, 0.0, table)
    log_mean = jax.nn.logsumexp(log_v + finite, axis=1)
    bound = log_mean + (1 - gamma) * relative_entropies(p) - gamma * matched
    return jnp.where(useless, jnp.inf, bound)


def _from_moments(p: GMM) -> jax.Array:
    """Entropy of a Gaussian with the moments of p, less Σ w_a H_a."""
    # In coordinates where the heaviest component is standard normal: this does not square its
    # condition number.
    heaviest = _component(p, jnp.argmax(p.logits))
    inverse = linalg.inverse_scale(heaviest.scale, heaviest.means)
    relative = components.relative_scale(p.scale, p.means, inverse, heaviest.means)
    scale = relative[:, 0].reshape(p.scale.shape)
    means = linalg.whiten(inverse, heaviest.means, p.means.T)[0].T
    factor = triangular.cholesky(covariance(GMM(p.logits, means, scale)))
    log_det = linalg.log_abs_det(factor[None], means)[0]
    return log_det - weighted(p, linalg.log_abs_det(scale, means))


def _component(p: GMM, k) -> GMM:
    """Component k as a mixture of one."""
    scale = p.scale[k][None] if p.scale.shape[0] > 1 else p.scale
    return GMM(p.logits[k][None], p.means[k][None], scale)


def weighted(p: GMM, values: jax.Array) -> jax.Array:
    """Σ w_a values_a."""
    return jnp.vdot(jax.nn.softmax(p.logits), jnp.broadcast_to(values, p.logits.shape))
