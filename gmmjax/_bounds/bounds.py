"""Bounds that hold: on KL, on the entropy and on the Jensen–Shannon divergence."""

import math
from typing import NamedTuple

import jax

from gmmjax._bounds.bracket import bracket, where_quick, widened
from gmmjax._bounds.by_components import (
    entropy_by_components,
    js_by_components,
    kl_by_components,
)
from gmmjax._exact.quadrature import entropy_quadrature, js_quadrature, kl_quadrature
from gmmjax._mixture.gmm import GMM, as_float, common_float
from gmmjax._properties import divergence
from gmmjax._validate import keyless


class Bounds(NamedTuple):
    """A lower and an upper bound of one number, `lower <= truth <= upper`.

    Attributes:
      lower: a scalar.
      upper: a scalar.

    Example:
      >>> import gmmjax
      >>> lower, upper = gmmjax.Bounds(0.0, 1.0)
    """

    lower: jax.Array
    upper: jax.Array


@divergence(zero_at_equality=True)
@keyless
def kl_bounds(p: GMM, q: GMM) -> Bounds:
    r"""Bounds of the Kullback–Leibler divergence :math:`\mathrm{KL}(p \| q)`, in nats.

    Here :math:`\mathrm{KL}(p \| q) = \mathbb E_p[\log p - \log q]`. On the line (up to 1,024
    components in both) and in the plane (up to 32) the bounds are `kl_quadrature` less and plus
    what it may be off by: 1e-9 of it, in float32 1e-5, 64 units in the last place of 1, and what
    the rounding of places far from the mean may do. Where that is more than a tenth of the
    deviation of some component they are found as elsewhere; under `jit` they then say nothing.

    Elsewhere the upper bound is the smaller of the variational bound of Hershey and Olsen, at
    convergence, and of :math:`\sum_a w_a \log \sum_{a'} w_{a'} e^{-C(p_a, p_{a'})} / \sum_b v_b
    e^{-\mathrm{KL}(p_a \| q_b)}` with Chernoff distances C. It is never above that of Durrieu et
    al., nor above convexity, :math:`\sum_{ab} w_a v_b \mathrm{KL}(p_a \| q_b)`.

    The lower bound is the largest of 0, that of Durrieu et al., and that with
    :math:`\mathbb E_{p_a}[\log q] \le \log \int p_a q\, q_c^{-\gamma} + \gamma \mathbb
    E_{p_a}[\log q_c]` for the component c of q nearest to each of p and the best of five γ ∈
    [0, 1], of which γ = 0 is that of Durrieu et al. These are exact for single Gaussians, and close
    where components are far apart. Where components overlap it is the divergence of the marginals
    along one direction under a little noise, which the data-processing inequality says is no
    larger: a sum over 385 points, less what half of them would change; the direction is the best
    that a few steps uphill find, and is held in the gradient, which is therefore that of this bound
    to a few thousandths. Weights that were iterated to convergence are held as well: do not take
    second derivatives in three or more dimensions.

    Either is widened by 8ε (D + its size + that of the largest log-determinants), so that it holds
    in floating-point arithmetic too, for covariances that are not themselves at the limit of the
    precision. At p = q the lower bound is 0, and the upper one that little.

    Args:
      p: a mixture.
      q: a mixture of the same dimension.

    Returns:
      A `Bounds` with scalar leaves.

    Raises:
      TypeError: `p` or `q` is not a `GMM`.
      ValueError: shapes disagree.

    Reference:
      Durrieu, Thiran and Kelly (2012), "Lower and upper bounds for approximation of the
      Kullback-Leibler divergence between Gaussian mixture models", with :math:`t_{ab} = \mathcal
      N(\mu_a; \nu_b, \Sigma_a + \Lambda_b)`; Hershey and Olsen (2007), "Approximating the Kullback
      Leibler divergence between Gaussian mixture models", section 8.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.5] * 3, [1.5] * 3]), jnp.ones(2))
      >>> lower, upper = gmmjax.kl_bounds(p, p._replace(logits=jnp.array([0.0, 1.0])))
      >>> print(f"{lower:.3f} {upper:.3f}")
      0.118 0.120
    """
    p, q = common_float(p=p, q=q)
    return Bounds(*where_quick(_kl_bracket, kl_by_components, p, q))


