"""What values at refits say of the value at the populations."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gmmjax._sampling.estimate import Estimate, is_scalar


class DataEstimate(NamedTuple):
    """A function of populations, as far as rows of them tell; see `gmmjax.bootstrap`.

    Attributes:
      value: the estimate, corrected for its bias.
      stderr: its standard error, for other rows could have been drawn.
      bias: by how much the fitted mixtures overstate it, in the mean; `value + bias` is what they
        have, unless `value` was kept within the range.
      lower: where the interval begins.
      upper: where it ends.

    Example:
      >>> import gmmjax
      >>> found = gmmjax.DataEstimate(0.51, 0.02, 0.006, 0.48, 0.55)
      >>> print(found, f"{found:.2f}", sep="; ")
      0.51 ± 0.02, interval 0.48 to 0.55; 0.51 (0.48 to 0.55)
    """

    value: jax.Array
    stderr: jax.Array
    bias: jax.Array
    lower: jax.Array
    upper: jax.Array

    def __str__(self):
        estimate = Estimate(self.value, self.stderr)
        if not is_scalar(estimate):
            return repr(self)
        return f"{estimate}, interval {self.lower:.4g} to {self.upper:.4g}"

    def __format__(self, spec):
        if not spec:
            return str(self)
        return f"{self.value:{spec}} ({self.lower:{spec}} to {self.upper:{spec}})"


class Range(NamedTuple):
    """What values a function may have: from 0, or any, up to something."""

    nonnegative: bool
    at_most: float

    def clip(self, value: jax.Array) -> jax.Array:
        """The nearest value in the range."""
        return jnp.clip(value, 0.0, self.at_most) if self.nonnegative else value

    def to_angle(self, value: jax.Array) -> jax.Array:
        """The root of a value, or the angle whose sine it is where there is an upper end."""
        # A divergence is half a squared distance near 0: its root spreads alike everywhere. The
        # same holds for what is missing to an upper end.
        root = jnp.sqrt(self.clip(value))
        return root if self.at_most == jnp.inf else jnp.arcsin(root / self.at_most**0.5)

    def from_angle(self, angle: jax.Array) -> jax.Array:
        """The way back."""
        if self.at_most == jnp.inf:
            return jnp.maximum(angle, 0.0) ** 2
        return self.at_most * jnp.sin(jnp.clip(angle, 0.0, jnp.pi / 2)) ** 2


def conclude(
    plugged: jax.Array, values: jax.Array, level: jax.typing.ArrayLike, known: Range
) -> DataEstimate:
    """From the value at the fits, and those at refits `(B,)`."""
    deviations = jax.scipy.special.ndtri(0.5 * (1 + jnp.asarray(level, values.dtype)))
    bias = jnp.mean(values) - plugged
    value, stderr = plugged - bias, jnp.std(values, ddof=1)
    upper = value + deviations * stderr
    if known.nonnegative:
        angles, angle = known.to_angle(values), known.to_angle(plugged)
        middle = 2 * angle - jnp.mean(angles)
        upper = known.from_angle(middle + deviations * jnp.std(angles, ddof=1))
    lower = known.clip(value - deviations * stderr)
    return DataEstimate(known.clip(value), stderr, bias, lower, upper)
