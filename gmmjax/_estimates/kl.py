"""Divergences of Kullback and Leibler's kind, E_p[log p − log q]: both ways, and to a blend."""

import jax

from gmmjax._estimates.log_ratios import estimate_log_ratios
from gmmjax._estimates.recipes import BLEND, LogRatio, Options
from gmmjax._mixture.gmm import GMM, common_float
from gmmjax._properties import divergence
from gmmjax._sampling.estimate import Estimate
from gmmjax._sampling.points import sobol
from gmmjax._sampling.settings import check_sampling
from gmmjax._validate import check_between, keyed

FORWARD = LogRatio(under=0, of=0, over=1)  # KL(p‖q)
BACKWARD = LogRatio(under=1, of=1, over=0)  # KL(q‖p)
TO_BLEND = LogRatio(under=0, of=0, over=BLEND)


@divergence(zero_at_equality=True)
@keyed
def kl_divergence(
    key,
    p: GMM,
    q: GMM,
    *,
    num_samples: int = 16_384,
    num_replicates: int = 32,
    points=sobol,
    stick_the_landing: bool = True,
    control_variate: bool = True,
) -> Estimate:
    r"""Kullback–Leibler divergence, in nats; an estimate.

    .. math:: \mathrm{KL}(p \| q) = \mathbb E_p[\log p - \log q]

    Unbiased, as is its gradient in all leaves of `p` and `q`, weights included. It can come out
    below 0 when the truth is within a few `stderr` of it; it is never clamped. For single Gaussians
    it is exact to rounding.

    Args:
      key: a JAX key.
      p: the mixture to sample.
      q: the mixture to compare it with, of the same dimension.
      num_samples: number of points, a Python int, rounded up to R·2ᵐ (below R: taken as it is, one
        replicate per point; 1 gives stderr = inf).
      num_replicates: R, the independent replicates that `stderr` is taken from (see `expectation`).
      points: `gmmjax.sobol` or `gmmjax.iid`.
      stick_the_landing: leave out of the gradient the score of `p`, whose mean is zero: less noise,
        none at all for `p` where p = q. With False the gradient is the derivative of the returned
        value for this key, as line searches and second derivatives need, but for p = q to the bit,
        where the value with its control has a kink.
      control_variate: subtract what has a mean in closed form, with coefficients fitted around each
        mean. Not beyond 2²¹ pairs of components, about 1,000 on each side, where nothing of K²
        numbers is made.

    Returns:
      An `Estimate` with scalar leaves.

    Raises:
      TypeError: `key` is not a key, `p` or `q` is not a `GMM`, or a count is not an int.
      ValueError: shapes disagree, or a count is below 1.

    Reference:
      Hershey and Olsen (2007), "Approximating the Kullback Leibler divergence between Gaussian
      mixture models", section 2; Roeder, Wu and Duvenaud (2017), "Sticking the landing", equation
      7; Chen, Hershey, Olsen and Yashchin (2008), "Accelerated Monte Carlo for Kullback-Leibler
      divergence between Gaussian mixture models".

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0], [1.0]]), jnp.ones(2))
      >>> q = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.full(1, 2.0))
      >>> value, stderr = gmmjax.kl_divergence(jax.random.key(0), p, q)
      >>> print(f"{value:.3f}", bool(stderr < 1e-3))
      0.106 True
    """
    p, q = common_float(p=p, q=q)
    sampling = check_sampling(num_samples, num_replicates, points)
    options = Options(stick_the_landing, control_variate)
    return estimate_log_ratios(key, (p, q), (FORWARD,), sampling, options)