@jax.jit
def _kl_bracket(p, q):
    return bracket(kl_quadrature(p, q), p, q)


@keyless
def entropy_bounds(p: GMM) -> Bounds:
    r"""Bounds of the differential entropy, :math:`H(p) = -\int p \log p`, in nats.

    On the line and in the plane they are `entropy_quadrature` less and plus what it may be off by,
    as in `kl_bounds`. Elsewhere, with the entropies :math:`H_a` of the components and distances d
    between them, either is :math:`\sum_a w_a H_a - \sum_a w_a \log \sum_{a'} w_{a'} e^{-d(p_a,
    p_{a'})}`: Chernoff distances give a lower bound (the best of three orders, and of
    :math:`-\sum_a w_a \log \int p_a p`), Kullback–Leibler divergences an upper one (or the entropy
    of a Gaussian with the moments of p, where that is smaller). Conditional entropy below and
    conditional entropy plus that of the weights above are never closer. Exact for single Gaussians.

    Either is widened by a few units in the last place of its terms, as in `kl_bounds`.

    Args:
      p: a mixture.

    Returns:
      A `Bounds` with scalar leaves.

    Raises:
      TypeError: `p` is not a `GMM`.
      ValueError: its shapes disagree.

    Reference:
      Kolchinsky and Tracey (2017), "Estimating mixture entropy with pairwise distances", section 3;
      Huber, Bailey, Durrant-Whyte and Hanebeck (2008), "On entropy approximation for Gaussian
      mixture random vectors".

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.5] * 3, [1.5] * 3]), jnp.ones(2))
      >>> lower, upper = gmmjax.entropy_bounds(p)
      >>> print(f"{lower:.3f} {upper:.3f}")
      4.916 4.950
    """
    p = as_float("p", p)
    return Bounds(*where_quick(_entropy_bracket, entropy_by_components, p))


@jax.jit
def _entropy_bracket(p):
    return widened(entropy_quadrature(p), p)


@divergence(symmetric=True, zero_at_equality=True)
@keyless
def js_bounds(p: GMM, q: GMM) -> Bounds:
    r"""Bounds of the Jensen–Shannon divergence, in nats.

    It is :math:`\tfrac12(\mathrm{KL}(p \| m) + \mathrm{KL}(q \| m))` with :math:`m = \tfrac12 (p +
    q)`, whose components are those of both. On the line and in the plane they are `js_quadrature`
    less and plus what it may be off by, as in `kl_bounds`. Elsewhere the upper bound is the smaller
    of log 2, of :math:`H(m) - \tfrac12 (H(p) + H(q))` with `entropy_bounds`, and of half the sum of
    the variational upper bounds of both divergences. The lower bound is the largest of 0, of the
    same difference of entropies, of :math:`\log 2 - \log(1 + \sum_{ab} \sqrt{w_a v_b} \int
    \sqrt{p_a q_b})`, and of the divergence of the marginals along one direction, as in `kl_bounds`;
    do not take second derivatives there.

    Either is widened by a few units in the last place of its terms, as in `kl_bounds`.

    Args:
      p: a mixture.
      q: a mixture of the same dimension.

    Returns:
      A `Bounds` with scalar leaves, within 0 and log 2.

    Raises:
      TypeError: `p` or `q` is not a `GMM`.
      ValueError: shapes disagree.

    Reference:
      Kolchinsky and Tracey (2017), "Estimating mixture entropy with pairwise distances", section 3;
      Hershey and Olsen (2007), "Approximating the Kullback Leibler divergence between Gaussian
      mixture models", section 8.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.5] * 3, [1.5] * 3]), jnp.ones(2))
      >>> lower, upper = gmmjax.js_bounds(p, p._replace(logits=jnp.array([0.0, 1.0])))
      >>> print(f"{lower:.3f} {upper:.3f}")
      0.028 0.029
    """
    p, q = common_float(p=p, q=q)
    return Bounds(*where_quick(_js_bracket, js_by_components, p, q))


@jax.jit
def _js_bracket(p, q):
    return bracket(js_quadrature(p, q), p, q, at_most=math.log(2))
