"""Published approximations of KL(p‖q): not bounds, and they may be negative."""

import jax
import jax.numpy as jnp

from gmmjax._bounds.variational import mean_log_sum
from gmmjax._logs import log_softmax
from gmmjax._matrices import linalg, scales
from gmmjax._mixture import density
from gmmjax._mixture.gmm import GMM, common_float
from gmmjax._mixture.moments import checked_mean, covariance_factor, recentred
from gmmjax._pairs import components
from gmmjax._pairs.ratios import pairwise_log_integral
from gmmjax._properties import divergence
from gmmjax._validate import keyless


@divergence(zero_at_equality=True, signed=True)
@keyless
def kl_variational(p: GMM, q: GMM) -> jax.Array:
    r"""Hershey and Olsen's variational approximation of KL(p‖q), in nats; NOT a bound.

    .. math:: \sum_a w_a \log \frac{\sum_{a'} w_{a'} e^{-\mathrm{KL}(p_a \| p_{a'})}}
      {\sum_b v_b e^{-\mathrm{KL}(p_a \| q_b)}}

    It is a difference of two lower bounds: it may lie on either side of the truth, and be negative.
    Exact for single Gaussians, 0 at p = q, and close where components are far apart. For a bound
    see `kl_bounds`.

    Args:
      p: a mixture.
      q: a mixture of the same dimension.

    Returns:
      A scalar.

    Raises:
      TypeError: `p` or `q` is not a `GMM`.
      ValueError: shapes disagree.

    Reference:
      Hershey and Olsen (2007), "Approximating the Kullback Leibler divergence between Gaussian
      mixture models", section 7.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0], [1.0]]), jnp.ones(2))
      >>> q = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.full(1, 2.0))
      >>> print(gmmjax.kl_variational(p, q).round(4))
      -0.1231
    """
    p, q = common_float(p=p, q=q)
    return _kl_variational(p, q)


@jax.jit
def _kl_variational(p, q):
    own = mean_log_sum(p, p, -components.pairwise_kl(p, p))
    other = mean_log_sum(p, q, -components.pairwise_kl(p, q))
    return own - other


@divergence(zero_at_equality=True, signed=True)
@keyless
def kl_product(p: GMM, q: GMM) -> jax.Array:
    r"""Product-of-Gaussians approximation of KL(p‖q), in nats; NOT a bound.

    .. math:: \sum_a w_a \log \frac{\sum_{a'} w_{a'} \int p_a p_{a'}}{\sum_b v_b \int p_a q_b}

    It is a difference of two upper bounds: it may lie on either side of the truth, and be negative.
    It is not exact for single Gaussians, and 0 at p = q. For a bound see `kl_bounds`.

    Args:
      p: a mixture.
      q: a mixture of the same dimension.

    Returns:
      A scalar.

    Raises:
      TypeError: `p` or `q` is not a `GMM`.
      ValueError: shapes disagree.

    Reference:
      Hershey and Olsen (2007), "Approximating the Kullback Leibler divergence between Gaussian
      mixture models", section 5.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.ones(1))
      >>> print(gmmjax.kl_product(p, p._replace(means=jnp.full((1, 1), 2.0))))  # the truth is 2
      1.0
    """
    p, q = common_float(p=p, q=q)
    return _kl_product(p, q)


@jax.jit
def _kl_product(p, q):
    own = mean_log_sum(p, p, pairwise_log_integral(p, p))
    other = mean_log_sum(p, q, pairwise_log_integral(p, q))
    return own - other


@divergence()
@keyless
def kl_matched(p: GMM, q: GMM) -> jax.Array:
    r"""Goldberger's matched-pair approximation of KL(p‖q), in nats; NOT a bound.

    .. math:: \sum_a w_a \min_b \Big( \mathrm{KL}(p_a \| q_b) + \log \frac{w_a}{v_b} \Big)

    It may lie on either side of the truth, and be negative. Exact for single Gaussians, and close
    where components are far apart; its gradient jumps where the nearest component changes. For a
    bound see `kl_bounds`.

    Args:
      p: a mixture.
      q: a mixture of the same dimension.

    Returns:
      A scalar.

    Raises:
      TypeError: `p` or `q` is not a `GMM`.
      ValueError: shapes disagree.

    Reference:
      Goldberger, Gordon and Greenspan (2003), "An efficient image similarity measure based on
      approximations of KL-divergence between two Gaussian mixtures", section 3.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[-5.0], [5.0]]), jnp.ones(2))
      >>> print(gmmjax.kl_matched(p, p._replace(means=p.means + 1)).round(4))
      0.5
    """
    p, q = common_float(p=p, q=q)
    return _kl_matched(p, q)


