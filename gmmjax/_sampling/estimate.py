"""An estimate and its standard error, from independent replicates and what all of them may have
missed.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

LARGEST_SHARE = 4.0  # of one replicate among R, in shares of 1/R


class Estimate(NamedTuple):
    """A Monte-Carlo estimate: exactly a value and its standard error, so that it is a `(loss, aux)`
    pair.

    Attributes:
      value: the estimate; this is what is differentiated.
      stderr: its standard error, from independent replicates and what all of them may have missed;
        it carries no gradient. ±2 stderr covers the truth in about 95 % of runs. At the level of
        rounding it is a few units in the last place of the value.

    Raises:
      TypeError: `+` and `*`, which on tuples would join and repeat, say "use .value".

    Example:
      >>> import gmmjax
      >>> value, stderr = gmmjax.Estimate(1.0, 0.1)
    """

    value: jax.Array
    stderr: jax.Array

    def _refuse(self, *_):
        raise TypeError("arithmetic on an Estimate is not defined: use .value")

    __array_ufunc__ = None  # NumPy's scalars on the left give way
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = (
        _refuse
    )


class Replicates(NamedTuple):
    """An estimate, and what is known of its error, without a gradient."""

    value: jax.Array
    means: jax.Array  # (R,) independent ones, that the value is the average of
    unseen: jax.Array  # variance that their spread does not show


def carried_by_few(parts: jax.Array) -> jax.Array:
    """Whether one of R replicates carries far more than its share of a sum: the mark of a tail that
    others missed.
    """
    return jnp.max(parts) > LARGEST_SHARE * jnp.mean(parts)


def standard_error(found: Replicates) -> jax.Array:
    """Standard error of the mean of independent replicates, with a floor at rounding level."""
    means = jax.lax.stop_gradient(found.means)
    count = means.shape[0]
    if count == 1:
        return jnp.full((), jnp.inf, means.dtype)
    spread = jnp.sqrt(jnp.var(means, ddof=1) / count + found.unseen)
    return jnp.maximum(spread, 4 * jnp.finfo(means.dtype).eps * jnp.max(jnp.abs(means)))
