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
from gmmjax._logs import log_softmax, log_sum_exp
from gmmjax._matrices import linalg, scales
from gmmjax._mixture.gmm import GMM
from gmmjax._mixture.moments import covariance_factor
from gmmjax._pairs.ratios import Ratios, log_integral_table, tilted_table

ORDERS = (0.3, 0.7), (0.5, 0.5), (0.7, 0.3)  # of the Chernoff distances; the best is taken
PRODUCT = (1.0, 1.0)
TILTS = (0.0, 0.5, 0.9, 0.99, 1.0)  # the best is taken; 0 is Jensen's inequality for q itself


def own_integrals(own: Ratios) -> jax.Array:
    """Log-integrals of components against each other, of all `ORDERS` and of `PRODUCT`."""
    orders = jnp.asarray([*ORDERS, PRODUCT], own.shift.dtype)
    return jax.vmap(lambda order: log_integral_table(own, *order))(orders)


def mutual_information_bounds(p: GMM, own: Ratios, kl: jax.Array, integrals: jax.Array):
    """Lower and upper bound of H(p) − Σ w_a H_a, from its components against each other."""
    product = relative_entropies(p)[:, None] + integrals[-1]
    # All tables in one batch, for the sake of compile time.
    tables = jnp.concatenate([integrals[:-1], jnp.stack([product, -kl])])
    *lower, upper = jax.vmap(lambda table: -mean_log_sum(p, p, table))(tables)
    return jnp.max(jnp.stack(lower)), jnp.minimum(upper, _from_moments(p, own))


def relative_entropies(p: GMM) -> jax.Array:
    """H_a, `(K,)`, less ½ D log 2π, which the products lack."""
    entropies = 0.5 * p.dim + scales.log_abs_det(p.scale, p.means)
    return jnp.broadcast_to(entropies, p.logits.shape)


def cross_entropy_bounds(p: GMM, q: GMM, cross: Ratios, kl: jax.Array):
    """Lower and upper bound of −Σ w_a (E_{p_a}[log q] + H_a), from the components of p
    against those of q.
    """
    tilts = jnp.asarray(TILTS, kl.dtype)
    by_tilt = jax.vmap(lambda gamma: _jensen(p, q, cross, kl, gamma))(tilts)
    rows = jnp.minimum(linalg.least(by_tilt, axis=0), 0.0)  # E_{p_a}[log q] ≤ −H_a
    return -weighted(p, rows), -mean_log_sum(p, q, -kl)


def _jensen(p: GMM, q: GMM, cross: Ratios, kl: jax.Array, gamma: jax.Array) -> jax.Array:
    """E_{p_a}[log q] + H_a from above, `(K_p,)`: Jensen's inequality for q / q_c^γ, with c the
    component nearest to p_a.
    """
    log_v = log_softmax(q.logits)[None]
    nearest = jnp.argmax(log_v - kl, axis=1)
    matched = jnp.take_along_axis(kl, nearest[:, None], axis=1)[:, 0]
    table = tilted_table(cross, nearest, gamma)
    infinite = jnp.isinf(table)
    useless = jnp.any(infinite & (log_v > -jnp.inf), axis=1)
    finite = jnp.where(infinite, 0.0, table)
    log_mean = log_sum_exp(log_v + finite, axis=1)
    bound = log_mean + (1 - gamma) * relative_entropies(p) - gamma * matched
    return jnp.where(useless, jnp.inf, bound)


def _from_moments(p: GMM, own: Ratios) -> jax.Array:
    """Entropy of a Gaussian with the moments of p, less Σ w_a H_a."""
    # In coordinates where the heaviest component is standard normal: this does not square its
    # condition number.
    heaviest = jnp.argmax(p.logits)
    tied = own.ratio.shape[1] == 1
    relative = own.ratio[:, 0] if tied else own.ratio[:, heaviest]
    scale = relative.reshape(p.scale.shape)
    means = own.shift[:, heaviest]
    factor, rounding = covariance_factor(GMM(p.logits, means, scale))
    log_det = jnp.sum(jnp.log(linalg.diagonal(factor) + rounding))
    return log_det - weighted(p, scales.log_abs_det(scale, means))


def weighted(p: GMM, values: jax.Array) -> jax.Array:
    """Σ w_a values_a."""
    return jnp.vdot(jax.nn.softmax(p.logits), jnp.broadcast_to(values, p.logits.shape))
