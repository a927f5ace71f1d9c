"""Where on a line the largest component of a mixture changes.

There log p has a soft kink, as sharp as the components are far apart.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._exact.lines import Line
from gmmjax._mixture.gmm import index

KINK_ENDS = 40.0  # log-ratio at which a kink is over: what remains of the lesser one is exp(−40)


class Switches(NamedTuple):
    """Changes of the largest component from one to another; NaN where there is none."""

    x: jax.Array
    scale: jax.Array  # the distance on which the log-ratio of the two changes by one
    one: jax.Array
    other: jax.Array


class _LogRatios(NamedTuple):
    """Log a − log b = c₀ + c₁u + c₂u² in u = x − centre of a, for all pairs of components."""

    c0: jax.Array
    c1: jax.Array
    c2: jax.Array


def find_switches(line: Line, envelopes: Sequence[slice]) -> Switches:
    """Switches of the largest among each of several runs of components."""
    found = [_switches_among(line, rows) for rows in envelopes]
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *found)


def _switches_among(line: Line, rows: slice) -> Switches:
    envelope: Line = index(line, rows)
    ratios = _log_ratios(envelope)
    lows, highs = _interval_above(envelope, ratios)
    # A component is above a wider one between two roots, and so it is the largest, if at all,
    # between the last of its left roots and the first of its right ones.
    start, end = jnp.max(lows, axis=1), jnp.min(highs, axis=1)
    before, after = jnp.argmax(lows, axis=1), jnp.argmin(highs, axis=1)
    u = jnp.concatenate([start, end])
    one = np.tile(np.arange(len(lows)), 2)
    other = jnp.concatenate([before, after])
    x = envelope.centres[one] + u
    c2 = ratios.c2[one, other]
    slope = ratios.c1[one, other] + 2 * c2 * u
    scale = jax.lax.rsqrt(slope**2 + 2 * jnp.abs(c2))
    # A component of any envelope may be there, not only of this one.
    inside = jnp.any(line.squared_distances(x) <= line.reach[:, None], axis=0)
    near_top = _depth(envelope, one, x) < KINK_ENDS
    matters = jnp.isfinite(x) & jnp.isfinite(scale) & near_top & inside
    return Switches(
        x=jnp.where(matters, x, jnp.nan),
        scale=scale,
        one=rows.start + one,
        other=rows.start + other,
    )


def _log_ratios(line):
    a, b = _rows_and_columns(line)
    rate = b.widths**-2
    gap = b.centres - a.centres
    return _LogRatios(
        c0=a.log_peaks - b.log_peaks + 0.5 * gap**2 * rate,
        c1=-gap * rate,
        c2=-0.5 * jnp.abs(rate - a.widths**-2),
    )


def _interval_above(line, ratios):
    """Where each component is above each wider one, `(K, K)` low and high ends; ∓inf for others."""
    low, high = _roots(ratios)
    a, b = _rows_and_columns(line)
    number = np.arange(len(line.centres))
    later = number[None] > number[:, None]
    tied = (b.widths == a.widths) & later
    wider = (b.widths > a.widths) | tied
    present = b.log_peaks > -jnp.inf
    # NaN: identical up to weight, so they never cross.
    rivals = wider & present & ~jnp.isnan(high)
    lows = jnp.where(rivals, low, -jnp.inf)
    highs = jnp.where(rivals, high, jnp.inf)
    return lows, highs


def _roots(ratios):
    """Both roots in order, free of cancellation; twice the nearest approach where there are none.

    NaN where c₁ and c₂ are 0.
    """
    c0, c1, c2 = ratios
    discriminant = c1**2 - 4 * c2 * c0
    root = jnp.sqrt(jnp.maximum(discriminant, 0))
    sign = jnp.where(c1 < 0, -1, 1)
    far = -0.5 * (c1 + sign * root)
    one = far / c2
    other = jnp.where(discriminant < 0, one, c0 / far)
    return jnp.minimum(one, other), jnp.maximum(one, other)


def _depth(line, which, x):
    """How far component `which[i]` is below the largest one at `x[i]`, in log-density."""
    table = line.component_log_prob(x)
    own = table[which, np.arange(x.size)]
    return jnp.max(table, axis=0) - own


def _rows_and_columns(line):
    """The components along the first and along the second axis of a table of pairs."""
    rows = jax.tree.map(lambda leaf: leaf[:, None], line)
    columns = index(line, None)
    return rows, columns
