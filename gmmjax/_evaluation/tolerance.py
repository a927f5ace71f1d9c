"""Estimates to a requested accuracy instead of a number of samples."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gmmjax._evaluation import batches
from gmmjax._evaluation.call import split
from gmmjax._jax import is_traced
from gmmjax._mixture.gmm import GMM
from gmmjax._sampling.allocation import next_power_of_two
from gmmjax._sampling.estimate import Estimate, is_scalar, show
from gmmjax._validate import check_count, check_function, check_key, on_any_mesh, warn


class ToleranceEstimate(NamedTuple):
    """An estimate to a requested accuracy, and how it ended; `print` shows one line.

    Attributes:
      value: the estimate.
      stderr: its standard error, at most what was asked for if `converged`.
      num_samples: points drawn from each sampled mixture, those of the pilots included.
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

    def __str__(self):
        estimate = Estimate(self.value, self.stderr)
        if not is_scalar(estimate):
            return repr(self)
        ending = "converged" if self.converged else "not converged"
        return f"{show(estimate)}, {int(self.num_samples):,} samples, {ending}"


@on_any_mesh
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

    A pilot batch says how many batches are needed. Where more than eight are, a pilot eight times
    as large comes next, for the error of one large set of Sobol points is far below that of the
    average of small ones. The batches are then drawn afresh, and the pilots are left out of the
    result: stopping as soon as the running error looks small enough would favour batches that
    missed something, and state an error that is too small. Memory does not grow. Not differentiable
    in reverse mode: call the divergence itself with the `num_samples` that this returns.

    Args:
      divergence: any estimate of this package, called as `divergence(key, *mixtures, num_samples=…,
        **keywords)`.
      key: a JAX key.
      *mixtures: its mixtures.
      rtol: wanted standard error relative to the absolute value, in its units (nats for most).
      atol: wanted absolute standard error; the looser of both counts.
      max_samples: at most so many points from each sampled mixture, a Python int.
      batch_samples: points in one of the first batches, a Python int, rounded up to a power of two.
      **keywords: passed on to the divergence.

    Returns:
      A `ToleranceEstimate` with scalar leaves. Where `max_samples` ended it, a warning says so,
      unless values are hidden by `jit` or `vmap`.

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
    check_key(key, "after the divergence")
    check_function("divergence", divergence)
    max_samples = check_count("max_samples", max_samples)
    batch_samples = next_power_of_two(check_count("batch_samples", batch_samples))
    for name, value in (("rtol", rtol), ("atol", atol)):
        if not is_traced(value) and not value >= 0:
            raise ValueError(f"{name}: expected a number of at least 0, got {value}")
    if max_samples < 2 * batch_samples:
        raise ValueError(
            f"max_samples: expected at least two batches of {batch_samples}, got {max_samples}"
        )
    target = batches.Target(jnp.asarray(rtol), jnp.asarray(atol))
    call, arrays = split(divergence, key, keywords)
    levels = batches.levels(batch_samples, max_samples)
    return _told(batches.run(key, (mixtures, arrays), target, call, levels), target)


def _told(found: batches.Found, target: batches.Target) -> ToleranceEstimate:
    """The result, after a word about samples that did not suffice, where values are concrete."""
    average = found.average
    converged = target.is_met(average)
    result = ToleranceEstimate(average.value, average.stderr, found.num_samples, converged)
    if not is_traced(result, target) and not converged:
        warn(
            f"estimate_to: the standard error is {result.stderr:.2g} after "
            f"{int(result.num_samples):,} samples, and {target.stderr(average.value):.2g} was "
            "wanted; allow more max_samples, or ask for less"
        )
    return result