@divergence(symmetric=True, zero_at_equality=True)
@keyed
def jeffreys_divergence(
    key,
    p: GMM,
    q: GMM,
    *,
    num_samples: int = 16_384,
    num_replicates: int = 32,
    points=sobol,
    stick_the_landing: bool = True,
    control_variate: bool = True,
) -> Estimate:
    r"""Jeffreys divergence, in nats; an estimate.

    .. math:: \mathrm{KL}(p \| q) + \mathrm{KL}(q \| p)

    Unbiased, as is its gradient in all leaves of `p` and `q`; symmetric for one key up to the order
    of sums; never clamped.

    Args:
      key: a JAX key.
      p: a mixture.
      q: a mixture of the same dimension.
      num_samples: number of points for each side, a Python int, rounded up to R·2ᵐ (below R: taken
        as it is, one replicate per point; 1 gives stderr = inf).
      num_replicates: R, the independent replicates that `stderr` is taken from (see `expectation`).
      points: `gmmjax.sobol` or `gmmjax.iid`.
      stick_the_landing: leave out of the gradient the scores of the sampled mixtures, whose mean is
        zero: less noise. With False the gradient is the derivative of the returned value for this
        key, as line searches and second derivatives need.
      control_variate: subtract what has a mean in closed form, with coefficients fitted around each
        mean. Not beyond 2²¹ pairs of components, about 1,000 on each side, where nothing of K²
        numbers is made.

    Returns:
      An `Estimate` with scalar leaves.

    Raises:
      TypeError: `key` is not a key, `p` or `q` is not a `GMM`, or a count is not an int.
      ValueError: shapes disagree, or a count is below 1.

    Reference:
      Jeffreys (1946), "An invariant form for the prior probability in estimation problems",
      equation 1.

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0], [1.0]]), jnp.ones(2))
      >>> q = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.full(1, 2.0))
      >>> value, stderr = gmmjax.jeffreys_divergence(jax.random.key(0), p, q)
      >>> print(f"{value:.2f}", bool(stderr < 1e-3))
      0.36 True
    """
    p, q = common_float(p=p, q=q)
    sampling = check_sampling(num_samples, num_replicates, points)
    options = Options(stick_the_landing, control_variate)
    return estimate_log_ratios(key, (p, q), (FORWARD, BACKWARD), sampling, options)


@divergence(zero_at_equality=True)
@keyed
def skew_kl_divergence(
    key,
    p: GMM,
    q: GMM,
    *,
    alpha: float | jax.Array,
    num_samples: int = 16_384,
    num_replicates: int = 32,
    points=sobol,
    stick_the_landing: bool = True,
    control_variate: bool = True,
) -> Estimate:
    r"""Skew KL divergence, in nats; an estimate.

    .. math:: \mathrm{KL}(p \| (1 - \alpha) p + \alpha q)

    Finite for every pair, at most :math:`-\log(1 - \alpha)`; α = 1 is `kl_divergence`. Unbiased, as
    is its gradient in all leaves of `p` and `q`; never clamped.

    Args:
      key: a JAX key.
      p: the mixture to sample.
      q: the mixture to compare it with, of the same dimension.
      alpha: the share of q in what p is compared with, in (0, 1]; it may be traced.
      num_samples: number of points, a Python int, rounded up to R·2ᵐ (below R: taken as it is, one
        replicate per point; 1 gives stderr = inf).
      num_replicates: R, the independent replicates that `stderr` is taken from (see `expectation`).
      points: `gmmjax.sobol` or `gmmjax.iid`.
      stick_the_landing: leave out of the gradient the score of `p`, whose mean is zero: less noise.
        With False the gradient is the derivative of the returned value for this key, as line
        searches and second derivatives need.
      control_variate: subtract what has a mean in closed form, with coefficients fitted around each
        mean. Not beyond 2²¹ pairs of components, about 1,000 on each side, where nothing of K²
        numbers is made.

    Returns:
      An `Estimate` with scalar leaves.

    Raises:
      TypeError: `key` is not a key, `p` or `q` is not a `GMM`, or a count is not an int.
      ValueError: shapes disagree, or a count is below 1; `alpha` is not in (0, 1].

    Reference:
      Lee (1999), "Measures of distributional similarity", equation 4.

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0], [1.0]]), jnp.ones(2))
      >>> q = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.full(1, 2.0))
      >>> value, stderr = gmmjax.skew_kl_divergence(jax.random.key(0), p, q, alpha=0.5)
      >>> print(f"{value:.3f}", bool(stderr < 1e-3))
      0.040 True
    """
    p, q = common_float(p=p, q=q)
    alpha = check_between("alpha", alpha, 0.0, 1.0)
    sampling = check_sampling(num_samples, num_replicates, points)
    options = Options(stick_the_landing, control_variate)
    blend = (1 - alpha, alpha)
    return estimate_log_ratios(key, (p, q), (TO_BLEND,), sampling, options, blend=blend)
