"""An estimate and its error: the spread of its replicates, plus a variance they cannot show."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Estimate(NamedTuple):
    """A Monte-Carlo estimate: exactly a value and its standard error, a `(loss, aux)` pair.

    Attributes:
      value: the estimate; this is what is differentiated.
      stderr: its standard error, from independent replicates and what all of them may have missed;
        it carries no gradient. ±2 stderr covers the truth in about 95 % of runs. It never exceeds
        the range of a bounded quantity, and at the level of rounding it is a few units in the last
        place of the value.

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
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _refuse
    __truediv__ = __rtruediv__ = _refuse


class Replicates(NamedTuple):
    """An estimate, and what is known of its error, without a gradient."""

    value: jax.Array
    means: jax.Array  # (R,) independent ones, that the value is the average of
    unseen: jax.Array  # variance that their spread does not show


def conclude(
    found: Replicates,
    *unseen: jax.Array,
    transform: Callable | None = None,
    bound: jax.typing.ArrayLike = jnp.inf,
) -> Estimate:
    """The estimate of some replicates, or of a function of their mean.

    Args:
      found: the replicates.
      *unseen: further variances that the spread of the replicates does not show: 0, finite or ∞.
      transform: what is made of the mean; the error follows by its slope.
      bound: what the estimate can be off by at most. An error of ∞, which says that nothing is
        known of it, stays.
    """
    means = jax.lax.stop_gradient(found.means)
    hidden = jax.lax.stop_gradient(sum(unseen, found.unseen))
    # Replicates that overflow have no spread, and an infinite error.
    variance = jnp.where(jnp.isinf(hidden), jnp.inf, _variance_of_mean(means) + hidden)
    # At the level of rounding the spread may be 0 by accident.
    rounding = 4 * jnp.finfo(means.dtype).eps * jnp.max(jnp.abs(means))
    error = jnp.maximum(jnp.sqrt(variance), rounding)
    value = found.value
    if transform is not None:
        value, slope = jax.jvp(transform, (value,), (jnp.ones_like(value),))
        # Nothing known of the mean is nothing known of its function, whatever the slope.
        slope = jnp.where(jnp.isinf(error), 1.0, jnp.abs(jax.lax.stop_gradient(slope)))
        error = slope * error
    return Estimate(value, _at_most(error, jax.lax.stop_gradient(bound)))


def _variance_of_mean(means):
    """The variance of the mean of independent replicates; ∞ of one, of which nothing is known."""
    count = len(means)
    if count == 1:
        return jnp.full((), jnp.inf, means.dtype)
    return jnp.var(means, ddof=1) / count


def _at_most(error: jax.Array, bound: jax.typing.ArrayLike) -> jax.Array:
    """An error that is no larger than a bound, unless nothing is known of it."""
    return jnp.where(jnp.isinf(error), error, jnp.minimum(error, bound))
