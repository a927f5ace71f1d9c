"""Mixtures restricted to lines.

Restricted to a line, a mixture is again one of Gaussians, though not normalised.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gmmjax._mixture import density
from gmmjax._mixture.gmm import GMM
from gmmjax._mixture.structure import is_full

REACH = 90.0  # squared Mahalanobis distance beyond which a component ends: exp(−45) is 3e-20


class Line(NamedTuple):
    """A mixture on a line, with components exp(log_peaks − ½ ((x − centres) / widths)²)."""

    log_peaks: jax.Array
    centres: jax.Array
    widths: jax.Array
    reach: jax.Array  # squared distance left until a component ends; negative where it is absent

    def squared_distances(self, x: jax.Array) -> jax.Array:
        """Squared distances from the centres in units of the widths, `(K, n)`."""
        return ((x[None] - self.centres[:, None]) / self.widths[:, None]) ** 2

    def component_log_prob(self, x: jax.Array) -> jax.Array:
        """Log-densities of the components, `(K, n)`."""
        return self.log_peaks[:, None] - 0.5 * self.squared_distances(x)

    def extents(self) -> jax.Array:
        """Distances from the centres to the ends of components; NaN where the line meets none."""
        return self.widths * jnp.sqrt(jnp.where(self.reach > 0, self.reach, jnp.nan))


class Plane(NamedTuple):
    """A mixture in two dimensions: x₁ = μ₁ + a z₁, and x₂ = μ₂ + slopes·(x₁ − μ₁) + widths·z₂."""

    first: Line  # the marginal of x₁, with the peaks of the joint density
    centres: jax.Array
    slopes: jax.Array
    widths: jax.Array

    def cut(self, x1: jax.Array) -> Line:
        """Restricted to the line of all x₂ at one x₁."""
        centred = x1 - self.first.centres
        square = (centred / self.first.widths) ** 2
        return Line(
            log_peaks=self.first.log_peaks - 0.5 * square,
            centres=self.centres + self.slopes * centred,
            widths=self.widths,
            reach=self.first.reach - square,
        )

    def along(self, centre: tuple[jax.Array, jax.Array], slope: jax.Array) -> Line:
        """Restricted to the line x₂ = centre[1] + slope (x₁ − centre[0]), as a function of x₁."""
        # Two squares are completed: of x₁, and of the rest of x₂, which is offset + tilt (x₁ − μ₁).
        height = centre[1] + slope * (self.first.centres - centre[0])
        offset = (height - self.centres) / self.widths
        tilt = (slope - self.slopes) / self.widths
        variance = self.first.widths**2
        rate = 1 / variance + tilt**2
        square = offset**2 / (rate * variance)
        return Line(
            log_peaks=self.first.log_peaks - 0.5 * square,
            centres=self.first.centres - offset * tilt / rate,
            widths=jax.lax.rsqrt(rate),
            reach=self.first.reach - square,
        )


def as_line(g: GMM) -> Line:
    """The marginal of the first coordinate, with the peaks of the joint density."""
    reach = jnp.where(g.logits > -jnp.inf, REACH, -1.0).astype(g.means.dtype)
    widths = jnp.abs(_diagonal_entry(g.scale, 0))
    return Line(
        log_peaks=density.log_peaks(g),
        centres=g.means[:, 0],
        widths=jnp.broadcast_to(widths, reach.shape),
        reach=reach,
    )


def as_plane(g: GMM) -> Plane:
    """A mixture in two dimensions in terms of its lines."""
    widths = jnp.abs(_diagonal_entry(g.scale, 1))
    full = is_full(g)
    slopes = g.scale[:, 1, 0] / g.scale[:, 0, 0] if full else jnp.zeros_like(widths)
    return Plane(
        first=as_line(g),
        centres=g.means[:, 1],
        slopes=jnp.broadcast_to(slopes, g.logits.shape),
        widths=jnp.broadcast_to(widths, g.logits.shape),
    )


def _diagonal_entry(scale, i):
    """Entry i on the diagonal of each factor, `(K,)` or `(1,)`."""
    if scale.ndim == 3:
        return scale[:, i, i]
    if scale.ndim == 2:
        return scale[:, i]
    return scale
