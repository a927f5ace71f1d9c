"""Integrals over one- and two-dimensional space of functions of the log-densities of mixtures.

Restricted to a line, a mixture is again one of (unnormalised) Gaussians. So all structure of an integrand on a line
is known in advance: the components, and the places where the largest of them changes (there log p has a soft kink, as
sharp as the components are far apart). Gauss–Legendre panels are laid over those, so that nothing narrow or far can be
missed. The plane is cut into parallel lines, placed in the same way and bisected until all panels have converged.
Panels are chosen under `stop_gradient`: the derivative is the integral of the integrand's derivative.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax import _density, _linalg
from gmmjax._gmm import GMM, mean

REACH = 90.0  # squared Mahalanobis distance beyond which a component ends: exp(−45) is 3e-20
ORDER = 10
# Panels per breakpoint of a line. On parallel lines, of which there are hundreds, few features matter on each.
DENSITY = {1: 1.0, 2: 0.25}
FIRST_PANELS = 32
BISECTED = 8  # panels at a time
ROUNDS = 24


def _mirrored(positive):
    return np.concatenate([-np.array(positive[::-1]), [0.0], positive])


# Where the breakpoints of a component lie between its centre and its end, and those of a change of the largest
# component, in units of the distance on which the log-ratio changes by one: by exp(−40) the kink is over.
COMPONENT = _mirrored([0.09, 0.18, 0.28, 0.38, 0.49, 0.6, 0.72, 0.86, 1.0])
SWITCH = _mirrored([2.0, 5.0, 11.0, 22.0, 40.0])


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
        return Line(self.first.log_peaks - 0.5 * square, means, self.widths, self.first.reach - square)

    def along(self, centre, slope):
        """Restricted to the line x₂ = centre[1] + slope (x₁ − centre[0]), as a function of x₁."""
        tilt = (slope - self.slopes) / self.widths
        offset = (centre[1] + slope * (self.first.centres - centre[0]) - self.centres) / self.widths
        rate = 1 / self.first.widths**2 + tilt**2
        missed = offset**2 / (rate * self.first.widths**2)
        means = self.first.centres - offset * tilt / rate
        return Line(self.first.log_peaks - 0.5 * missed, means, jax.lax.rsqrt(rate), self.first.reach - missed)


def integrate(fn: Callable, mixtures: Sequence[GMM], joint: bool = False) -> jax.Array:
    """∫ fn(log p, log q, …) dx for checked mixtures of dimension 1 or 2.

    `fn` is smooth in its arguments, up to kinks where p = q if `joint`, and vanishes with all densities.
    """
    # Integrals do not change under a common shift, and float32 has no digits to spare for an offset.
    origin = jax.lax.stop_gradient(mean(mixtures[0]))[None]
    mixtures = [g._replace(means=g.means - origin) for g in mixtures]
    ends = np.cumsum([0] + [g.num_components for g in mixtures])
    groups = [np.arange(*pair) for pair in zip(ends[:-1], ends[1:], strict=True)]
    layout = _Layout(groups, [*groups, np.arange(ends[-1])] if joint else groups)
    if mixtures[0].dim == 1:
        return _over_line(fn, _joined([_line(g) for g in mixtures]), layout, DENSITY[1])
    plane = _joined([_plane(g) for g in mixtures])

    def over_panel(plane, bounds):
        x, w = _nodes(bounds[0], bounds[1])
        masses = lambda: w * jax.vmap(lambda x1: _over_line(fn, plane.cut(x1), layout, DENSITY[2]))(x)
        return jax.lax.cond(bounds[1] > bounds[0], masses, lambda: jnp.zeros_like(w))

    fixed = jax.lax.stop_gradient(plane)
    panels = _refine(lambda bounds: over_panel(fixed, bounds), _first_edges(fixed, layout))
    return jnp.sum(jax.lax.map(jax.checkpoint(lambda bounds: over_panel(plane, bounds)), panels))


class _Layout(NamedTuple):
    """Which of all components make up each mixture, and among which the largest one is of interest."""

    mixtures: list[np.ndarray]
    envelopes: list[np.ndarray]


def _line(g):
    reach = jnp.where(g.logits > -jnp.inf, REACH, -1.0).astype(g.means.dtype)
    widths = g.scale if g.scale.ndim < 3 else g.scale[:, 0, 0]  # of the first coordinate
    widths = widths if widths.ndim < 2 else widths[:, 0]
    return Line(_density.precision(g).log_peaks, g.means[:, 0], jnp.broadcast_to(jnp.abs(widths), reach.shape), reach)


def _plane(g):
    rest = g.scale if g.scale.ndim < 3 else g.scale[:, 1, 1]
    rest = rest if rest.ndim < 2 else rest[:, 1]
    slopes = g.scale[:, 1, 0] / g.scale[:, 0, 0] if g.scale.ndim == 3 else jnp.zeros_like(rest)
    slopes, rest = (jnp.broadcast_to(v, g.logits.shape) for v in (slopes, jnp.abs(rest)))
    return Plane(_line(g), g.means[:, 1], slopes, rest)


def _joined(parts):
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)


def _over_line(fn, line, layout, density):
    fixed = jax.lax.stop_gradient(line)
    x, scale, _ = _switches(fixed, layout.envelopes)
    points = jnp.concatenate([_component_points(fixed), _around(x, scale)])
    edges = _spread(points, int(points.size * density))
    x, w = (v.reshape(-1) for v in _nodes(edges[:-1], edges[1:]))
    table = line.components(x)
    return jnp.sum(w * fn(*(jax.nn.logsumexp(table[rows[0] : rows[-1] + 1], axis=0) for rows in layout.mixtures)))


def _nodes(low, high):
    """Gauss–Legendre points and weights of panels, along a new last axis."""
    half = ((high - low) / 2)[..., None]
    t, w = (v.astype(half.dtype).reshape((1,) * low.ndim + (-1,)) for v in np.polynomial.legendre.leggauss(ORDER))
    return low[..., None] + half * (1 + t), half * w


def _first_edges(plane, layout):
    """Edges of the first panels of lines: where a change of component crosses a ridge, it is crossed by all lines."""

    def on_ridge(centre1, centre2, slope, width):
        ridge = plane.along((centre1, centre2), slope)
        x, scale, (a, b) = _switches(ridge, layout.envelopes)
        # Away from the ridge the change moves along x₁, which blurs it once x₂ is integrated out.
        missed = (centre2 + slope * (x - centre1))[None] - jax.vmap(plane.cut)(x).centres.T
        pull = missed / plane.widths[:, None] ** 2
        across = width * (pull[a, np.arange(x.size)] - pull[b, np.arange(x.size)])
        return _around(x, scale * jnp.sqrt(1 + across**2))

    first = plane.first
    ridges = jax.vmap(on_ridge)(first.centres, plane.centres, plane.slopes, plane.widths)
    return _spread(jnp.concatenate([_component_points(first), ridges.reshape(-1)]), FIRST_PANELS)


def _component_points(line: Line):
    """Breakpoints of the components; NaN for those that the line does not meet."""
    half = line.widths * jnp.sqrt(jnp.where(line.reach > 0, line.reach, jnp.nan))
    return (line.centres[:, None] + half[:, None] * COMPONENT[None].astype(half.dtype)).reshape(-1)


def _around(x, scale):
    return (x[:, None] + scale[:, None] * SWITCH[None].astype(x.dtype)).reshape(-1)


def _switches(line: Line, envelopes):
    """Where the largest of some components changes: positions, scales, and the two components; NaN for none.

    An envelope of K parabolas has at most 2(K − 1) of them: of all crossings of two components (and nearest
    approaches, where they do not cross) those closest to their envelope are kept.
    """
    pairs = [np.stack(np.triu_indices(rows.size, 1)) + rows[0] for rows in envelopes]
    a, b = np.concatenate([np.tile(pair, 2) for pair in pairs], axis=1)  # once for each root
    second = np.concatenate([np.arange(2 * pair.shape[1]) >= pair.shape[1] for pair in pairs])
    inner = [np.isin(np.arange(line.centres.size), rows)[:, None] for rows in envelopes]
    member = np.concatenate([np.repeat(m, 2 * p.shape[1], axis=1) for m, p in zip(inner, pairs, strict=True)], axis=1)
    rate, gap = line.widths**-2, line.centres[b] - line.centres[a]
    # log-ratio = c₀ + c₁u + c₂u² in u = x − centre of a, with both roots free of cancellation
    c0 = line.log_peaks[a] - line.log_peaks[b] + 0.5 * gap**2 * rate[b]
    c1, c2 = -gap * rate[b], 0.5 * (rate[b] - rate[a])
    discriminant = c1**2 - 4 * c2 * c0
    far = -0.5 * (c1 + jnp.where(c1 < 0, -1, 1) * jnp.sqrt(jnp.maximum(discriminant, 0)))
    u = jnp.where(second & (discriminant >= 0), c0 / far, far / c2)
    x = line.centres[a] + u
    scale = jax.lax.rsqrt((c1 + 2 * c2 * u) ** 2 + 2 * jnp.abs(c2))
    table = line.components(x)
    lower = jnp.minimum(*jnp.take_along_axis(table, np.stack([a, b]), axis=0))
    depth = jnp.max(jnp.where(member, table, -jnp.inf), axis=0, initial=-jnp.inf) - lower
    inside = jnp.any(line.squares(x) <= line.reach[:, None], axis=0)
    matters = jnp.isfinite(x) & jnp.isfinite(scale) & (depth < SWITCH[-1]) & inside
    kept = sum(2 * (rows.size - 1) for rows in envelopes)
    _, best = jax.lax.top_k(jnp.where(matters, -depth, -jnp.inf), min(kept, x.size))
    return jnp.where(matters, x, jnp.nan)[best], scale[best], (jnp.asarray(a)[best], jnp.asarray(b)[best])


def _spread(points, count):
    """Edges of `count` panels at even ranks of the breakpoints that are not NaN."""
    ordered = jnp.sort(points)  # NaN last
    total = jnp.sum(~jnp.isnan(points))
    rank = jnp.linspace(0, 1, count + 1, dtype=points.dtype) * jnp.maximum(total - 1, 0).astype(points.dtype)
    low = jnp.floor(rank).astype(int)
    left, right = ordered[low], ordered[jnp.minimum(low + 1, jnp.maximum(total - 1, 0))]
    edges = left + (rank - low.astype(rank.dtype)) * (right - left)
    return jnp.where(total > 0, edges, 0.0)


def _refine(masses, edges):
    """Bisect the worst panels until all have converged; unused room is panels of no width."""
    t, _ = np.polynomial.legendre.leggauss(ORDER)
    project = np.polynomial.legendre.legvander(t, ORDER - 1).T * (2 * np.arange(ORDER)[:, None] + 1)
    precision = max(1e-12, 10 * float(jnp.finfo(edges.dtype).eps))

    def assess(bounds):
        mass = masses(bounds)
        series = jnp.abs(jnp.matmul(project.astype(mass.dtype), mass, precision=_linalg.HIGHEST))
        size, tail = jnp.max(series), jnp.max(series[-2:])
        # Gauss's rule is exact to twice the degree: its error lies between the last coefficient and its square.
        return jnp.sum(mass), tail * jnp.sqrt(tail / jnp.where(size > 0, size, 1))

    def unfinished(state):
        _, values, errors, used = state
        return (used < values.size) & (jnp.max(errors) > precision * jnp.sum(jnp.abs(values)))

    def bisect(state):
        panels, values, errors, used = state
        error, worst = jax.lax.top_k(errors, BISECTED)
        low, high = panels[worst].T
        middle = jnp.where(jnp.isinf(error), high, (low + high) / 2)  # a panel not seen before stays whole
        parts = jnp.concatenate([jnp.stack([low, middle], axis=1), jnp.stack([middle, high], axis=1)])
        found = jax.lax.map(assess, parts)
        place = jnp.concatenate([worst, used + jnp.arange(BISECTED)])
        values, errors = (old.at[place].set(new) for old, new in zip((values, errors), found, strict=True))
        return panels.at[place].set(parts), values, errors, used + BISECTED

    count = edges.size - 1
    panels = jnp.zeros((2 * count + BISECTED * ROUNDS, 2), edges.dtype)
    panels = panels.at[:count].set(jnp.stack([edges[:-1], edges[1:]], axis=1))
    unseen = jnp.where(np.arange(len(panels)) < count, jnp.inf, 0.0).astype(edges.dtype)
    state = panels, jnp.zeros_like(unseen), unseen, jnp.asarray(count)
    return jax.lax.while_loop(unfinished, bisect, state)[0]
