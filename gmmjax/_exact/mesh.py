"""Mixtures restricted to lines, and where on a line their structure is.

Restricted to a line, a mixture is again one of (unnormalised) Gaussians. So all structure of a
function of its log-density is known in advance: the components, and the places where the largest of
them changes, where log p has a soft kink, as sharp as the components are far apart.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._mixture import density
from gmmjax._mixture.gmm import GMM

REACH = 90.0  # squared Mahalanobis distance beyond which a component ends: exp(−45) is 3e-20
PER_COMPONENT = 9.0  # panels from the centre of a component to its end
# How wide panels are within some distances of a change of the largest component, in units of the
# distance on which the log-ratio changes by one: by exp(−40) the kink is over.
RINGS = (6.0, 40.0)
PANELS = (4.0, 12.0)


class Line(NamedTuple):
    """A mixture on a line, with components exp(log_peaks − ½ ((x − centres) / widths)²)."""

    log_peaks: jax.Array
    centres: jax.Array
    widths: jax.Array
    reach: jax.Array  # squared distance left until a component ends; negative where it is absent

    def squares(self, x) -> jax.Array:
        """Squared distances `(K, n)` in units of the widths."""
        return ((x[None] - self.centres[:, None]) / self.widths[:, None]) ** 2

    def components(self, x) -> jax.Array:
        """Log-densities `(K, n)`."""
        return self.log_peaks[:, None] - 0.5 * self.squares(x)

    def halves(self) -> jax.Array:
        """Distance from the centre of each component to its end; NaN for those that the line does
        not meet.
        """
        return self.widths * jnp.sqrt(jnp.where(self.reach > 0, self.reach, jnp.nan))


class Plane(NamedTuple):
    """A mixture in two dimensions: x₁ = μ₁ + a z₁, and x₂ = μ₂ + slopes·(x₁ − μ₁) + widths·z₂."""

    first: Line  # the marginal of x₁, with the peaks of the joint density
    centres: jax.Array
    slopes: jax.Array
    widths: jax.Array

    def cut(self, x1):
        """Restricted to the line of all x₂ at one x₁."""
        centred = x1 - self.first.centres
        square = (centred / self.first.widths) ** 2
        means = self.centres + self.slopes * centred
        return Line(
            self.first.log_peaks - 0.5 * square, means, self.widths, self.first.reach - square
        )

    def along(self, centre, slope):
        """Restricted to the line x₂ = centre[1] + slope (x₁ − centre[0]), as a function of x₁."""
        tilt = (slope - self.slopes) / self.widths
        offset = (centre[1] + slope * (self.first.centres - centre[0]) - self.centres) / self.widths
        rate = 1 / self.first.widths**2 + tilt**2
        missed = offset**2 / (rate * self.first.widths**2)
        means = self.first.centres - offset * tilt / rate
        return Line(
            self.first.log_peaks - 0.5 * missed,
            means,
            jax.lax.rsqrt(rate),
            self.first.reach - missed,
        )


def as_line(g: GMM) -> Line:
    """The marginal of the first coordinate, with the peaks of the joint density."""
    reach = jnp.where(g.logits > -jnp.inf, REACH, -1.0).astype(g.means.dtype)
    widths = g.scale if g.scale.ndim < 3 else g.scale[:, 0, 0]
    widths = widths if widths.ndim < 2 else widths[:, 0]
    return Line(
        density.log_peaks(g), g.means[:, 0], jnp.broadcast_to(jnp.abs(widths), reach.shape), reach
    )


def as_plane(g: GMM) -> Plane:
    """A mixture in two dimensions in terms of its lines."""
    rest = g.scale if g.scale.ndim < 3 else g.scale[:, 1, 1]
    rest = rest if rest.ndim < 2 else rest[:, 1]
    slopes = g.scale[:, 1, 0] / g.scale[:, 0, 0] if g.scale.ndim == 3 else jnp.zeros_like(rest)
    slopes, rest = (jnp.broadcast_to(v, g.logits.shape) for v in (slopes, jnp.abs(rest)))
    return Plane(as_line(g), g.means[:, 1], slopes, rest)


class Mesh(NamedTuple):
    """Where panels are needed on a line: how many of them lie to the left of each knot."""

    knots: jax.Array
    panels: jax.Array

    def edges(self, steps, count) -> jax.Array:
        """Edges number `steps` of `count` panels in all, which have equal shares of what is
        needed.
        """
        wanted = self.panels[-1] * (jnp.minimum(steps, count) / count).astype(self.knots.dtype)
        left = jnp.sum(self.panels[None, 1:-1] < wanted[:, None], axis=1)  # the knot before
        low, high = self.panels[left], self.panels[left + 1]
        share = jnp.minimum((wanted - low) / jnp.where(high > low, high - low, 1), 1)
        return self.knots[left] + share * (self.knots[left + 1] - self.knots[left])


def mesh(line: Line, envelopes: Sequence[np.ndarray]) -> Mesh:
    """Panels as narrow as the narrowest structure at each place, so that components on one another
    share theirs.
    """
    half = line.halves()
    x, scale, _ = switches(line, envelopes)
    rings = np.array([sign * ring for sign in (-1, 1) for ring in RINGS], x.dtype)[None]
    parts = [
        line.centres - half,
        line.centres + half,
        (x[:, None] + scale[:, None] * rings).reshape(-1),
    ]
    knots = jnp.sort(jnp.concatenate(parts))  # NaN last
    middle, width = (knots[1:] + knots[:-1]) / 2, knots[1:] - knots[:-1]
    inside = jnp.abs(middle[None] - line.centres[:, None]) < half[:, None]
    narrowest = jnp.min(jnp.where(inside, half[:, None], jnp.inf), axis=0) / PER_COMPONENT
    apart = jnp.abs(middle[None] - x[:, None]) / scale[:, None]
    for reach, panel in zip(RINGS, PANELS, strict=True):
        wanted = jnp.min(panel * scale[:, None], axis=0, where=apart < reach, initial=jnp.inf)
        narrowest = jnp.minimum(narrowest, wanted)
    # A gap is one panel, which no other reaches into.
    count = jnp.where(jnp.isfinite(narrowest), width / narrowest, jnp.where(width > 0, 1.0, 0.0))
    last = jnp.max(knots, initial=0.0, where=~jnp.isnan(knots))
    before = jnp.concatenate([jnp.zeros_like(count[:1]), jnp.cumsum(count)])
    return Mesh(jnp.where(jnp.isnan(knots), last, knots), before)


def switches(line: Line, envelopes: Sequence[np.ndarray]):
    """Where the largest of some components changes: positions, scales, and the two components; NaN
    for none.

    A component is above a wider one between two roots, and so it is the largest, if at all, between
    the last of its left roots and the first of its right ones: two candidates for each component
    are enough.
    """
    found = [_switches_of(line, rows) for rows in envelopes]
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *found)


def _switches_of(line, rows):
    own = jax.tree.map(lambda leaf: leaf[rows[0] : rows[-1] + 1], line)
    a = jax.tree.map(lambda leaf: leaf[:, None], own)
    b = jax.tree.map(lambda leaf: leaf[None], own)
    index = np.arange(rows.size)
    wider = (b.widths > a.widths) | ((b.widths == a.widths) & (index[None] > index[:, None]))
    # log a − log b = c₀ + c₁u + c₂u² in u = x − centre of a, with both roots free of cancellation
    rate, gap = b.widths**-2, b.centres - a.centres
    c0 = a.log_peaks - b.log_peaks + 0.5 * gap**2 * rate
    c1, c2 = -gap * rate, -0.5 * jnp.abs(rate - a.widths**-2)
    discriminant = c1**2 - 4 * c2 * c0
    far = -0.5 * (c1 + jnp.where(c1 < 0, -1, 1) * jnp.sqrt(jnp.maximum(discriminant, 0)))
    # nearest approach if they do not cross
    one, other = far / c2, jnp.where(discriminant < 0, far / c2, c0 / far)
    # NaN: the same but for the weight
    rivals = wider & (b.log_peaks > -jnp.inf) & ~jnp.isnan(other)
    lows = jnp.where(rivals, jnp.minimum(one, other), -jnp.inf)
    highs = jnp.where(rivals, jnp.maximum(one, other), jnp.inf)
    partner = jnp.concatenate([jnp.argmax(lows, axis=1), jnp.argmin(highs, axis=1)])
    u = jnp.concatenate([jnp.max(lows, axis=1), jnp.min(highs, axis=1)])
    which = np.tile(index, 2)
    x = own.centres[which] + u
    scale = jax.lax.rsqrt(
        (c1[which, partner] + 2 * c2[which, partner] * u) ** 2 + 2 * jnp.abs(c2[which, partner])
    )
    table = own.components(x)
    depth = jnp.max(table, axis=0) - table[which, np.arange(x.size)]
    # of anything, not only of these
    inside = jnp.any(line.squares(x) <= line.reach[:, None], axis=0)
    matters = jnp.isfinite(x) & jnp.isfinite(scale) & (depth < RINGS[-1]) & inside
    return jnp.where(matters, x, jnp.nan), scale, (rows[0] + which, rows[0] + partner)
