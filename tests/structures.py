"""Random mixtures as hypothesis draws and shrinks them: structure, scales, offsets and all.

A layout is a structure of both sides, with their numbers of components and of dimensions: each is
a compilation of a dozen seconds, and so there are few. What else is drawn needs none.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

import gmmjax

DECADES = 4  # up and down: scales over eight decades


class Layout(NamedTuple):
    """What a program is compiled for."""

    kinds: tuple[str, str]
    count: int
    dim: int


LAYOUTS = [
    Layout(("full", "diagonal"), 3, 2),
    Layout(("spherical", "tied"), 2, 2),
    Layout(("tied diagonal", "tied spherical"), 3, 1),
]


@st.composite
def mixtures(draw, layout, kind):
    """Scales over 8 decades, offsets, rare weights, twins and absent components."""
    shape = layout.count, layout.dim
    rng = np.random.default_rng(draw(st.integers(0, 1 << 16), label="seed"))
    unit = 10.0 ** draw(st.integers(-DECADES, DECADES), label="decade of the scale")
    offset = draw(st.sampled_from([0.0, 1.0, 1e3]), label="offset in scales")
    spread = draw(st.sampled_from([0.0, 1.0, 2.0]), label="spread of the widths")
    widths = unit * np.exp(spread * rng.normal(size=layout.count))
    means = unit * (offset + 3 * rng.normal(size=shape))
    logits = rng.normal(size=layout.count)
    if draw(st.booleans(), label="a rare weight"):
        logits[0] -= 20.0
    if draw(st.booleans(), label="coincident"):
        means[1] = means[0]
    if draw(st.booleans(), label="absent"):
        logits[-1] = -np.inf
    return gmmjax.GMM(*map(jnp.asarray, (logits, means, _scale(rng, widths, layout.dim, kind))))


def _scale(rng, widths, dim, kind):
    count = len(widths)
    deviations = widths[:, None] * np.exp(0.3 * rng.normal(size=(count, dim)))
    lower = np.tril(0.5 * rng.normal(size=(count, dim, dim)), -1)
    found = {
        "full": deviations[:, :, None] * (np.eye(dim) + lower),
        "diagonal": deviations,
        "spherical": deviations[:, 0],
    }["full" if kind == "tied" else kind.removeprefix("tied ")]
    return found[:1] if kind.startswith("tied") else found


@st.composite
def pairs(draw):
    """A layout and two mixtures; of one place and unit at times, as fits of the same data are."""
    layout = draw(st.sampled_from(LAYOUTS), label="layout")
    p, q = (draw(mixtures(layout, kind)) for kind in layout.kinds)
    if draw(st.booleans(), label="near"):
        unit = width(p) / width(q)
        shift = jnp.mean(p.means, axis=0) - unit * jnp.mean(q.means, axis=0)
        q = moved(q, unit, shift[None])
    return layout, p, q


def width(g):
    return np.abs(g.scale).max()


def moved(g, unit, shift):
    """In another unit and from another origin."""
    return gmmjax.GMM(g.logits, unit * g.means + shift, unit * g.scale)


def reversed_order(g):
    """With its components the other way round."""
    tied = len(g.scale) < g.num_components
    return gmmjax.GMM(g.logits[::-1], g.means[::-1], g.scale if tied else g.scale[::-1])
