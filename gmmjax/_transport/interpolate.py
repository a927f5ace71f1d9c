"""The geodesic between two mixtures, and the map along it."""

import jax
import jax.numpy as jnp

from gmmjax._jax import is_traced
from gmmjax._matrices import linalg, scales, triangular, whitening
from gmmjax._mixture.density import responsibilities
from gmmjax._mixture.gmm import GMM, as_real, common_float
from gmmjax._mixture.structure import is_full, is_spherical
from gmmjax._pairs import components
from gmmjax._transport.polar import rotations
from gmmjax._transport.wasserstein import mw2_plan
from gmmjax._validate import keyless


@keyless
def mw2_interpolate(p: GMM, q: GMM, t) -> GMM:
    r"""Displacement interpolation between two mixtures; exact.

    .. math::
      \sum_{ab} \pi_{ab}\, \big((1 - t)\, \mathrm{id} + t\, T_{ab}\big)_\# p_a

    Here :math:`\pi` is `gmmjax.mw2_coupling`, and :math:`T_{ab}` the optimal map from component a
    of p to component b of q: mass moves from its place in p to its place in q along straight lines.
    It is p at t = 0 and q at t = 1, and the mixture Wasserstein distance from p is t times that of
    q: a geodesic. Several t at once: `jax.vmap(mw2_interpolate, (None, None, 0))`.

    Args:
      p: a mixture of K_p components.
      q: a mixture of K_q components, of the same dimension.
      t: a number in [0, 1].

    Returns:
      A `GMM` of K_p·K_q components, that of the pair (a, b) at a·K_q + b; pairs that share no mass
      are absent, and at most K_p + K_q − 1 do but by accident. Diagonal, spherical and tied scales
      stay so where both are. Differentiable in all leaves and in t, with the gradient of
      `gmmjax.mw2_coupling` in the weights; do not take second derivatives.

    Raises:
      TypeError: `p` or `q` is not a `GMM`.
      ValueError: shapes disagree, or `t` is not a number in [0, 1] (traced: NaN).

    Reference:
      Delon and Desolneux (2020), "A Wasserstein-type distance in the space of Gaussian mixture
      models", section 4.3.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.ones(1))
      >>> q = gmmjax.GMM(jnp.zeros(1), jnp.full((1, 1), 4.0), jnp.full(1, 3.0))
      >>> half = gmmjax.mw2_interpolate(p, q, 0.5)
      >>> print(half.means, half.scale)
      [[2.]] [2.]
    """
    p, q = common_float(p=p, q=q)
    t = as_real("t", t)
    if t.shape != ():
        raise ValueError(f"t: expected a number, got shape {t.shape}; lift with jax.vmap")
    if not is_traced(t) and not 0 <= t <= 1:
        raise ValueError(f"t: expected a number in [0, 1], got {t}")
    return _interpolate(p, q, jnp.asarray(t, p.means.dtype))


@jax.jit
def _interpolate(p: GMM, q: GMM, t: jax.Array) -> GMM:
    t = jnp.where((t >= 0) & (t <= 1), t, jnp.nan)
    mass: jax.Array = mw2_plan(p, q).reshape(-1)
    moved = mass > 0
    logits = jnp.where(moved, jnp.log(jnp.where(moved, mass, 1.0)), -jnp.inf)
    logits = jnp.where(jnp.isnan(mass), mass, logits)
    means = (1 - t) * p.means[:, None] + t * q.means[None]
    scale = _between_full(p, q, t) if is_full(p, q) else _between_diagonal(p, q, t)
    return components.of_pairs(p, q, logits, means, scale)


def _between_diagonal(p, q, t):
    """Deviations on the way, `(K_p or 1, K_q or 1, D or 1)`."""
    return (1 - t) * _deviations(p)[:, None] + t * _deviations(q)[None]


def _between_full(p, q, t):
    """Lower factors on the way, `(K_p or 1, K_q or 1, D, D)`."""
    factors_p, factors_q, inverses_q = _factors(p, q)

    def row(factor):
        turned = linalg.matmul(factor[None], rotations(factor, factors_q, inverses_q))
        return triangular.lower_factor((1 - t) * turned + t * factors_q)

    return jax.lax.map(row, factors_p)


