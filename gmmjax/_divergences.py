"""Kullback–Leibler and Jensen–Shannon divergences."""

import jax
import jax.numpy as jnp

from gmmjax import _density, _points
from gmmjax._estimate import Estimate, estimate
from gmmjax._gmm import GMM, common_float, mean
from gmmjax._validate import check_count, keyed


@keyed
def kl_divergence(
    key, p: GMM, q: GMM, *, num_samples: int = 16_384, points=_points.sobol, stick_the_landing: bool = True
) -> Estimate:
    r"""Kullback–Leibler divergence, :math:`\mathrm{KL}(p \| q) = \mathbb E_p[\log p - \log q]`, in nats; an estimate.

    Unbiased, as is its gradient in all leaves of `p` and `q`, weights included. It can come out below 0 when
    the truth is within a few `stderr` of it; it is never clamped.

    Args:
      key: a JAX key.
      p: the mixture to sample.
      q: the mixture to compare it with, of the same dimension.
      num_samples: number of points, a Python int, rounded up to 32·2ᵐ (below 32: taken as it is, one
        replicate per point; 1 gives stderr = inf).
      points: `gmmjax.sobol` or `gmmjax.iid`.
      stick_the_landing: leave out of the gradient the score of `p`, whose mean is zero: less noise, none at
        all for `p` where p = q. With False the gradient is the derivative of the returned value for this key,
        as line searches and second derivatives need.

    Returns:
      An `Estimate` with scalar leaves.

    Raises:
      TypeError: `key` is not a key, `p` or `q` is not a `GMM`, or `num_samples` is not an int.
      ValueError: shapes disagree, or `num_samples` < 1.

    Reference:
      Hershey and Olsen (2007), "Approximating the Kullback Leibler divergence between Gaussian mixture models",
      section 2; Roeder, Wu and Duvenaud (2017), "Sticking the landing", equation 7.

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0], [1.0]]), jnp.ones(2))
      >>> q = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.full(1, 2.0))
      >>> value, stderr = gmmjax.kl_divergence(jax.random.key(0), p, q)
      >>> print(f"{value:.3f}", bool(stderr < 1e-3))
      0.106 True
    """
    check_count("num_samples", num_samples)
    p, q = common_float(p=p, q=q)
    return _kl_divergence(key, p, q, num_samples, points, stick_the_landing)


@jax.jit(static_argnums=(3, 4, 5))
def _kl_divergence(key, p, q, num_samples, points, stick_the_landing):
    p, q = _recentred(p, q)
    densities = _density.precision(_landed(p, stick_the_landing)), _density.precision(q)
    return estimate(key, [(p, lambda d, x: _log_ratio(d, x))], densities, num_samples, points)


@keyed
def js_divergence(
    key, p: GMM, q: GMM, *, num_samples: int = 16_384, points=_points.sobol, stick_the_landing: bool = True
) -> Estimate:
    r"""Jensen–Shannon divergence, :math:`\tfrac12(\mathrm{KL}(p \| m) + \mathrm{KL}(q \| m))`, in nats; an estimate.

    Here :math:`m = \tfrac12 (p + q)`, and the truth lies in [0, log 2]. Unbiased, as is its gradient in all leaves
    of `p` and `q`, weights included; symmetric for one key; never clamped. Both sides use the same points, and
    much of their error cancels where the mixtures are close.

    Args:
      key: a JAX key.
      p: a mixture.
      q: a mixture of the same dimension.
      num_samples: number of points for each side, a Python int, rounded up to 32·2ᵐ (below 32: taken as it is, one
        replicate per point; 1 gives stderr = inf).
      points: `gmmjax.sobol` or `gmmjax.iid`.
      stick_the_landing: leave out of the gradient the scores, whose means cancel: less noise, none at all
        where p = q. With False the gradient is the derivative of the returned value for this key,
        as line searches and second derivatives need.

    Returns:
      An `Estimate` with scalar leaves.

    Raises:
      TypeError: `key` is not a key, `p` or `q` is not a `GMM`, or `num_samples` is not an int.
      ValueError: shapes disagree, or `num_samples` < 1.

    Reference:
      Lin (1991), "Divergence measures based on the Shannon entropy", equation 4.1; Roeder, Wu and
      Duvenaud (2017), "Sticking the landing", equation 7.

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0], [1.0]]), jnp.ones(2))
      >>> q = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.full(1, 2.0))
      >>> value, stderr = gmmjax.js_divergence(jax.random.key(0), p, q)
      >>> print(f"{value:.3f}", bool(stderr < 1e-3))
      0.032 True
    """
    check_count("num_samples", num_samples)
    p, q = common_float(p=p, q=q)
    return _js_divergence(key, p, q, num_samples, points, stick_the_landing)


@jax.jit(static_argnums=(3, 4, 5))
def _js_divergence(key, p, q, num_samples, points, stick_the_landing):
    p, q = _recentred(p, q)
    densities = tuple(_density.precision(_landed(g, stick_the_landing)) for g in (p, q))
    # log p − log m = log 2 − softplus(log q − log p): exactly 0 where the densities agree.
    from_p = lambda d, x: 0.5 * (jnp.log(2.0).astype(x.dtype) - jax.nn.softplus(-_log_ratio(d, x)))
    from_q = lambda d, x: 0.5 * (jnp.log(2.0).astype(x.dtype) - jax.nn.softplus(_log_ratio(d, x)))
    return estimate(key, [(p, from_p), (q, from_q)], densities, num_samples, points)


def _log_ratio(densities, x):
    return _density.evaluate(densities[0], x) - _density.evaluate(densities[1], x)


def _landed(g, stick_the_landing):
    return jax.tree.map(jax.lax.stop_gradient, g) if stick_the_landing else g


def _recentred(*mixtures):
    # Divergences do not change under a common shift, and float32 has no digits to spare for an offset.
    origin = jax.lax.stop_gradient(mean(mixtures[0]))[None]
    return tuple(g._replace(means=g.means - origin) for g in mixtures)