@jax.jit
def _kl_matched(p, q):
    log_w, log_v = log_softmax(p.logits), log_softmax(q.logits)
    nearest = linalg.least(components.pairwise_kl(p, q) - log_v[None], axis=1)
    finite = jnp.where(log_w > -jnp.inf, log_w, 0.0)
    return jnp.sum(jnp.exp(log_w) * (nearest + finite))


@divergence(zero_at_equality=True, signed=True)
@keyless
def kl_unscented(p: GMM, q: GMM) -> jax.Array:
    r"""Unscented approximation of KL(p‖q), in nats; NOT a bound.

    .. math:: \sum_a \frac{w_a}{2D} \sum_{i = 1}^{D} \sum_{\pm} \log \frac{p(x)}{q(x)},
      \quad x = \mu_a \pm \sqrt D\, L_a e_i

    The 2D points per component are fixed, and integrate polynomials of degree 3: it may lie on
    either side of the truth, and be negative. Exact for single Gaussians, 0 at p = q. The points
    depend on the factor: on L, not only on LLᵀ. For a bound see `kl_bounds`.

    Args:
      p: a mixture.
      q: a mixture of the same dimension.

    Returns:
      A scalar.

    Raises:
      TypeError: `p` or `q` is not a `GMM`.
      ValueError: shapes disagree.

    Reference:
      Hershey and Olsen (2007), "Approximating the Kullback Leibler divergence between Gaussian
      mixture models", section 3; Julier and Uhlmann (1996), "A general method for approximating
      nonlinear transformations".

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.ones(1))
      >>> print(gmmjax.kl_unscented(p, p._replace(means=jnp.full((1, 1), 2.0))).round(4))
      2.0
    """
    p, q = common_float(p=p, q=q)
    return _kl_unscented(p, q)


@jax.jit
def _kl_unscented(p, q):
    p, q = recentred(p, q)
    columns = scales.dense_factors(p.scale, p.means).mT
    reach = jnp.sqrt(p.dim).astype(p.means.dtype)
    steps = reach * jnp.concatenate([columns, -columns], axis=1)
    points = (p.means[:, None] + steps).reshape(-1, p.dim).T
    log_p, log_q = (density.evaluate(density.prepare(g).density, points) for g in (p, q))
    log_ratios = (log_p - log_q).reshape(p.num_components, -1)
    return jnp.vdot(jax.nn.softmax(p.logits), jnp.mean(log_ratios, axis=1))


@divergence(zero_at_equality=True)
@keyless
def kl_moment_matched(p: GMM, q: GMM) -> jax.Array:
    r"""Divergence of the Gaussians with the moments of p and q, in nats; NOT a bound of KL(p‖q).

    .. math:: \mathrm{KL}(\mathcal N(\bar\mu_p, \bar\Sigma_p) \,\|\, \mathcal N(\bar\mu_q,
    \bar\Sigma_q))

    It is never negative, and exact for single Gaussians, but 0 for any two mixtures that share two
    moments. For a bound see `kl_bounds`.

    Args:
      p: a mixture.
      q: a mixture of the same dimension.

    Returns:
      A scalar.

    Raises:
      TypeError: `p` or `q` is not a `GMM`.
      ValueError: shapes disagree.

    Reference:
      Hershey and Olsen (2007), "Approximating the Kullback Leibler divergence between Gaussian
      mixture models", section 4.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0], [1.0]]), jnp.ones(2))
      >>> print(gmmjax.kl_moment_matched(p, p._replace(means=p.means + 2)).round(4))
      1.0
    """
    p, q = common_float(p=p, q=q)
    return _kl_moment_matched(p, q)


@jax.jit
def _kl_moment_matched(p, q):
    p, q = recentred(p, q)
    return components.pairwise_kl(_moment_matched(p), _moment_matched(q))[0, 0]


def _moment_matched(g):
    """The Gaussian with the moments of a mixture, as a mixture of one."""
    return GMM(g.logits[:1], checked_mean(g)[None], covariance_factor(g)[0][None])
