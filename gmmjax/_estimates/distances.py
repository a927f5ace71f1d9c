"""Total variation and Hellinger's distance: means of functions of log p − log q within [0, 1].

They are sampled from ½(p + q), of which both densities are at most twice as large.
"""

import functools

import jax.numpy as jnp

from gmmjax._estimates.importance import Problem, balanced_estimate
from gmmjax._mixture.gmm import GMM, common_float
from gmmjax._properties import divergence
from gmmjax._sampling import unseen
from gmmjax._sampling.estimate import Estimate, conclude
from gmmjax._sampling.points import sobol
from gmmjax._sampling.settings import check_sampling
from gmmjax._validate import keyed


@divergence(symmetric=True, zero_at_equality=True, at_most=1.0)
@keyed
def total_variation(
    key, p: GMM, q: GMM, *, num_samples: int = 16_384, num_replicates: int = 32, points=sobol
) -> Estimate:
    r"""Total variation distance; an estimate.

    .. math:: \tfrac12 \int |p - q| = \mathbb E_m |\tanh(t/2)|

    Here :math:`t = \log p - \log q` and :math:`m = \tfrac12 (p + q)`; without units, in [0, 1].
    Unbiased, and so is its gradient in all leaves of `p` and `q` unless p = q, where the distance
    has a kink.

    Args:
      key: a JAX key.
      p: a mixture.
      q: a mixture of the same dimension.
      num_samples: number of points for each side, a Python int, rounded up to R·2ᵐ (below R: taken
        as it is, one replicate per point; 1 gives stderr = inf).
      num_replicates: R, the independent replicates that `stderr` is taken from (see `expectation`).
      points: `gmmjax.sobol` or `gmmjax.iid`.

    Returns:
      An `Estimate` with scalar leaves.

    Raises:
      TypeError: `key` is not a key, `p` or `q` is not a `GMM`, or a count is not an int.
      ValueError: shapes disagree, or a count is below 1.

    Reference:
      Nielsen and Sun (2018), "Guaranteed deterministic bounds on the total variation distance
      between univariate mixtures", equation 1.

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0], [1.0]]), jnp.ones(2))
      >>> q = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.full(1, 2.0))
      >>> value, stderr = gmmjax.total_variation(jax.random.key(0), p, q)
      >>> print(f"{value:.2f}", bool(stderr < 1e-3))
      0.16 True
    """
    return _bounded_by_one(key, p, q, _total_variation, num_samples, num_replicates, points)


@divergence(symmetric=True, zero_at_equality=True, at_most=1.0)
@keyed
def squared_hellinger(
    key, p: GMM, q: GMM, *, num_samples: int = 16_384, num_replicates: int = 32, points=sobol
) -> Estimate:
    r"""Squared Hellinger distance; an estimate.

    .. math:: 1 - \int \sqrt{pq} = \mathbb E_m[\tanh(t/4) \tanh(t/2)]

    Here :math:`t = \log p - \log q` and :math:`m = \tfrac12 (p + q)`; without units, in [0, 1]:
    others multiply it by 2. Unbiased, as is its gradient in all leaves of `p` and `q`; never
    negative.

    Args:
      key: a JAX key.
      p: a mixture.
      q: a mixture of the same dimension.
      num_samples: number of points for each side, a Python int, rounded up to R·2ᵐ (below R: taken
        as it is, one replicate per point; 1 gives stderr = inf).
      num_replicates: R, the independent replicates that `stderr` is taken from (see `expectation`).
      points: `gmmjax.sobol` or `gmmjax.iid`.

    Returns:
      An `Estimate` with scalar leaves.

    Raises:
      TypeError: `key` is not a key, `p` or `q` is not a `GMM`, or a count is not an int.
      ValueError: shapes disagree, or a count is below 1.

    Reference:
      Liese and Vajda (2006), "On divergences and informations in statistics and information
      theory", equation 9.

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0], [1.0]]), jnp.ones(2))
      >>> q = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.full(1, 2.0))
      >>> value, stderr = gmmjax.squared_hellinger(jax.random.key(0), p, q)
      >>> print(f"{value:.3f}", bool(stderr < 1e-3))
      0.036 True
    """
    return _bounded_by_one(key, p, q, _squared_hellinger, num_samples, num_replicates, points)


def _bounded_by_one(key, p, q, function, num_samples, num_replicates, points) -> Estimate:
    """E[function(t)] of the log-ratio t under ½(p + q), for a function with values in [0, 1]."""
    p, q = common_float(p=p, q=q)
    sampling = check_sampling(num_samples, num_replicates, points)
    return _estimate((key, (p, q)), Problem(function, sampling))


def _before(p, q, problem):
    return (), ()


def _after(found, _, __, problem):
    num_samples = problem.sampling.num_samples
    # A few points may carry all of it, or all that is missing to 1.
    few = unseen.missed_point(found.alike, 1.0, num_samples)
    missing = 1 - found.alike
    few_missing = unseen.missed_point(missing, 1.0, num_samples)
    between = unseen.missed_between(missing, 1.0, num_samples)
    one_point = functools.reduce(jnp.maximum, (few, few_missing, between))
    return conclude(found, one_point, bound=1.0)


_estimate = balanced_estimate(_before, _after)


def _total_variation(t, _):
    return jnp.abs(jnp.tanh(0.5 * t))


def _squared_hellinger(t, _):
    return jnp.tanh(0.25 * t) * jnp.tanh(0.5 * t)
