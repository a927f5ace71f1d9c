"""Divergences of one Gaussian from one Gaussian, in closed form."""

import jax
import jax.numpy as jnp

from gmmjax._jax import is_traced
from gmmjax._matrices import linalg, scales
from gmmjax._mixture.gmm import GMM, common_float, common_singular
from gmmjax._mixture.structure import is_full
from gmmjax._pairs import components, ratios
from gmmjax._properties import divergence
from gmmjax._validate import keyless


@divergence(zero_at_equality=True)
@keyless
def gaussian_kl(p: GMM, q: GMM) -> jax.Array:
    r"""Kullback–Leibler divergence of two Gaussians; exact, in nats.

    .. math::
      \mathbb E_p[\log p - \log q] = \tfrac12 \big(\mathrm{tr}\, \Sigma_q^{-1} \Sigma_p - D
      + \log \tfrac{|\Sigma_q|}{|\Sigma_p|}
      + (\mu_p - \mu_q)^\top \Sigma_q^{-1} (\mu_p - \mu_q)\big)

    It is +inf (with gradient 0) where one of them is singular, and NaN where both are.

    Args:
      p: a mixture of one component.
      q: a mixture of one component, of the same dimension.

    Returns:
      A scalar.

    Raises:
      TypeError: `p` or `q` is not a `GMM`.
      ValueError: shapes disagree, or one of them has several components.

    Reference:
      Kullback (1959), "Information theory and statistics", chapter 9.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.ones(1))
      >>> print(gmmjax.gaussian_kl(p, p._replace(means=jnp.full((1, 1), 2.0))))
      2.0
    """
    return _kl(*_one_component(*common_singular(p=p, q=q)))


@divergence(zero_at_equality=True)
@keyless
def gaussian_renyi(p: GMM, q: GMM, alpha) -> jax.Array:
    r"""Rényi divergence of two Gaussians; exact, in nats.

    .. math:: \tfrac1{\alpha-1} \log \int p^\alpha q^{1-\alpha}

    For α > 1 it is +inf (with gradient 0) unless :math:`\alpha \Sigma_q + (1 - \alpha) \Sigma_p` is
    positive definite. It rises with α, and tends to `gaussian_kl` as α tends to 1, where it loses
    digits like ε/|1 − α|.

    Args:
      p: a mixture of one component.
      q: a mixture of one component, of the same dimension.
      alpha: α > 0, a scalar, not 1; differentiable.

    Returns:
      A scalar.

    Raises:
      TypeError: `p` or `q` is not a `GMM`.
      ValueError: shapes disagree, one of them has several components, or `alpha` is not a positive
        number other than 1.

    Reference:
      Gil, Alajaji and Linder (2013), "Rényi divergence measures for commonly used univariate
      continuous distributions".

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.ones(1))
      >>> print(gmmjax.gaussian_renyi(p, p._replace(means=jnp.full((1, 1), 2.0)), 0.5))
      1.0
    """
    p, q = _one_component(*common_float(p=p, q=q))
    _check_order(alpha)
    return _renyi(p, q, jnp.asarray(alpha, p.means.dtype))


@divergence(symmetric=True, zero_at_equality=True)
@keyless
def gaussian_bhattacharyya(p: GMM, q: GMM) -> jax.Array:
    r"""Bhattacharyya distance of two Gaussians, :math:`-\log \int \sqrt{pq}`; exact, in nats.

    .. math::
      \tfrac18 (\mu_p - \mu_q)^\top \Sigma^{-1} (\mu_p - \mu_q)
      + \tfrac12 \log \frac{|\Sigma|}{\sqrt{|\Sigma_p| |\Sigma_q|}},
      \quad \Sigma = \tfrac12 (\Sigma_p + \Sigma_q)

    Args:
      p: a mixture of one component.
      q: a mixture of one component, of the same dimension.

    Returns:
      A scalar.

    Raises:
      TypeError: `p` or `q` is not a `GMM`.
      ValueError: shapes disagree, or one of them has several components.

    Reference:
      Kailath (1967), "The divergence and Bhattacharyya distance measures in signal selection".

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.ones(1))
      >>> print(gmmjax.gaussian_bhattacharyya(p, p._replace(means=jnp.full((1, 1), 2.0))))
      0.5
    """
    return _bhattacharyya(*_one_component(*common_float(p=p, q=q)))


@divergence(symmetric=True, zero_at_equality=True, at_most=1.0)
@keyless
def gaussian_squared_hellinger(p: GMM, q: GMM) -> jax.Array:
    r"""Squared Hellinger distance of two Gaussians; exact, in [0, 1], no unit.

    .. math:: 1 - \int \sqrt{pq}

    Args:
      p: a mixture of one component.
      q: a mixture of one component, of the same dimension.

    Returns:
      A scalar.

    Raises:
      TypeError: `p` or `q` is not a `GMM`.
      ValueError: shapes disagree, or one of them has several components.

    Reference:
      Pardo (2006), "Statistical inference based on divergence measures".

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.ones(1))
      >>> q = p._replace(means=jnp.full((1, 1), 2.0))
      >>> print(f"{gmmjax.gaussian_squared_hellinger(p, q):.4f}")
      0.3935
    """
    return -jnp.expm1(-_bhattacharyya(*_one_component(*common_float(p=p, q=q))))


