"""Estimates to a requested accuracy instead of a number of samples."""

from collections.abc import Callable
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp

from gmmjax._mixture.gmm import GMM
from gmmjax._validate import check_count, check_function, check_key, is_traced

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
      ValueError: a count is below 1, `max_samples` is fewer than two batches, a tolerance is
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
    max_samples = check_count("max_samples", max_samples)
    batch_samples = check_count("batch_samples", batch_samples)
    for name, value in (("rtol", rtol), ("atol", atol)):
        if not is_traced(value) and not value >= 0:
            raise ValueError(f"{name}: expected a number of at least 0, got {value}")
    if max_samples < 2 * batch_samples:
        raise ValueError(
            f"max_samples: expected at least two batches of {batch_samples}, got {max_samples}"
        )
    most = max_samples // batch_samples - 1  # the pilot is one of them
    static = divergence, batch_samples, most, tuple(sorted(keywords.items()))
    target = _Target(jnp.asarray(rtol), jnp.asarray(atol))
    return _estimate_to(key, mixtures, target, static)


class _Average(NamedTuple):
    """The mean of some batches, and of their variances."""

    count: jax.Array
    value: jax.Array
    variance: jax.Array

    @property
    def stderr(self) -> jax.Array:
        return jnp.sqrt(self.variance / self.count.astype(self.variance.dtype))

    def with_one_more(self, value: jax.Array, variance: jax.Array) -> Self:
        count = self.count + 1
        number = count.astype(value.dtype)
        return self._replace(
            count=count,
            value=self.value + (value - self.value) / number,
            variance=self.variance + (variance - self.variance) / number,
        )


class _Target(NamedTuple):
    """The wanted accuracy."""

    rtol: jax.Array
    atol: jax.Array

    def stderr(self, value: jax.Array) -> jax.Array:
        return jnp.maximum(self.atol, self.rtol * jnp.abs(value))

    def is_met(self, average: _Average) -> jax.Array:
        return average.stderr <= self.stderr(average.value)

    def num_batches(self, value: jax.Array, variance: jax.Array, most: int) -> jax.Array:
        """How many batches of this variance give the wanted error, at most `most`."""
        stderr = self.stderr(value)
        count = MARGIN * variance / jnp.where(stderr > 0, stderr, 1.0) ** 2
        enough = (stderr > 0) & (count < most)  # False for NaN, too
        batches = jnp.ceil(jnp.where(enough, count, most))
        return jnp.maximum(batches.astype(int), 1)


@jax.jit(static_argnums=3)
def _estimate_to(key, mixtures, target, static):
    divergence, batch_samples, most, keywords = static

    def batch(index):
        stream = jax.random.fold_in(key, index)
        found = divergence(stream, *mixtures, num_samples=batch_samples, **dict(keywords))
        return found.value, found.stderr**2

    def unfinished(state):
        average, plan = state
        return average.count < jnp.minimum(plan, most)

    def step(state):
        average, plan = state
        average = average.with_one_more(*batch(average.count + 1))
        extend = (average.count == plan) & ~target.is_met(average)
        longer = target.num_batches(average.value, average.variance, most)
        return average, jnp.where(extend, jnp.maximum(longer, average.count + 1), plan)

    pilot = batch(0)
    nothing = _Average(jnp.zeros((), int), *jax.tree.map(jnp.zeros_like, pilot))
    start = nothing, target.num_batches(*pilot, most)
    average, _ = jax.lax.while_loop(unfinished, step, start)
    num_samples = (average.count + 1) * batch_samples
    return ToleranceEstimate(average.value, average.stderr, num_samples, target.is_met(average))
