"""Panels on a line, laid over all structure of a mixture.

All structure of a function of the log-density is known in advance: it lies in the components, and
where the largest of them changes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._exact.lines import Line
from gmmjax._exact.switches import KINK_ENDS, Switches, find_switches
from gmmjax._matrices import linalg

PER_COMPONENT = 9.0  # panels from the centre of a component to its end
# How wide panels are within some distances of a switch, both in units of its scale.
RINGS = (6.0, KINK_ENDS)
PANELS = (4.0, 12.0)


class Mesh(NamedTuple):
    """Where panels are needed on a line: how many of them lie to the left of each knot."""

    knots: jax.Array
    cumulative: jax.Array

    def edges(self, steps: jax.Array, count: jax.Array) -> jax.Array:
        """Edges number `steps` of `count` panels, each of which covers as much of the need."""
        progress = (jnp.minimum(steps, count) / count).astype(self.knots.dtype)
        wanted = self.cumulative[-1] * progress
        left = jnp.sum(self.cumulative[None, 1:-1] < wanted[:, None], axis=1)  # the knot before
        low, high = self.cumulative[left], self.cumulative[left + 1]
        fraction = jnp.minimum(linalg.safe_divide(wanted - low, high - low), 1)
        start, end = self.knots[left], self.knots[left + 1]
        return start + fraction * (end - start)


def build_mesh(line: Line, envelopes: Sequence[slice]) -> Mesh:
    """Panels as narrow as the narrowest structure at each place asks for.

    Components that lie on one another need no more panels than the narrowest of them alone.
    """
    switches = find_switches(line, envelopes)
    knots = _knots(line, switches)
    middle = (knots[1:] + knots[:-1]) / 2
    width = knots[1:] - knots[:-1]
    narrowest = jnp.minimum(
        _around_components(line, middle),
        _around_switches(switches, middle),
    )
    # A gap between components gets one panel of its own.
    in_gap = jnp.where(width > 0, 1.0, 0.0)
    count = jnp.where(jnp.isfinite(narrowest), width / narrowest, in_gap)
    none = jnp.zeros_like(count[:1])
    cumulative = jnp.concatenate([none, jnp.cumsum(count)])
    return Mesh(_filled(knots), cumulative)


def _knots(line: Line, switches: Switches) -> jax.Array:
    """Places where the width of panels may change, in order; NaN last."""
    inner, outer = RINGS
    rings = np.array([-inner, -outer, inner, outer], switches.x.dtype)
    around_switches = switches.x[:, None] + switches.scale[:, None] * rings[None]
    extents = line.extents()
    parts = [
        line.centres - extents,
        line.centres + extents,
        around_switches.reshape(-1),
    ]
    return jnp.sort(jnp.concatenate(parts))


def _filled(knots: jax.Array) -> jax.Array:
    """Knots with the last of them in place of NaN."""
    missing = jnp.isnan(knots)
    last = jnp.max(knots, initial=0.0, where=~missing)
    return jnp.where(missing, last, knots)


def _around_components(line: Line, x: jax.Array) -> jax.Array:
    """The widest panels that components allow at x; inf where there is none."""
    extents = line.extents()[:, None]
    distance = jnp.abs(x[None] - line.centres[:, None])
    narrowest = jnp.min(jnp.where(distance < extents, extents, jnp.inf), axis=0)
    return narrowest / PER_COMPONENT


def _around_switches(switches: Switches, x: jax.Array) -> jax.Array:
    """The widest panels that switches allow at x; inf where there is none."""
    scale = switches.scale[:, None]
    distance = jnp.abs(x[None] - switches.x[:, None]) / scale
    inner, outer = [
        jnp.min(panel * scale, axis=0, where=distance < ring, initial=jnp.inf)
        for ring, panel in zip(RINGS, PANELS, strict=True)
    ]
    return jnp.minimum(inner, outer)
