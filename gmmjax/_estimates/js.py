"""Jensen–Shannon divergences, of two mixtures and of many."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from gmmjax._estimates.log_ratios import estimate_log_ratios
from gmmjax._estimates.recipes import BLEND, LogRatio, Options
from gmmjax._jax import is_traced
from gmmjax._mixture.gmm import GMM, common_float
from gmmjax._properties import divergence
from gmmjax._sampling.estimate import Estimate
from gmmjax._sampling.points import sobol
from gmmjax._sampling.settings import check_sampling
from gmmjax._validate import check_between, keyed


@divergence(symmetric=True, zero_at_equality=True, skewed_by="weight", at_most=math.log(2))
@keyed
def js_divergence(
    key,
    p: GMM,
    q: GMM,
    *,
    weight: float | jax.Array = 0.5,
    num_samples: int = 16_384,
    num_replicates: int = 32,
    points=sobol,
    stick_the_landing: bool = True,
    control_variate: bool = False,
) -> Estimate:
    r"""Jensen–Shannon divergence; an estimate in nats.

    .. math:: (1 - w) \mathrm{KL}(p \| m) + w \mathrm{KL}(q \| m)

    Here :math:`m = (1 - w) p + w q`, by default the even mixture, and then the truth lies in [0,
    log 2]. Unbiased, as is its gradient in all leaves of `p` and `q`, weights included; symmetric
    for one key when even; never clamped. Both sides use the same points, and much of their error
    cancels where the mixtures are close. Near log 2, where few points carry what is missing to it,
    `stderr` holds one point that may not have been drawn.

    Args:
      key: a JAX key.
      p: a mixture.
      q: a mixture of the same dimension.
      weight: w, the share of q in m, in (0, 1]; it may be traced.
      num_samples: number of points for each side, a Python int, rounded up to R·2ᵐ (below R: taken
        as it is, one replicate per point; 1 gives stderr = inf).
      num_replicates: R, the independent replicates that `stderr` is taken from (see `expectation`).
      points: `gmmjax.sobol` or `gmmjax.iid`.
      stick_the_landing: leave out of the gradient the scores, whose means cancel: less noise, none
        at all where p = q. With False the gradient is the derivative of the returned value for this
        key, as line searches and second derivatives need.
      control_variate: subtract what has a mean in closed form, with coefficients fitted around each
        mean (little gain was measured here), not beyond 2²¹ pairs of components.

    Returns:
      An `Estimate` with scalar leaves.

    Raises:
      TypeError: `key` is not a key, `p` or `q` is not a `GMM`, or a count is not an int.
      ValueError: shapes disagree, or a count is below 1; `weight` is not in (0, 1].

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
    p, q = common_float(p=p, q=q)
    weight = check_between("weight", weight, 0.0, 1.0)
    blend = (1 - weight, weight)
    sampling = check_sampling(num_samples, num_replicates, points)
    options = Options(stick_the_landing, control_variate)
    return _js(key, (p, q), blend, sampling, options)


@divergence(zero_at_equality=True)
@keyed
def generalised_js_divergence(
    key,
    mixtures: Sequence[GMM],
    weights=None,
    *,
    num_samples: int = 16_384,
    num_replicates: int = 32,
    points=sobol,
    stick_the_landing: bool = True,
    control_variate: bool = False,
) -> Estimate:
    r"""Jensen–Shannon divergence of several mixtures; an estimate.

    .. math:: \sum_j \pi_j \mathrm{KL}(p_j \| m)

    Here :math:`m = \sum_j \pi_j p_j`. In nats, between 0 and the entropy of the weights π: the
    mutual information between a point and the mixture it came from. Unbiased, as is its gradient in
    all leaves of all mixtures; never clamped.

    Args:
      key: a JAX key.
      mixtures: a sequence of two or more mixtures of one dimension.
      weights: π, one positive number per mixture, normalised for you; even by default. They may be
        traced.
      num_samples: number of points for each mixture, a Python int, rounded up to R·2ᵐ (below R:
        taken as it is, one replicate per point; 1 gives stderr = inf).
      num_replicates: R, the independent replicates that `stderr` is taken from (see `expectation`).
      points: `gmmjax.sobol` or `gmmjax.iid`.
      stick_the_landing: leave out of the gradient the scores, whose means cancel: less noise. With
        False the gradient is the derivative of the returned value for this key, as line searches
        and second derivatives need.
      control_variate: subtract what has a mean in closed form, with coefficients fitted around each
        mean (little gain was measured here), not beyond 2²¹ pairs of components.

    Returns:
      An `Estimate` with scalar leaves.

    Raises:
      TypeError: `key` is not a key, one of the mixtures is not a `GMM`, or a count is not an int.
      ValueError: shapes disagree, or a count is below 1; fewer than two mixtures, or weights that
        do not match or are not positive.

    Reference:
      Lin (1991), "Divergence measures based on the Shannon entropy", equation 5.1.

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> at = lambda mean: gmmjax.GMM(jnp.zeros(1), jnp.full((1, 1), mean), jnp.ones(1))
      >>> ends = [at(-9.0), at(0.0), at(9.0)]
      >>> value, stderr = gmmjax.generalised_js_divergence(jax.random.key(0), ends)
      >>> print(f"{value:.4f}", f"{jnp.log(3.0):.4f}")
      1.0986 1.0986
    """
    if isinstance(mixtures, GMM) or len(mixtures) < 2:
        raise ValueError("mixtures: expected a sequence of two or more, as in [p, q, r]")
    checked = common_float(**{f"mixtures[{i}]": g for i, g in enumerate(mixtures)})
    blend = (
        jnp.ones(len(checked)) if weights is None else jnp.asarray(weights, jnp.result_type(float))
    )
    if blend.shape != (len(checked),):
        raise ValueError(
            f"weights: expected shape ({len(checked)},), one for each mixture, got {blend.shape}"
        )
    if not is_traced(blend) and not ((blend > 0) & jnp.isfinite(blend)).all():
        raise ValueError(f"weights: expected finite and positive numbers, got {blend}")
    blend = jnp.where(blend > 0, blend / jnp.sum(blend), jnp.nan).astype(checked[0].means.dtype)
    sampling = check_sampling(num_samples, num_replicates, points)
    options = Options(stick_the_landing, control_variate)
    return _js(key, checked, blend, sampling, options)


def _js(key, mixtures, weights, sampling, options):
    """Σ_j π_j KL(p_j ‖ m) with m = Σ_j π_j p_j: the weights are both scales and blend."""
    ratios = tuple(LogRatio(under=j, of=j, over=BLEND) for j in range(len(mixtures)))
    return estimate_log_ratios(
        key, mixtures, ratios, sampling, options, scales=weights, blend=weights
    )