@keyless
def mw2_map(p: GMM, q: GMM, x) -> jax.Array:
    r"""Barycentric projection of points along the mixture-Wasserstein plan; exact.

    .. math::
      T(x) = \sum_a r_a(x) \sum_b \frac{\pi_{ab}}{w_a}\, T_{ab}(x)

    Here r are the responsibilities of p, :math:`\pi` is `gmmjax.mw2_coupling`, and :math:`T_{ab}`
    the optimal map from component a of p to component b of q. It is the mean place that x goes to:
    for one Gaussian each the optimal map; for mixtures what it makes of draws from p is near to,
    but not quite, q.

    Args:
      p: a mixture of K_p components in D dimensions.
      q: a mixture of K_q components in D dimensions.
      x: points `(…, D)`.

    Returns:
      Points `(…, D)`; differentiable in all leaves and in `x`, with the gradient of
      `gmmjax.mw2_coupling` in the weights; do not take second derivatives.

    Raises:
      TypeError: `p` or `q` is not a `GMM`.
      ValueError: shapes disagree, or the points are not in the space of p.

    Reference:
      Delon and Desolneux (2020), "A Wasserstein-type distance in the space of Gaussian mixture
      models", section 6.3, T_mean.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.ones(1))
      >>> q = gmmjax.GMM(jnp.zeros(1), jnp.full((1, 1), 4.0), jnp.full(1, 3.0))
      >>> print(gmmjax.mw2_map(p, q, jnp.array([[0.0], [1.0]])).ravel())
      [4. 7.]
    """
    p, q = common_float(p=p, q=q)
    x = jnp.asarray(as_real("x", x), p.means.dtype)
    if x.ndim == 0 or x.shape[-1] != p.dim:
        raise ValueError(f"x: expected points of shape (…, {p.dim}), got {x.shape}")
    return _map(p, q, x)


@jax.jit
def _map(p, q, x):
    plan = mw2_plan(p, q)
    share = linalg.safe_divide(plan, jnp.sum(plan, axis=1, keepdims=True))
    slopes = _full_slopes(p, q, share) if is_full(p, q) else _diagonal_slopes(p, q, share)
    points = x.reshape(-1, p.dim)
    moved = whitening.whiten(slopes, p.means, points.T) + linalg.matmul(share, q.means)[:, :, None]
    weights = responsibilities(p, points).T
    return jnp.sum(weights[:, None] * moved, axis=0).T.reshape(x.shape)


def _diagonal_slopes(p, q, share):
    """Σ_b share_ab σ_b / σ_a, `(K_p, D)`, or `(K_p,)` where both are spherical."""
    towards = jnp.broadcast_to(_deviations(q), (q.num_components, _deviations(q).shape[1]))
    slopes = linalg.matmul(share, towards) / _deviations(p)
    return slopes[:, 0] if is_spherical(p, q) else slopes


def _full_slopes(p, q, share):
    """Σ_b share_ab L_b U_abᵀ L_a⁻¹, `(K_p, D, D)`."""
    factors_p, factors_q, inverses_q = _factors(p, q)
    factors_p = jnp.broadcast_to(factors_p, (p.num_components, *factors_p.shape[1:]))
    share = share if len(factors_q) > 1 else jnp.sum(share, axis=1, keepdims=True)

    def row(factor, part):
        turned = linalg.matmul(factors_q, rotations(factor, factors_q, inverses_q).mT)
        mean = jnp.sum(part[:, None, None] * turned, axis=0)
        return linalg.matmul(mean, triangular.tril_inverse(factor))

    return jax.lax.map(lambda pair: row(*pair), (factors_p, share))


def _factors(p, q):
    """Dense factors of either side, `(K or 1, D, D)`, and the inverses of the second."""
    factors_q = scales.dense_factors(q.scale, q.means)
    return scales.dense_factors(p.scale, p.means), factors_q, triangular.tril_inverse(factors_q)


def _deviations(g):
    return jnp.abs(g.scale).reshape(len(g.scale), -1)
