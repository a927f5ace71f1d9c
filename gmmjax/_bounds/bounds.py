"""Bounds that hold: on KL, on the entropy and on the Jensen–Shannon divergence."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gmmjax._bounds.cross_entropy import (
    ORDERS,
    cross_entropy_bounds,
    mutual_information_bounds,
    own_integrals,
    weighted,
)
from gmmjax._bounds.projection import js_integrand, kl_integrand, projected
from gmmjax._bounds.variational import variational_upper
from gmmjax._mixture import linalg
from gmmjax._mixture.build import concatenate, stack_checked
from gmmjax._mixture.gmm import GMM, as_float, common_float, index
from gmmjax._mixture.ratios import factor_ratios, kl_table
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

    Here :math:`\mathrm{KL}(p \| q) = \mathbb E_p[\log p - \log q]`.

    The upper bound is the smaller of the variational bound of Hershey and Olsen, at convergence,
    and of :math:`\sum_a w_a \log \sum_{a'} w_{a'} e^{-C(p_a, p_{a'})} / \sum_b v_b
    e^{-\mathrm{KL}(p_a \| q_b)}` with Chernoff distances C. It is never above that of Durrieu et
    al., nor above convexity, :math:`\sum_{ab} w_a v_b \mathrm{KL}(p_a \| q_b)`.

    The lower bound is the largest of 0, that of Durrieu et al., and that with
    :math:`\mathbb E_{p_a}[\log q] \le \log \int p_a q\, q_c^{-\gamma} + \gamma \mathbb
    E_{p_a}[\log q_c]` for the component c of q nearest to each of p and the best of five γ ∈
    [0, 1]; 0 is that of Durrieu et al. These are exact for single Gaussians, and close where
    components are far apart. Where components overlap it is the divergence of the marginals along
    one direction under a little noise, which the data-processing inequality says is no larger: a
    sum over 385 points, less what half of them would change; the direction is the best that a few
    steps uphill find.

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
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[-3.0], [3.0]]), jnp.ones(2))
      >>> lower, upper = gmmjax.kl_bounds(p, p._replace(logits=jnp.array([0.0, 1.0])))
      >>> print(f"{lower:.3f} {upper:.3f}")
      0.120 0.120
    """
    p, q = common_float(p=p, q=q)
    return _kl_bounds(p, q)


@jax.jit
def _kl_bounds(p, q):
    both = stack_checked([p, q])  # one batch for p against either: half of the compilation
    p, q = index(both, 0), index(both, 1)
    ratios = jax.vmap(factor_ratios, (None, 0))(p, both)
    kl = jax.vmap(kl_table)(ratios)
    own, cross = index(ratios, 0), index(ratios, 1)
    integrals = own_integrals(own)
    low_information, up_information = mutual_information_bounds(p, own, kl[0], integrals)
    low_cross_entropy, up_cross_entropy = cross_entropy_bounds(p, q, cross, kl[1])
    lower = low_cross_entropy - up_information
    upper = jnp.minimum(up_cross_entropy - low_information, variational_upper(p, q, kl[1]))
    lower, upper = _widened(lower, upper, p, q)
    lower = jnp.maximum(lower, projected(kl_integrand, p, q))
    return Bounds(jnp.maximum(lower, 0.0), upper)


@keyless
def entropy_bounds(p: GMM) -> Bounds:
    r"""Bounds of the differential entropy, :math:`H(p) = -\int p \log p`, in nats.

    With the entropies :math:`H_a` of the components and distances d between them, either is
    :math:`\sum_a w_a H_a - \sum_a w_a \log \sum_{a'} w_{a'} e^{-d(p_a, p_{a'})}`: Chernoff
    distances give a lower bound (the best of three orders, and of :math:`-\sum_a w_a \log \int p_a
    p`), Kullback–Leibler divergences an upper one (or the entropy of a Gaussian with the moments of
    p, where that is smaller). Conditional entropy below and conditional entropy plus that of the
    weights above are never closer. Exact for single Gaussians.

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
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0], [1.0]]), jnp.ones(2))
      >>> lower, upper = gmmjax.entropy_bounds(p)
      >>> print(f"{lower:.3f} {upper:.3f}")
      1.645 1.766
    """
    return _entropy_bounds(as_float("p", p))


