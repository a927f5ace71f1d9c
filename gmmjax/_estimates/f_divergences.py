"""Divergences that are functions of the log-ratio t = log p − log q, sampled from ½(p + q).

Under it the ratios p/m = 2σ(t) and q/m = 2σ(−t) lie between 0 and 2, wherever a point falls. It is
the average of two expectations, one under each mixture, over common points.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._estimates.importance import Problem, balanced_estimate
from gmmjax._jax import is_traced
from gmmjax._mixture.gmm import GMM, common_float
from gmmjax._properties import divergence
from gmmjax._sampling import unseen
from gmmjax._sampling.estimate import Estimate, conclude
from gmmjax._sampling.points import sobol
from gmmjax._sampling.settings import check_sampling
from gmmjax._validate import check_function, keyed


@divergence(zero_at_equality=True)
@keyed
def f_divergence(
    key,
    p: GMM,
    q: GMM,
    generator: Callable,
    *,
    num_samples: int = 16_384,
    num_replicates: int = 32,
    points=sobol,
) -> Estimate:
    r"""f-divergence; an estimate.

    .. math:: D_f(p \| q) = \int q\, f(p/q) = \mathbb E_m[2 \sigma(-t)\, f(e^t)]

    Here :math:`t = \log p - \log q` and :math:`m = \tfrac12 (p + q)`, in the units of f. Unbiased,
    as is its gradient in all leaves of `p` and `q` where f is differentiable. Beyond half the range
    of exponents (t > 44 in float32, 354 in float64; earlier where f overflows) :math:`e^{-t}
    f(e^t)` is continued along its tangent in t, which is exact to rounding for generators that grow
    like u log u or slower. Faster ones, powers of u or of 1/u, give an infinite `stderr` where the
    covariances show that the variance is infinite, or a few points carry the sum.

    Args:
      key: a JAX key.
      p: a mixture.
      q: a mixture of the same dimension.
      generator: f as a function of the log-ratio, t ↦ f(eᵗ), elementwise, with f convex and f(1) =
        0. Pass the same function object again to avoid recompilation.
      num_samples: number of points for each side, a Python int, rounded up to R·2ᵐ (below R: taken
        as it is, one replicate per point; 1 gives stderr = inf).
      num_replicates: R, the independent replicates that `stderr` is taken from (see `expectation`).
      points: `gmmjax.sobol` or `gmmjax.iid`.

    Returns:
      An `Estimate` with scalar leaves.

    Raises:
      TypeError: `key` is not a key, `p` or `q` is not a `GMM`, or a count is not an int.
      ValueError: shapes disagree, or a count is below 1; `generator` does not return one value per
        log-ratio, or is not 0 at 0.

    Reference:
      Csiszár (1967), "Information-type measures of difference of probability distributions"; Liese
      and Vajda (2006), "On divergences and informations in statistics and information theory",
      equation 1.

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0], [1.0]]), jnp.ones(2))
      >>> q = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.full(1, 2.0))
      >>> triangular = lambda t: jnp.expm1(t) * jnp.tanh(t / 2)  # f(u) = (u − 1)² / (u + 1)
      >>> value, stderr = gmmjax.f_divergence(jax.random.key(0), p, q, triangular)
      >>> print(f"{value:.2f}", bool(stderr < 1e-3))
      0.11 True
    """
    sampling = check_sampling(num_samples, num_replicates, points)
    check_function("generator", generator)
    p, q = common_float(p=p, q=q)
    shape = jax.ShapeDtypeStruct((7,), p.means.dtype)
    found = jax.eval_shape(generator, shape)
    if getattr(found, "shape", None) != (7,):
        raise ValueError(f"generator: expected one value for each log-ratio, {shape}, got {found}")
    _check_equality(generator)
    return _estimate((key, (p, q)), Problem(_perspective(generator), sampling, generator))


@functools.cache
def _check_equality(generator):
    """Refuse a function of the ratio itself, which is not 0 where the logarithm of the ratio is."""
    with jax.ensure_compile_time_eval():
        (found,) = generator(jnp.zeros(1))
    if not is_traced(found) and not abs(float(found)) <= 1e-3:
        raise ValueError(
            "generator: takes t = log p − log q, and f(1) = 0 at t = 0, but gives "
            f"{float(found):.3g} there; of a function of the ratio make lambda t: f(jnp.exp(t))"
        )


def _before(p, q, problem):
    there, back = _orders(problem.details, p.mixture.means.dtype)
    return (), (unseen.heavy_tails(p, q, there), unseen.heavy_tails(q, p, back))


def _after(found, _, tails, problem):
    sizes = unseen.missed_point(jnp.abs(found.alike), jnp.inf, problem.sampling.num_samples)
    return conclude(found, sizes, *tails)


_estimate = balanced_estimate(_before, _after)


def _orders(generator, dtype):
    """Where f grows like a power of the ratio, one way or the other, the order of that power."""
    ends = jnp.array([1.0, -1.0], dtype) * _largest_safe_log_ratio(generator, dtype)
    far, near = (jnp.log(jnp.abs(generator(jax.lax.stop_gradient(t)))) for t in (ends, 0.5 * ends))
    # Cut to eighths: the logarithm in t eᵗ is no power.
    there, back = jnp.floor(16 * (far - near) / jnp.abs(ends) + 0.1) / 8
    return jax.lax.stop_gradient((jnp.maximum(there, 1), jnp.maximum(1 + back, 1)))


@functools.cache
def _perspective(generator):
    """2σ(−t) f(eᵗ), continued along its tangent in t where f(u)/u can no longer be told."""

    def function(t, _):
        limit = _largest_safe_log_ratio(generator, t.dtype)
        (level,), (slope,) = _over_ratio(generator, limit[None])
        inside = jnp.minimum(t, limit)
        beyond = 2 * jax.nn.sigmoid(t) * (level + slope * (t - limit))
        return jnp.where(t > limit, beyond, 2 * jax.nn.sigmoid(-inside) * generator(inside))

    return function


def _over_ratio(generator, t: jax.Array):
    """f(u)/u and its slope in t = log u."""
    return jax.jvp(lambda t: jnp.exp(-t) * generator(t), (t,), (jnp.ones_like(t),))


def _largest_safe_log_ratio(generator, dtype) -> jax.Array:
    """The largest of a few log-ratios at which f(u)/u and its slope are finite."""
    # f may grow like a power of u, and overflow long before u does.
    half_range = 0.5 * np.log(float(jnp.finfo(dtype).max))
    ends = jnp.asarray(half_range * 0.5 ** np.arange(6), dtype)
    value, slope = _over_ratio(generator, ends)
    known = jnp.isfinite(value) & jnp.isfinite(slope)
    return jax.lax.stop_gradient(jnp.max(jnp.where(known, ends, ends[-1])))
