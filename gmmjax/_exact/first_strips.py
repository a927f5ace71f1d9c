"""Where the first strips of the plane end, before any of them is bisected."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._exact.lines import Plane
from gmmjax._exact.switches import KINK_ENDS, find_switches

NUM_STRIPS = 32
WIDE = 2.0  # times the half-width of a component, of a strip that might miss it


def _mirrored(positive):
    return np.concatenate([-np.array(positive[::-1]), [0.0], positive])


# Breakpoints are only where bisection starts, and so they need not be exact. Those of a component
# are about one standard deviation apart, wider in its tails, in units of the √90 of them after
# which it ends. Those of a switch about double from twice its scale to where its kink ends.
COMPONENT = _mirrored([0.09, 0.18, 0.28, 0.38, 0.49, 0.6, 0.72, 0.86, 1.0])
SWITCH = _mirrored([2.0, 5.0, 11.0, 22.0, KINK_ENDS])


def first_edges(plane: Plane, envelopes: Sequence[slice]) -> jax.Array:
    """Edges along x₁ of the first strips, from the components and from the switches on ridges.

    The ridge of a component is the line of its means of x₂ given x₁. Where a switch crosses it,
    all lines of a strip cross the switch.
    """

    def around_switches(centre1, centre2, slope, width):
        return _around_switches(plane, envelopes, (centre1, centre2), slope, width)

    first = plane.first
    on_components = _spread(first.centres, first.extents(), COMPONENT)
    on_ridges = jax.vmap(around_switches)(first.centres, plane.centres, plane.slopes, plane.widths)
    breakpoints = jnp.concatenate([on_components.reshape(-1), on_ridges.reshape(-1)])
    edges = _even_ranks(breakpoints, NUM_STRIPS)
    return jnp.sort(jnp.concatenate([edges, _ends(first, edges)]))


def _ends(first, edges):
    """Where components end in strips of which they are a small part; an edge in place of others.

    Such a strip ends there too: no line of it might meet the component.
    """
    extents = first.extents()
    ends = _spread(first.centres, extents, np.array([-1.0, 1.0]))
    place = jnp.clip(jnp.sum(edges[None, None] < ends[..., None], axis=2), 1, NUM_STRIPS)
    needed = edges[place] - edges[place - 1] > WIDE * extents[:, None]  # not where it is NaN
    return jnp.where(needed, ends, edges[0]).reshape(-1)


def _around_switches(plane, envelopes, centre, slope, width):
    """Breakpoints around each switch on the ridge of one component."""
    switches = find_switches(plane.along(centre, slope), envelopes)
    x1 = switches.x
    x2 = centre[1] + slope * (x1 - centre[0])
    means = jax.vmap(plane.cut)(x1).centres.T
    pull = (x2[None] - means) / plane.widths[:, None] ** 2
    each = np.arange(x1.size)
    # Away from the ridge the switch moves along x₁, which blurs it once x₂ is integrated out.
    blur = width * (pull[switches.one, each] - pull[switches.other, each])
    scale = switches.scale * jnp.sqrt(1 + blur**2)
    return _spread(x1, scale, SWITCH)


def _spread(centres, scales, pattern):
    """The pattern around each centre, in units of its scale, as a table."""
    return centres[:, None] + scales[:, None] * pattern[None].astype(centres.dtype)


def _even_ranks(breakpoints, count):
    """Edges of `count` strips at even ranks of the breakpoints that are not NaN."""
    ordered = jnp.sort(breakpoints)  # NaN last
    total = jnp.sum(~jnp.isnan(breakpoints))
    last = jnp.maximum(total - 1, 0)
    fractions = jnp.linspace(0, 1, count + 1, dtype=breakpoints.dtype)
    rank = fractions * last.astype(fractions.dtype)
    below = jnp.floor(rank).astype(int)
    left = ordered[below]
    right = ordered[jnp.minimum(below + 1, last)]
    edges = left + (rank - below.astype(rank.dtype)) * (right - left)
    return jnp.where(total > 0, edges, 0.0)
