"""Integrals over one- and two-dimensional space of functions of the log-densities of mixtures.

On a line Gauss–Legendre panels are laid over all structure of the mixtures, so that nothing narrow
or far can be missed. The plane is cut into parallel lines, placed in the same way and bisected
until all panels of lines have converged. Panels are constants of differentiation: the derivative is
the integral of the integrand's derivative.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from gmmjax._exact.mesh import Line, Plane, as_line, as_plane, mesh, switches
from gmmjax._mixture import linalg
from gmmjax._mixture.gmm import GMM
from gmmjax._mixture.moments import mean

ORDER = 10
FINENESS = {1: 2.0, 2: 0.5}  # panels of a line, per panel that its mesh asks for
PART = 8  # panels of a line evaluated at once
FIRST_PANELS = 32
BISECTED = 8  # panels at a time
ROUNDS = 24


def _mirrored(positive):
    return np.concatenate([-np.array(positive[::-1]), [0.0], positive])


# Where the first panels of lines end: between the centre of a component and its end, and around a
# switch.
COMPONENT = _mirrored([0.09, 0.18, 0.28, 0.38, 0.49, 0.6, 0.72, 0.86, 1.0])
SWITCH = _mirrored([2.0, 5.0, 11.0, 22.0, 40.0])


class _Layout(NamedTuple):
    """Which of all components make up each mixture, and among which the largest one is of
    interest.
    """

    mixtures: list[np.ndarray]
    envelopes: list[np.ndarray]


def integrate(fn: Callable, mixtures: Sequence[GMM], joint: bool = False) -> jax.Array:
    """∫ fn(log p, log q, …) dx for checked mixtures of dimension 1 or 2.

    `fn` is smooth in its arguments, up to kinks where p = q if `joint`, and vanishes with all
    densities.
    """
    # Integrals do not change under a common shift, and float32 has no digits to spare for an
    # offset.
    origin = jax.lax.stop_gradient(mean(mixtures[0]))[None]
    mixtures = [g._replace(means=g.means - origin) for g in mixtures]
    ends = np.cumsum([0] + [g.num_components for g in mixtures])
    groups = [np.arange(*pair) for pair in zip(ends[:-1], ends[1:], strict=True)]
    layout = _Layout(groups, [*groups, np.arange(ends[-1])] if joint else groups)
    dim = mixtures[0].dim
    structure = jax.tree.map(
        lambda *leaves: jnp.concatenate(leaves), *map(as_line if dim == 1 else as_plane, mixtures)
    )
    flat, restore = ravel_pytree(structure)

    def lines(flat, panel):
        """The lines of a panel, and what each of them counts for."""
        structure = restore(flat)
        if dim == 1:
            return jax.tree.map(lambda leaf: leaf[None], structure), jnp.ones(1, flat.dtype)
        x, w = _nodes(panel[0], panel[1])
        return jax.vmap(structure.cut)(x), w

    def lay(flat, panel):
        """A mesh on each line of a panel, and the number of panels that all of them are given."""
        meshes = jax.vmap(lambda line: mesh(line, layout.envelopes))(lines(flat, panel)[0])
        count = jnp.ceil(FINENESS[dim] * jnp.max(meshes.panels)).astype(int)
        return meshes, jnp.where((dim == 1) | (panel[1] > panel[0]), count, 0)

    def masses(flat, panel, laid, step):
        """∫ fn over one part of each line of a panel."""
        some, weights = lines(flat, panel)
        steps = step * PART + jnp.arange(PART + 1)
        edges = jax.vmap(lambda mesh: mesh.edges(steps, laid[1]))(laid[0])
        x, w = (v.reshape(len(edges), -1) for v in _nodes(edges[:, :-1], edges[:, 1:]))
        table = jax.vmap(Line.components)(some, x)
        logs = (
            jax.nn.logsumexp(table[:, rows[0] : rows[-1] + 1], axis=1) for rows in layout.mixtures
        )
        return weights * jnp.sum(w * fn(*logs), axis=1)

    parts = _Parts(lay, masses)
    if dim == 1:
        found = _summed(parts)(flat, jnp.zeros((1, 2), flat.dtype), jnp.asarray(1))
    else:
        found = _adaptive(parts, lambda flat: _first_edges(restore(flat), layout))(flat)
    # A mesh has no panels where its structure is not a number.
    return found * jnp.where(jnp.any(jnp.isnan(flat)), jnp.nan, 1.0).astype(found.dtype)


class _Parts(NamedTuple):
    """A sum over parts of panels: how a panel is cut into parts, `(flat, panel)`, and what each of
    them adds.
    """

    lay: Callable
    masses: Callable

    def over_panel(self, flat, panel, term, start):
        """Add `term(flat, panel, laid, step)` over all parts of a panel."""
        laid = self.lay(flat, panel)
        add = lambda step, sums: jax.tree.map(jnp.add, sums, term(flat, panel, laid, step))
        return jax.lax.fori_loop(0, -(-laid[1] // PART), add, start)


def _summed(parts, term=None):
    """The sum of a term over all parts of given panels, of all masses by default; differentiable as
    often as it is.
    """
    term = term or (lambda *part: jnp.sum(parts.masses(*part)))

    @jax.custom_jvp
    def total(flat, panels, used):
        shapes = jax.eval_shape(lambda: term(flat, panels[0], parts.lay(flat, panels[0]), 0))
        zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
        return jax.lax.fori_loop(
            0, used, lambda i, sums: parts.over_panel(flat, panels[i], term, sums), zeros
        )

    @total.defjvp
    def _total_jvp(primals, tangents):
        # How many parts there are is known late, and so loops are differentiated part by part.
        both = jax.jacrev(lambda *part: (term(*part),) * 2, has_aux=True)
        slopes, value = _summed(parts, both)(*primals)
        return value, jax.tree.map(lambda slope: linalg.matmul(slope, tangents[0]), slopes)

    return total


def _adaptive(parts, first_edges):
    """The sum over panels that are chosen on the way, and are constants of differentiation."""

    def refined(flat):
        edges = first_edges(flat)
        zeros = jnp.zeros(ORDER, edges.dtype)
        return _refine(lambda panel: parts.over_panel(flat, panel, parts.masses, zeros), edges)

    @jax.custom_jvp
    def total(flat):
        return jnp.sum(refined(flat)[1])

    @total.defjvp
    def _total_jvp(primals, tangents):
        panels, _, used = refined(jax.lax.stop_gradient(primals[0]))
        return jax.jvp(lambda flat: _summed(parts)(flat, panels, used), primals, tangents)

    return total


def _nodes(low, high):
    """Gauss–Legendre points and weights of panels, along a new last axis."""
    half = ((high - low) / 2)[..., None]
    t, w = (
        v.astype(half.dtype).reshape((1,) * low.ndim + (-1,))
        for v in np.polynomial.legendre.leggauss(ORDER)
    )
    return low[..., None] + half * (1 + t), half * w


def _first_edges(plane: Plane, layout: _Layout):
    """Edges of the first panels of lines: where a change of component crosses a ridge, it is
    crossed by all lines.
    """

    def on_ridge(centre1, centre2, slope, width):
        ridge = plane.along((centre1, centre2), slope)
        x, scale, (a, b) = switches(ridge, layout.envelopes)
        # Away from the ridge the change moves along x₁, which blurs it once x₂ is integrated out.
        missed = (centre2 + slope * (x - centre1))[None] - jax.vmap(plane.cut)(x).centres.T
        pull = missed / plane.widths[:, None] ** 2
        across = width * (pull[a, np.arange(x.size)] - pull[b, np.arange(x.size)])
        return x[:, None] + (scale * jnp.sqrt(1 + across**2))[:, None] * SWITCH[None].astype(
            x.dtype
        )

    first = plane.first
    components = first.centres[:, None] + first.halves()[:, None] * COMPONENT[None].astype(
        first.centres.dtype
    )
    ridges = jax.vmap(on_ridge)(first.centres, plane.centres, plane.slopes, plane.widths)
    return _spread(jnp.concatenate([components.reshape(-1), ridges.reshape(-1)]), FIRST_PANELS)


def _spread(points, count):
    """Edges of `count` panels at even ranks of the breakpoints that are not NaN."""
    ordered = jnp.sort(points)  # NaN last
    total = jnp.sum(~jnp.isnan(points))
    rank = jnp.linspace(0, 1, count + 1, dtype=points.dtype) * jnp.maximum(total - 1, 0).astype(
        points.dtype
    )
    low = jnp.floor(rank).astype(int)
    left, right = ordered[low], ordered[jnp.minimum(low + 1, jnp.maximum(total - 1, 0))]
    edges = left + (rank - low.astype(rank.dtype)) * (right - left)
    return jnp.where(total > 0, edges, 0.0)


def _refine(masses, edges):
    """Bisect the worst panels until all have converged: panels, their values, and how many of them
    are in use.
    """
    t, _ = np.polynomial.legendre.leggauss(ORDER)
    project = np.polynomial.legendre.legvander(t, ORDER - 1).T * (2 * np.arange(ORDER)[:, None] + 1)
    precision = max(1e-12, 10 * float(jnp.finfo(edges.dtype).eps))

    def assess(bounds):
        mass = masses(bounds)
        series = jnp.abs(linalg.matmul(project.astype(mass.dtype), mass))
        size, tail = jnp.max(series), jnp.max(series[-2:])
        # Gauss's rule is exact to twice the degree: its error lies between the last coefficient and
        # its square.
        return jnp.sum(mass), tail * jnp.sqrt(tail / jnp.where(size > 0, size, 1))

    def unfinished(state):
        _, values, errors, used = state
        return (used < values.size) & (jnp.max(errors) > precision * jnp.sum(jnp.abs(values)))

    def advance(state):
        panels, values, errors, used = state
        error, worst = jax.lax.top_k(errors, 2 * BISECTED)
        low, high = panels[worst[:BISECTED]].T
        middle = (low + high) / 2
        halves = jnp.concatenate(
            [jnp.stack([low, middle], axis=1), jnp.stack([middle, high], axis=1)]
        )
        new = jnp.isinf(error[0])  # panels not seen before come first, whole
        parts = jnp.where(new, panels[worst], halves)
        place = jnp.where(
            new, worst, jnp.concatenate([worst[:BISECTED], used + jnp.arange(BISECTED)])
        )
        found = jax.lax.map(assess, parts)
        values, errors = (
            old.at[place].set(new) for old, new in zip((values, errors), found, strict=True)
        )
        return panels.at[place].set(parts), values, errors, jnp.where(new, used, used + BISECTED)

    count = edges.size - 1
    panels = jnp.zeros((2 * count + BISECTED * ROUNDS, 2), edges.dtype)
    panels = panels.at[:count].set(jnp.stack([edges[:-1], edges[1:]], axis=1))
    unseen = jnp.where(np.arange(len(panels)) < count, jnp.inf, 0.0).astype(edges.dtype)
    state = panels, jnp.zeros_like(unseen), unseen, jnp.asarray(count)
    panels, values, _, used = jax.lax.while_loop(unfinished, advance, state)
    return panels, values, used
