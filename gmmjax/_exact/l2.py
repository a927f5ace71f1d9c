"""Divergences made of L2 inner products, all from ∫ N(a, A) N(b, B) = N(a; b, A + B)."""

import jax
import jax.numpy as jnp

from gmmjax._logs import log_sum_exp
from gmmjax._mixture.gmm import GMM, as_float, common_float, index
from gmmjax._mixture.join import stack
from gmmjax._mixture.moments import recentred
from gmmjax._pairs.pair_sums import FEW, log_product_blocks, log_products
from gmmjax._pairs.ratios import factor_of_sum
from gmmjax._properties import divergence
from gmmjax._validate import check_between, keyless


@divergence(symmetric=True, zero_at_equality=True)
@keyless
def ise(p: GMM, q: GMM) -> jax.Array:
    r"""Integrated squared error, :math:`\int (p - q)^2`; exact, in units of density.

    .. math:: \int (p - q)^2 = \int p^2 - 2 \int pq + \int q^2

    Squared on purpose: its root has an infinite gradient at p = q, where this one is 0 with
    gradient 0. The three integrals are summed relative to the largest of their terms, and cancel:
    the result is good to a few units in the last place of :math:`\int p^2 + \int q^2`. In many
    dimensions it is a very small number that underflows in float32; `normalised_ise` does not.

    Args:
      p: a mixture.
      q: a mixture of the same dimension.

    Returns:
      A scalar.

    Raises:
      TypeError: `p` or `q` is not a `GMM`.
      ValueError: shapes disagree.

    Reference:
      Williams and Maybeck (2003), "Cost-function-based Gaussian mixture reduction for target
      tracking".

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.ones(1))
      >>> q = p._replace(means=jnp.full((1, 1), 10.0))
      >>> print(f"{gmmjax.ise(p, q):.4f}")
      0.5642
    """
    return _ise(*common_float(p=p, q=q))


@jax.jit
def _ise(p, q):
    difference, _, log_unit = _squared_distance(p, q)
    return difference * jnp.exp(log_unit - _log_two_pi(p))


@divergence(symmetric=True, zero_at_equality=True)
@keyless
def normalised_ise(p: GMM, q: GMM) -> jax.Array:
    r"""Normalised integrated squared error; exact, in [0, 1], no unit.

    .. math:: \int (p - q)^2 \,/\, \big(\int p^2 + \int q^2\big)

    It is 0 at p = q, with gradient 0, and 1 where the mixtures do not overlap. Good to a few units
    in the last place of 1, in any dimension.

    Args:
      p: a mixture.
      q: a mixture of the same dimension.

    Returns:
      A scalar.

    Raises:
      TypeError: `p` or `q` is not a `GMM`.
      ValueError: shapes disagree.

    Reference:
      Petrucci (2005), "Gaussian mixture reduction for Bayesian target tracking in clutter".

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.ones(1))
      >>> print(f"{gmmjax.normalised_ise(p, p._replace(means=jnp.ones((1, 1)))):.4f}")
      0.2212
    """
    return _normalised_ise(*common_float(p=p, q=q))


@jax.jit
def _normalised_ise(p, q):
    difference, total, _ = _squared_distance(p, q)
    return difference / total


@divergence(symmetric=True, zero_at_equality=True)
@keyless
def cauchy_schwarz_divergence(p: GMM, q: GMM) -> jax.Array:
    r"""Cauchy–Schwarz divergence; exact, in nats.

    .. math:: -\log\big(\int pq \,/\, \sqrt{\int p^2 \int q^2}\big)

    It is 0 where p = q, with gradient 0, and symmetric. Logarithms of integrals to the end: it
    survives many dimensions, and is good to a few units in the last place of the largest of these
    logarithms.

    Args:
      p: a mixture.
      q: a mixture of the same dimension.

    Returns:
      A scalar.

    Raises:
      TypeError: `p` or `q` is not a `GMM`.
      ValueError: shapes disagree.

    Reference:
      Kampa, Hasanbelliu and Principe (2011), "Closed-form Cauchy–Schwarz PDF divergence for mixture
      of Gaussians", equation 3, with the covariance 2Σ of a component's product with itself.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.ones(1))
      >>> print(gmmjax.cauchy_schwarz_divergence(p, p._replace(means=jnp.full((1, 1), 2.0))))
      1.0
    """
    return _cauchy_schwarz_divergence(*common_float(p=p, q=q))


@jax.jit
def _cauchy_schwarz_divergence(p, q):
    pp, pq, qq = (log_sum_exp(terms.ravel(), axis=0) for terms in _log_terms(p, q))
    return 0.5 * (pp + qq) - pq


