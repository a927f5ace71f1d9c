"""What bounds are made of: how much is known of the entropy of a mixture, and of its log-density
under another.

Everything is measured against the entropies of the components, H_a = H(p_a), which cancel in
divergences. The *information* of a mixture is H(p) − Σ w_a H_a, and its *surprise* at q is −Σ w_a
(E_{p_a}[log q] + H_a): KL(p‖q) is the surprise of p at q less the information of p.
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
    """Log-integrals of the components of p against each other, of the orders of
    `information_bounds`.
    """
    orders = jnp.asarray([*ORDERS, PRODUCT], p.means.dtype)
    return jax.vmap(lambda order: components.pairwise_log_integral(p, p, *order))(orders)


def information_bounds(p: GMM, kl: jax.Array, integrals: jax.Array):
    """Lower and upper bound of H(p) − Σ w_a H_a, from tables of its components against each
    other.
    """
    chernoff = jax.vmap(lambda table: -mean_log_sum(p, p, table))(integrals[:-1])
    lower = jnp.maximum(
        jnp.max(chernoff), -mean_log_sum(p, p, relative_entropies(p) + integrals[-1])
    )
    return lower, jnp.minimum(-mean_log_sum(p, p, -kl), _moment_information(p))


def relative_entropies(p: GMM) -> jax.Array:
    """H_a, `(K, 1)`, less ½ D log 2π, which the products lack."""
    return jnp.broadcast_to(0.5 * p.dim + linalg.log_abs_det(p.scale, p.means), p.logits.shape)[
        :, None
    ]


def surprise_bounds(p: GMM, q: GMM, kl: jax.Array):
    """Lower and upper bound of −Σ w_a (E_{p_a}[log q] + H_a), from the divergences of the
    components.
    """
    log_v = jax.nn.log_softmax(q.logits)[None]
    nearest = jnp.argmax(log_v - kl, axis=1)
    matched = jnp.take_along_axis(kl, nearest[:, None], axis=1)[:, 0]
    entropies = relative_entropies(p)[:, 0]

    def jensen(gamma: jax.Array) -> jax.Array:
        """E_{p_a}[log q] + H_a from above: Jensen's inequality for q / q_c^γ, with c nearest to
        p_a.
        """
        table = components.pairwise_tilted(p, q, nearest, gamma)
        infinite = jnp.isinf(table)
        useless = jnp.any(infinite & (log_v > -jnp.inf), axis=1)
        log_mean = jax.nn.logsumexp(log_v + jnp.where(infinite, 0.0, table), axis=1)
        return jnp.where(useless, jnp.inf, log_mean + (1 - gamma) * entropies - gamma * matched)

    rows = linalg.least(jax.vmap(jensen)(jnp.asarray(TILTS, kl.dtype)), axis=0)
    lower = -weighted(p, jnp.minimum(rows, 0.0))  # E_{p_a}[log q] ≤ −H_a
    return lower, -mean_log_sum(p, q, -kl)


def _moment_information(p):
    """Entropy of a Gaussian with the moments of p, less Σ w_a H_a."""
    # In coordinates where the heaviest component is standard normal: this does not square its
    # condition number.
    heaviest = jnp.argmax(p.logits)
    scale = p.scale[heaviest][None] if p.scale.shape[0] > 1 else p.scale
    one = GMM(p.logits[heaviest][None], p.means[heaviest][None], scale)
    inverse = linalg.inverse_scale(one.scale, one.means)
    scales = components.relative_scale(p.scale, p.means, inverse, one.means)[:, 0].reshape(
        p.scale.shape
    )
    white = GMM(p.logits, linalg.whiten(inverse, one.means, p.means.T)[0].T, scales)
    log_det = linalg.log_abs_det(triangular.cholesky(covariance(white))[None], white.means)
    return log_det[0] - weighted(p, linalg.log_abs_det(scales, p.means))


def weighted(p: GMM, values: jax.Array) -> jax.Array:
    """Σ w_a values_a."""
    return jnp.vdot(jax.nn.softmax(p.logits), jnp.broadcast_to(values, p.logits.shape))
