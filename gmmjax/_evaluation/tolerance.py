"""Estimates to a requested accuracy instead of a number of samples."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from gmmjax._mixture.gmm import GMM
from gmmjax._validate import check_count, check_function, check_key

MARGIN = 1.3  # of the planned number of batches, so that the plan is rarely extended


class ToleranceEstimate(NamedTuple):
    """An estimate to a requested accuracy, and how it ended.

    Attributes:
      value: the estimate.
      stderr: its standard error, at most what was asked for if `converged`.
      num_samples: points drawn from each sampled mixture, those of the pilot included.
      converged: False where `max_samples` ended it.

    Example:
      >>> import gmmjax
      >>> gmmjax.ToleranceEstimate(1.0, 0.1, 16_384, True).converged
      True
    """

    value: jax.Array
    stderr: jax.Array
    num_samples: jax.Array
    converged: jax.Array


def estimate_to(
    divergence: Callable,
    key,
    *mixtures: GMM,
    rtol: float = 1e-3,
    atol: float = 0.0,
    max_samples: int = 1 << 22,
    batch_samples: int = 16_384,
    **keywords,
) -> ToleranceEstimate:
    r"""Sample until :math:`\text{stderr} \le \max(\text{atol}, \text{rtol}\,|\text{value}|)`; an
    estimate.

    A pilot batch says how many batches are needed; they are then drawn afresh, and the pilot is
    left out of the result. Stopping as soon as the running error looks small enough would favour
    batches that missed something, and state an error that is too small. Memory is that of one
    batch. Not differentiable in reverse mode: call the divergence itself with the `num_samples`
    that this returns.

    Args:
      divergence: any estimate of this package, called as `divergence(key, *mixtures, num_samples=…,
        **keywords)`.
      key: a JAX key.
      *mixtures: its mixtures.
      rtol: wanted standard error relative to the absolute value, in its units (nats for most).
      atol: wanted absolute standard error; the looser of both counts.
      max_samples: at most so many points from each sampled mixture, a Python int.
      batch_samples: points in one batch, a Python int.
      **keywords: passed on to the divergence.

    Returns:
      A `ToleranceEstimate` with scalar leaves.

    Raises:
      TypeError: `key` is not a key, or a count is not an int.
      ValueError: a count is below 1, `max_samples` is less than two batches, a tolerance is
        negative, or what the divergence refuses.

    Reference:
      Stein (1945), "A two-sample test for a linear hypothesis whose power is independent of the
      variance".

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0], [1.0]]), jnp.ones(2))
      >>> q = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.full(1, 2.0))
      >>> result = gmmjax.estimate_to(gmmjax.kl_divergence, jax.random.key(0), p, q, rtol=1e-3)
      >>> bool(result.converged), bool(result.stderr <= 1e-3 * result.value)
      (True, True)
    """
    check_key(key)
    check_function("divergence", divergence)
    max_samples, batch_samples = (
        check_count("max_samples", max_samples),
        check_count("batch_samples", batch_samples),
    )
    for name, value in (("rtol", rtol), ("atol", atol)):
        if not isinstance(value, Tracer) and not value >= 0:
            raise ValueError(f"{name}: expected a number of at least 0, got {value}")
    if max_samples < 2 * batch_samples:
        raise ValueError(
            f"max_samples: expected at least two batches of {batch_samples}, got {max_samples}"
        )
    static = (
        divergence,
        max_samples // batch_samples - 1,
        batch_samples,
        tuple(sorted(keywords.items())),
    )
    return _estimate_to(key, mixtures, jnp.asarray(rtol), jnp.asarray(atol), static)


@jax.jit(static_argnums=4)
def _estimate_to(key, mixtures, rtol: jax.Array, atol: jax.Array, static):
    most: int
    divergence, most, batch_samples, keywords = static

    def batch(index):
        stream = jax.random.fold_in(key, index)
        value, stderr = divergence(stream, *mixtures, num_samples=batch_samples, **dict(keywords))
        return value, stderr**2

    def planned(value: jax.Array, variance: jax.Array) -> jax.Array:
        """How many batches of this variance give the wanted error."""
        target = jnp.maximum(atol, rtol * jnp.abs(value))
        count = MARGIN * variance / jnp.where(target > 0, target, 1.0) ** 2
        enough = (target > 0) & (count < most)  # False for NaN, too
        return jnp.where(enough, jnp.ceil(jnp.where(enough, count, 1.0)), most).astype(int).clip(1)

    def met(count: jax.Array, value: jax.Array, variance: jax.Array) -> jax.Array:
        return jnp.sqrt(variance / count) <= jnp.maximum(atol, rtol * jnp.abs(value))

    def step(state):
        count: jax.Array
        plan: jax.Array
        count, plan, value, variance = state
        new_value, new_variance = batch(count + 1)
        count = count + 1
        value = value + (new_value - value) / count
        variance = variance + (new_variance - variance) / count
        extend = (count == plan) & ~met(count, value, variance)
        return (
            count,
            jnp.where(extend, jnp.maximum(planned(value, variance), count + 1), plan),
            value,
            variance,
        )

    pilot = batch(0)
    zero = jnp.zeros_like(pilot[0])
    start = (jnp.zeros((), int), planned(*pilot), zero, jnp.zeros_like(pilot[1]))
    count, _, value, variance = jax.lax.while_loop(
        lambda s: s[0] < jnp.minimum(s[1], most), step, start
    )
    stderr = jnp.sqrt(variance / count)
    return ToleranceEstimate(
        value, stderr, (count + 1) * batch_samples, met(count, value, variance)
    )
