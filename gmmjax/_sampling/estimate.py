"""An estimate and its error: the spread of its replicates, plus a variance they cannot show."""

import math
from collections.abc import Callable
from typing import NamedTuple, NoReturn

import jax
import jax.numpy as jnp

from gmmjax._jax import is_traced
from gmmjax._matrices import linalg


class Estimate(NamedTuple):
    """A Monte-Carlo estimate: exactly a value and its standard error, a `(loss, aux)` pair.

    Attributes:
      value: the estimate; this is what is differentiated.
      stderr: its standard error, from independent replicates and what all of them may have missed;
        it carries no gradient. ±2 stderr covers the truth in about 95 % of runs. It never exceeds
        the range of a bounded quantity, and at the level of rounding it is a few units in the last
        place of the value.

    Raises:
      TypeError: arithmetic, `<` and `float`, which would take the pair for a tuple, say "use
        .value".

    Example:
      >>> import gmmjax
      >>> value, stderr = estimate = gmmjax.Estimate(1.0, 0.125)
      >>> print(estimate, f"or {estimate:.3f}")
      1.0 ± 0.1 or 1.000 ± 0.1
    """

    value: jax.Array
    stderr: jax.Array

    def _refuse(self, *_) -> NoReturn:
        raise TypeError("an Estimate is a pair of a value and its error, no number: use .value")

    __array_ufunc__ = None  # NumPy's scalars on the left give way
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _refuse
    __truediv__ = __rtruediv__ = __neg__ = __abs__ = __float__ = __int__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = _refuse

    @property
    def __jax_array__(self):
        # JAX asks for it where it wants one array. A TypeError would be lost in what `jax.grad`
        # says of outputs that are not scalars.
        raise ValueError(
            "an Estimate is a pair of a value and its error, not an array: use .value, or "
            "has_aux=True with jax.grad and jax.value_and_grad"
        )

    def __str__(self):
        return show(self) if is_scalar(self) else repr(self)

    def __format__(self, spec):
        if spec and not is_scalar(self):
            raise TypeError(
                f"{spec!r} formats a single concrete Estimate: format .value and .stderr"
            )
        return show(self, spec) if spec else str(self)


def is_scalar(estimate: Estimate) -> bool:
    """Whether an estimate is one concrete number with its error, which can be shown as such."""
    leaves = list(estimate)  # trees where it is a gradient
    return not is_traced(leaves) and all(
        not isinstance(leaf, tuple | list | dict) and jnp.shape(leaf) == () for leaf in leaves
    )


def show(estimate: Estimate, spec: str = "") -> str:
    """Value ± standard error: the error to one digit, the value by `spec` or to that digit."""
    value, stderr = map(float, estimate)
    if not math.isfinite(stderr) or stderr <= 0:
        return f"{value:{spec or '.6g'}} ± {stderr:g}"
    exponent = int(f"{stderr:.0e}".partition("e")[2])  # after rounding: 0.00097 is 0.001
    digits = max(0, -exponent)
    error = f"{stderr:.{digits}f}" if digits <= 4 else f"{stderr:.0e}"
    return f"{value:{spec or f'.{digits}f'}} ± {error}"


class Replicates(NamedTuple):
    """An estimate, and what is known of its error, without a gradient."""

    value: jax.Array
    # (R,) independent ones, or (R/S, S) of S segments, that the value is the average of
    means: jax.Array
    unseen: jax.Array  # variance that their spread does not show

    @property
    def alike(self):
        """The means as though those of every segment had the expectation of all, `(R,)`."""
        if self.means.ndim == 1:
            return self.means
        excess = self.means - jnp.mean(self.means, axis=0, keepdims=True)
        return (excess + jnp.mean(self.means)).ravel()


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
    sizes = jnp.abs(jnp.mean(means.reshape(len(means), -1), axis=1))
    rounding = 4 * jnp.finfo(means.dtype).eps * jnp.max(sizes)
    error = jnp.maximum(jnp.sqrt(variance), rounding)
    value = found.value
    if transform is not None:
        value, slope = jax.jvp(transform, (value,), (jnp.ones_like(value),))
        # Nothing known of the mean is nothing known of its function, whatever the slope.
        slope = jnp.where(jnp.isinf(error), 1.0, jnp.abs(jax.lax.stop_gradient(slope)))
        error = slope * error
    return Estimate(value, _at_most(error, jax.lax.stop_gradient(bound)))


def _variance_of_mean(means):
    """The variance of the mean of independent replicates; ∞ of one, of which nothing is known.

    Those of a segment are alike; segments are not, and their variances add up. Where a few segments
    make up most of it, it is known as badly as from their replicates alone, and is enlarged by
    Student's t at the degrees of freedom of Welch and Satterthwaite.
    """
    means = means.reshape(len(means), -1)
    count, segments = means.shape
    if count == 1:
        return jnp.full((), jnp.inf, means.dtype)
    variances = jnp.var(means, axis=0, ddof=1)
    total = jnp.sum(variances)
    shares = linalg.safe_divide(variances, total)
    squares = jnp.sum(shares * shares)
    # The shares are known as badly as the variances: of a few replicates Student's t at the freedom
    # that they seem to have would cover 92.5 % where one segment dominates, half as much more 94 %.
    freedom_rate = jnp.minimum(1.5 * squares / (count + 1 - 2 * squares), 1 / (count - 1))
    enlarged = jnp.maximum(_student(freedom_rate), 1.0) ** 2
    return enlarged * total / (count * segments**2)


def _student(rate):
    """Student's 97.5 % quantile at 1/rate degrees of freedom over that at 31.

    To a percent from 3 degrees on, 3 % too small at 2, a quarter at 1, where it covers 93 %.
    """
    # Its series (Abramowitz and Stegun 1964, 26.7.5).
    return (1.96 + rate * (2.3722 + rate * (2.8225 + rate * 2.5559))) / 2.0395


def _at_most(error: jax.Array, bound: jax.typing.ArrayLike) -> jax.Array:
    """An error that is no larger than a bound, unless nothing is known of it."""
    return jnp.where(jnp.isinf(error), error, jnp.minimum(error, bound))