@keyless
def renyi2_entropy(p: GMM) -> jax.Array:
    r"""Rényi entropy of order 2, :math:`-\log \int p^2`; exact, in nats.

    Args:
      p: a mixture.

    Returns:
      A scalar. It is never above the Shannon entropy.

    Raises:
      TypeError: `p` is not a `GMM`.
      ValueError: its shapes disagree.

    Reference:
      Principe (2010), "Information theoretic learning", chapter 2.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.ones(1))
      >>> print(f"{gmmjax.renyi2_entropy(p):.4f}")
      1.2655
    """
    return _renyi2_entropy(as_float("p", p))


@jax.jit
def _renyi2_entropy(p):
    terms = log_products(p, p) if p.num_components <= FEW else log_product_blocks(p, p).log_sum
    return _log_two_pi(p) - log_sum_exp(terms.ravel(), axis=0)


@divergence(symmetric=True, zero_at_equality=True)
@keyless
def mmd_squared(p: GMM, q: GMM, bandwidth) -> jax.Array:
    r"""Squared maximum mean discrepancy; exact, no unit.

    .. math:: \mathbb E[k(x, x') - 2 k(x, y) + k(y, y')]

    Here :math:`x, x' \sim p` and :math:`y, y' \sim q` are independent and the kernel is Gaussian,
    :math:`k(x, y) = \exp(-\|x - y\|^2 / 2h^2)`. Squared on purpose: the root has an infinite
    gradient at p = q, where this one is 0 with gradient 0. Good to a few units in the last place of
    :math:`\mathbb E[k(x, x')] + \mathbb E[k(y, y')]`.

    Args:
      p: a mixture.
      q: a mixture of the same dimension.
      bandwidth: h > 0, a scalar; differentiable.

    Returns:
      A scalar.

    Raises:
      TypeError: `p` or `q` is not a `GMM`.
      ValueError: shapes disagree, or `bandwidth` is not a positive scalar.

    Reference:
      Gretton, Borgwardt, Rasch, Schölkopf and Smola (2012), "A kernel two-sample test", lemma 6.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.ones(1))
      >>> print(f"{gmmjax.mmd_squared(p, p._replace(means=jnp.ones((1, 1))), 1.0):.4f}")
      0.1773
    """
    p, q = common_float(p=p, q=q)
    bandwidth = check_between("bandwidth", bandwidth, 0.0, float(jnp.finfo(p.means.dtype).max))
    return _mmd_squared(p, q, jnp.asarray(bandwidth, p.means.dtype))


@jax.jit
def _mmd_squared(p, q, bandwidth):
    p, q = recentred(p, q)
    # k(x, y) = (2π)^(D/2) N(x; y, I) in units of h; half of that noise goes to either side.
    difference, _, log_unit = _squared_distance(_blurred(p, bandwidth), _blurred(q, bandwidth))
    return difference * jnp.exp(log_unit)


def _blurred(g, bandwidth):
    """The mixture in units of the bandwidth, convolved with N(0, I/2)."""
    scale = g.scale / bandwidth
    if scale.ndim > g.means.ndim:
        scale = factor_of_sum(scale, 0.5, 1.0)
    else:
        scale = jnp.sqrt(scale * scale + 0.5)
    return GMM(g.logits, g.means / bandwidth, scale)


def _squared_distance(p, q):
    """∫ (p − q)² and ∫ p² + ∫ q² of (2π)^(D/4)-fold densities, both over exp of the third value."""
    log_pp, log_pq, log_qq = _log_terms(p, q)
    # No unit is needed for ∫ pq, which is at most the mean of the other two.
    log_unit = jax.lax.stop_gradient(jnp.maximum(jnp.max(log_pp), jnp.max(log_qq)))
    pp, pq, qq = (jnp.sum(jnp.exp(terms - log_unit)) for terms in (log_pp, log_pq, log_qq))
    return pp + qq - 2 * pq, pp + qq, log_unit


def _log_terms(p, q):
    """Log (2π)^(D/2)-fold terms of ∫ p², ∫ pq and ∫ q², or their sums over blocks, `(3, …)`."""
    # In one batch: a third of the compilation, and all agree to the last bit where p and q do.
    both = stack([p, q])
    left = index(both, jnp.array([0, 0, 1]))
    right = index(both, jnp.array([0, 1, 1]))
    if both.num_components <= FEW:
        return jax.vmap(log_products)(left, right)
    return jax.lax.map(lambda pair: log_product_blocks(*pair).log_sum, (left, right))


def _log_two_pi(g):
    return 0.5 * g.dim * jnp.log(2 * jnp.pi).astype(g.means.dtype)