@divergence(zero_at_equality=True)
@keyless
def gaussian_chi2(p: GMM, q: GMM) -> jax.Array:
    r"""χ² divergence of two Gaussians, :math:`\int p^2 / q - 1`; exact, no unit.

    It is +inf (with gradient 0) unless :math:`2 \Sigma_q - \Sigma_p` is positive definite, and
    where the number overflows, as it soon does in many dimensions: there :math:`\log(1 + \chi^2)`,
    which is `gaussian_renyi` with α = 2, is of use.

    Args:
      p: a mixture of one component.
      q: a mixture of one component, of the same dimension.

    Returns:
      A scalar.

    Raises:
      TypeError: `p` or `q` is not a `GMM`.
      ValueError: shapes disagree, or one of them has several components.

    Reference:
      Nielsen and Nock (2014), "On the chi square and higher-order chi distances for approximating
      f-divergences".

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.ones(1))
      >>> print(f"{gmmjax.gaussian_chi2(p, p._replace(means=jnp.ones((1, 1)))):.2f}")
      1.72
    """
    p, q = _one_component(*common_float(p=p, q=q))
    exponent: jax.Array = _renyi(p, q, jnp.asarray(2.0, p.means.dtype))
    overflows = exponent > jnp.log(jnp.finfo(exponent.dtype).max)
    safe_exponent = jnp.where(overflows, 0.0, exponent)
    return jnp.where(overflows, jnp.inf, jnp.expm1(safe_exponent))


@jax.jit
def _kl(p, q):
    singular = [_is_singular(g) for g in (p, q)]
    regular = [_regular(g, is_singular) for g, is_singular in zip((p, q), singular, strict=True)]
    value = components.pairwise_kl(*regular)[0, 0]
    value = jnp.where(singular[0] | singular[1], jnp.inf, value)
    return jnp.where(singular[0] & singular[1], jnp.nan, value)


def _is_singular(g):
    """Whether a Gaussian has all its mass in a part of the space that has no volume."""
    return jnp.any(scales.pivots(g.scale, g.means) == 0)


def _regular(g, singular):
    """The same, and a standard one in place of one that is singular, for the sake of gradients."""
    unit = jnp.eye(g.dim, dtype=g.scale.dtype)[None] if is_full(g) else jnp.ones_like(g.scale)
    return g._replace(scale=jnp.where(singular, unit, g.scale))


@jax.jit
def _bhattacharyya(p, q):
    return -ratios.pairwise_log_integral(p, q, 0.5, 0.5)[0, 0]


@jax.jit
def _renyi(p: GMM, q: GMM, alpha: jax.Array) -> jax.Array:
    infinite = _is_infinite(p, q, alpha)
    # Where the integral is infinite, order ½ takes its place: a value that is not used, whose
    # gradient is finite.
    order = jnp.where(infinite, 0.5, alpha)
    signed = ratios.factor_of_signed_sum
    table = ratios.log_integral_table(ratios.factor_ratios(p, q), order, 1 - order, signed)
    return jnp.where(infinite, jnp.inf, table[0, 0] / (order - 1))


def _is_infinite(p, q, alpha):
    """Whether α Σ_q + (1 − α) Σ_p is not positive definite, which makes ∫ p^α q^(1−α) infinite."""
    inverse = scales.inverse(q.scale, q.means)
    ratio = components.relative_scale(p.scale, p.means, inverse, q.means)[0, 0]
    if ratio.ndim == 1:
        return jnp.any((1 - alpha) * ratio * ratio + alpha <= 0)
    core = (1 - alpha) * linalg.matmul(ratio, ratio.T)
    # A sum of squares is never that, whatever rounding makes of it.
    return (alpha > 1) & ratios.is_indefinite(core + alpha * jnp.eye(p.dim, dtype=core.dtype))


def _one_component(*mixtures):
    for name, g in zip("pq", mixtures, strict=True):
        if g.num_components != 1:
            raise ValueError(f"{name}: expected one component, got {g.num_components}")
    return mixtures


def _check_order(alpha):
    if jnp.ndim(alpha) == 0 and is_traced(alpha):
        return
    if jnp.ndim(alpha) > 0 or alpha == 1 or not 0 < alpha < jnp.inf:
        raise ValueError(
            f"alpha: expected a positive number other than 1 (use gmmjax.gaussian_kl), got {alpha}"
        )
