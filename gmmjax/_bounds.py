"""Bounds that hold: on KL, on the entropy and on the Jensen–Shannon divergence.

Everything is measured against the entropies of the components, H_a = H(p_a), which cancel in divergences.
The *information* of a mixture is H(p) − Σ w_a H_a, and its *surprise* at q is −Σ w_a (E_{p_a}[log q] + H_a):
KL(p‖q) is the surprise of p at q less the information of p.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax import _gaussian, _linalg
from gmmjax._build import concatenate, stack
from gmmjax._gmm import GMM, as_float, common_float, covariance
from gmmjax._variational import mean_log_sum, variational_upper

ORDERS = (0.3, 0.7), (0.5, 0.5), (0.7, 0.3)  # of the Chernoff distances; the best is taken
PRODUCT = (1.0, 1.0)


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


def kl_bounds(p: GMM, q: GMM) -> Bounds:
    r"""Bounds of the Kullback–Leibler divergence, :math:`\mathrm{KL}(p \| q) = \mathbb E_p[\log p - \log q]`, in nats.

    The upper bound is the smaller of the variational bound of Hershey and Olsen, at convergence, and of
    :math:`\sum_a w_a \log \sum_{a'} w_{a'} e^{-C(p_a, p_{a'})} / \sum_b v_b e^{-\mathrm{KL}(p_a \| q_b)}`
    with Chernoff distances C. It is never above that of Durrieu et al., nor above convexity,
    :math:`\sum_{ab} w_a v_b \mathrm{KL}(p_a \| q_b)`. The lower bound is the largest of 0, that of Durrieu et al., and
    that with :math:`\mathbb E_{p_a}[\log q] \le \log \int p_a q / q_c + \mathbb E_{p_a}[\log q_c]` for the
    component c of q nearest to each of p. Both are exact for single Gaussians, and close where components are far
    apart.

    Either is widened by 8ε (D + its size + that of the largest log-determinants), so that it holds in floating-point
    arithmetic too, for covariances that are not themselves at the limit of the precision. At p = q the lower bound
    is 0, and the upper one that little.

    Args:
      p: a mixture.
      q: a mixture of the same dimension.

    Returns:
      A `Bounds` with scalar leaves.

    Raises:
      TypeError: `p` or `q` is not a `GMM`.
      ValueError: shapes disagree.

    Reference:
      Durrieu, Thiran and Kelly (2012), "Lower and upper bounds for approximation of the Kullback-Leibler divergence
      between Gaussian mixture models", with :math:`t_{ab} = \mathcal N(\mu_a; \nu_b, \Sigma_a + \Lambda_b)`; Hershey
      and Olsen (2007), "Approximating the Kullback Leibler divergence between Gaussian mixture models", section 8.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[-3.0], [3.0]]), jnp.ones(2))
      >>> lower, upper = gmmjax.kl_bounds(p, p._replace(logits=jnp.array([0.0, 1.0])))
      >>> print(f"{lower:.3f} {upper:.3f}")
      0.096 0.120
    """
    p, q = common_float(p=p, q=q)
    return _kl_bounds(p, q)


@jax.jit
def _kl_bounds(p, q):
    both = stack([p, q])  # one batch for p against p and against q, for the sake of compile time
    p, q = (jax.tree.map(lambda leaf, i=i: leaf[i], both) for i in (0, 1))
    orders = jnp.asarray([*ORDERS, PRODUCT], p.means.dtype)
    right = jax.tree.map(lambda leaf: leaf[np.array([0, 0, 0, 0, 1])], both)
    integrals = jax.vmap(_gaussian.pairwise_log_integral, (None, 0, 0, 0))(
        p, right, *orders[np.array([0, 1, 2, 3, 3])].T
    )
    own, kl = jax.vmap(_gaussian.pairwise_kl, (None, 0))(p, both)
    information = _information(p, own, integrals[:4])
    surprise = _surprise(p, q, kl, integrals[4])
    lower = surprise.lower - information.upper
    upper = jnp.minimum(surprise.upper - information.lower, variational_upper(p, q, kl))
    lower, upper = _widened(lower, upper, p, q)
    return Bounds(jnp.maximum(lower, 0.0), upper)


def entropy_bounds(p: GMM) -> Bounds:
    r"""Bounds of the differential entropy, :math:`H(p) = -\int p \log p`, in nats.

    With the entropies :math:`H_a` of the components and distances d between them, either is
    :math:`\sum_a w_a H_a - \sum_a w_a \log \sum_{a'} w_{a'} e^{-d(p_a, p_{a'})}`: Chernoff distances give a lower
    bound (the best of three orders, and of :math:`-\sum_a w_a \log \int p_a p`), Kullback–Leibler divergences an
    upper one (or the entropy of a Gaussian with the moments of p, where that is smaller). Conditional entropy below and
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
      Kolchinsky and Tracey (2017), "Estimating mixture entropy with pairwise distances", section 3; Huber, Bailey,
      Durrant-Whyte and Hanebeck (2008), "On entropy approximation for Gaussian mixture random vectors".

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0], [1.0]]), jnp.ones(2))
      >>> lower, upper = gmmjax.entropy_bounds(p)
      >>> print(f"{lower:.3f} {upper:.3f}")
      1.638 1.766
    """
    return _entropy_bounds(as_float("p", p))


@jax.jit
def _entropy_bounds(p):
    known = _weighted(p, _linalg.log_abs_det(p.scale, p.means)) + 0.5 * p.dim * (
        1 + jnp.log(2 * jnp.pi).astype(p.means.dtype)
    )
    information = _information(p, _gaussian.pairwise_kl(p, p), _own_integrals(p))
    return _widened(known + information.lower, known + information.upper, p, p)


def js_bounds(p: GMM, q: GMM) -> Bounds:
    r"""Bounds of the Jensen–Shannon divergence, :math:`\tfrac12(\mathrm{KL}(p \| m) + \mathrm{KL}(q \| m))`, in nats.

    With :math:`m = \tfrac12 (p + q)`, of which the components of both are components. The upper bound is the smaller of
    log 2, of :math:`H(m) - \tfrac12 (H(p) + H(q))` with `entropy_bounds`, and of half the sum of the variational upper
    bounds of both divergences. The lower bound is the largest of 0, of the same difference of entropies, and of
    :math:`\log 2 - \log(1 + \sum_{ab} \sqrt{w_a v_b} \int \sqrt{p_a q_b})`.

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
      Kolchinsky and Tracey (2017), "Estimating mixture entropy with pairwise distances", section 3; Hershey and Olsen
      (2007), "Approximating the Kullback Leibler divergence between Gaussian mixture models", section 8.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[-3.0], [3.0]]), jnp.ones(2))
      >>> lower, upper = gmmjax.js_bounds(p, p._replace(logits=jnp.array([0.0, 1.0])))
      >>> print(f"{lower:.3f} {upper:.3f}")
      0.000 0.028
    """
    p, q = common_float(p=p, q=q)
    return _js_bounds(p, q)


@jax.jit
def _js_bounds(p, q):
    both = concatenate([p, q])
    half = jnp.asarray(0.5, both.means.dtype)
    # Either side is all of m's components with those of the other absent: one table of each kind serves all.
    absent = [jnp.full_like(g.logits, -jnp.inf) for g in (p, q)]
    sides = jnp.stack([jnp.concatenate([p.logits, absent[1]]), jnp.concatenate([absent[0], q.logits])])
    mixed = both._replace(logits=jnp.log(half) + both.logits)
    logits = jnp.concatenate([sides, mixed.logits[None]])
    kl, integrals = _gaussian.pairwise_kl(both, both), _own_integrals(both)
    information = jax.vmap(lambda logits: _information(both._replace(logits=logits), kl, integrals))(logits)
    lower = information.lower[2] - half * (information.upper[0] + information.upper[1])
    upper = information.upper[2] - half * (information.lower[0] + information.lower[1])
    against_m = jax.vmap(lambda logits: variational_upper(both._replace(logits=logits), mixed, kl))(sides)
    weights = half * (jax.nn.log_softmax(p.logits)[:, None] + jax.nn.log_softmax(q.logits)[None])
    chernoff = integrals[ORDERS.index((0.5, 0.5)), : p.num_components, p.num_components :]
    overlap = jax.nn.logsumexp(weights + chernoff)
    lower = jnp.maximum(lower, -jax.nn.softplus(overlap) - jnp.log(half))
    lower, upper = _widened(lower, jnp.minimum(upper, jnp.mean(against_m)), p, q)
    return Bounds(jnp.maximum(lower, 0.0), jnp.minimum(upper, -jnp.log(half)))


def _own_integrals(p):
    orders = jnp.asarray([*ORDERS, PRODUCT], p.means.dtype)
    return jax.vmap(lambda order: _gaussian.pairwise_log_integral(p, p, *order))(orders)


def _information(p, kl, integrals):
    """Bounds of H(p) − Σ w_a H_a, from tables of its components against each other."""
    chernoff = jax.vmap(lambda table: -mean_log_sum(p, p, table))(integrals[:-1])
    lower = jnp.maximum(jnp.max(chernoff), -mean_log_sum(p, p, _entropies(p) + integrals[-1]))
    return Bounds(lower, jnp.minimum(-mean_log_sum(p, p, -kl), _moment_information(p)))


def _entropies(p):
    """H_a, `(K, 1)`, less ½ D log 2π, which the products lack."""
    return jnp.broadcast_to(0.5 * p.dim + _linalg.log_abs_det(p.scale, p.means), p.logits.shape)[:, None]


def _surprise(p, q, kl, products):
    """Bounds of −Σ w_a (E_{p_a}[log q] + H_a), from tables of the components."""
    log_v = jax.nn.log_softmax(q.logits)[None]
    jensen = jax.nn.logsumexp(log_v + _entropies(p) + products, axis=1)
    # Jensen's inequality for q / q_c, with c nearest to p_a: no loss where c is all that matters.
    nearest = jnp.argmax(log_v - kl, axis=1)
    tilted = _gaussian.pairwise_tilted(p, q, nearest)
    infinite = jnp.isinf(tilted)
    useless = jnp.any(infinite & (log_v > -jnp.inf), axis=1)
    tilted = jax.nn.logsumexp(log_v + jnp.where(infinite, 0.0, tilted), axis=1)
    tilted -= jnp.take_along_axis(kl, nearest[:, None], axis=1)[:, 0]
    tilted = jnp.where(useless, jensen, jnp.minimum(jensen, tilted))
    lower = -_weighted(p, jnp.minimum(tilted, 0.0))  # E_{p_a}[log q] ≤ −H_a
    return Bounds(lower, -mean_log_sum(p, q, -kl))


def _moment_information(p):
    """Entropy of a Gaussian with the moments of p, less Σ w_a H_a."""
    # In coordinates where the heaviest component is standard normal: this does not square its condition number.
    heaviest = jnp.argmax(p.logits)
    scale = p.scale[heaviest][None] if p.scale.shape[0] > 1 else p.scale
    one = GMM(p.logits[heaviest][None], p.means[heaviest][None], scale)
    inverse = _linalg.inverse_scale(one.scale, one.means)
    scales = _gaussian.relative_scale(p.scale, p.means, inverse, one.means)[:, 0].reshape(p.scale.shape)
    white = GMM(p.logits, _linalg.whiten(inverse, one.means, p.means.T)[0].T, scales)
    log_det = _linalg.log_abs_det(_linalg.cholesky(covariance(white))[None], white.means)
    return log_det[0] - _weighted(p, _linalg.log_abs_det(scales, p.means))


def _weighted(p, values):
    return jnp.vdot(jax.nn.softmax(p.logits), jnp.broadcast_to(values, p.logits.shape))


def _widened(lower, upper, p, q):
    """Bounds moved apart by what rounding may have done to them."""
    log_dets = [jnp.max(jnp.abs(_linalg.log_abs_det(g.scale, g.means))) for g in (p, q)]
    size = p.dim + log_dets[0] + log_dets[1]
    slack = lambda value: 8 * jnp.finfo(value.dtype).eps * jax.lax.stop_gradient(size + jnp.abs(value))
    return Bounds(lower - slack(lower), upper + slack(upper))