@jax.jit
def _entropy_bounds(p):
    log_two_pi_e = 1 + jnp.log(2 * jnp.pi).astype(p.means.dtype)
    known = weighted(p, linalg.log_abs_det(p.scale, p.means)) + 0.5 * p.dim * log_two_pi_e
    own = factor_ratios(p, p)
    kl, integrals = kl_table(own), own_integrals(own)
    lower, upper = mutual_information_bounds(p, own, kl, integrals)
    return _widened(known + lower, known + upper, p, p)


@divergence(symmetric=True, zero_at_equality=True)
@keyless
def js_bounds(p: GMM, q: GMM) -> Bounds:
    r"""Bounds of the Jensen–Shannon divergence, in nats.

    It is :math:`\tfrac12(\mathrm{KL}(p \| m) + \mathrm{KL}(q \| m))` with :math:`m = \tfrac12 (p +
    q)`, whose components are those of both. The upper bound is the smaller of log 2, of
    :math:`H(m) - \tfrac12 (H(p) + H(q))` with `entropy_bounds`, and of half the sum of the
    variational upper bounds of both divergences. The lower bound is the largest of 0, of the same
    difference of entropies, of :math:`\log 2 - \log(1 + \sum_{ab} \sqrt{w_a v_b} \int
    \sqrt{p_a q_b})`, and of the divergence of the marginals along one direction, as in `kl_bounds`.

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
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[-3.0], [3.0]]), jnp.ones(2))
      >>> lower, upper = gmmjax.js_bounds(p, p._replace(logits=jnp.array([0.0, 1.0])))
      >>> print(f"{lower:.3f} {upper:.3f}")
      0.028 0.029
    """
    p, q = common_float(p=p, q=q)
    return _js_bounds(p, q)


@jax.jit
def _js_bounds(p, q):
    # Write p, q and m over the same K_p + K_q components, absent where needed: one table of each
    # kind then serves all three.
    both = concatenate([p, q])
    half = jnp.asarray(0.5, both.means.dtype)
    no_p, no_q = (jnp.full_like(g.logits, -jnp.inf) for g in (p, q))
    only_p = jnp.concatenate([p.logits, no_q])
    only_q = jnp.concatenate([no_p, q.logits])
    mixed = both._replace(logits=jnp.log(half) + both.logits)
    own = factor_ratios(both, both)
    kl, integrals = kl_table(own), own_integrals(own)

    def information(logits):
        return mutual_information_bounds(both._replace(logits=logits), own, kl, integrals)

    def against_m(logits):
        return variational_upper(both._replace(logits=logits), mixed, kl)

    found = jax.vmap(information)(jnp.stack([only_p, only_q, mixed.logits]))
    (low_p, low_q, low_m), (up_p, up_q, up_m) = found
    variational = jax.vmap(against_m)(jnp.stack([only_p, only_q]))
    chernoff = integrals[ORDERS.index((0.5, 0.5))]
    affinity = _log_affinity(p, q, chernoff[: p.num_components, p.num_components :])
    by_affinity = -jnp.log(half) - jax.nn.softplus(affinity)
    lower = jnp.maximum(low_m - half * (up_p + up_q), by_affinity)
    upper = jnp.minimum(up_m - half * (low_p + low_q), jnp.mean(variational))
    lower, upper = _widened(lower, upper, p, q)
    lower = jnp.maximum(lower, projected(js_integrand, p, q))
    return Bounds(jnp.maximum(lower, 0.0), jnp.minimum(upper, -jnp.log(half)))


def _log_affinity(p, q, table):
    """Logarithm of Σ_ab √(w_a v_b) ∫ √(p_a q_b), which ∫ √(pq) never exceeds."""
    log_w, log_v = jax.nn.log_softmax(p.logits), jax.nn.log_softmax(q.logits)
    return jax.nn.logsumexp(0.5 * (log_w[:, None] + log_v[None]) + table)


def _widened(lower, upper, p, q):
    """Bounds moved apart by what rounding may have done to them."""
    size = p.dim + _largest_log_det(p) + _largest_log_det(q)
    return Bounds(lower - _slack(lower, size), upper + _slack(upper, size))


def _largest_log_det(g):
    return jnp.max(jnp.abs(linalg.log_abs_det(g.scale, g.means)))


def _slack(value, size):
    eps = jnp.finfo(value.dtype).eps
    return 8 * eps * jax.lax.stop_gradient(size + jnp.abs(value))
