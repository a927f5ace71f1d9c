"""Integrals over one- and two-dimensional space of functions of the log-densities of mixtures.

On a line Gauss–Legendre panels are laid over all structure of the mixtures, so that nothing narrow
or far can be missed. The plane is cut into strips of parallel lines, placed in the same way and
bisected until all have converged. Panels and strips are constants of differentiation: the
derivative is the integral of the integrand's derivative.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from gmmjax._exact.first_strips import first_edges
from gmmjax._exact.legendre import ORDER, nodes
from gmmjax._exact.lines import Line, as_line, as_plane
from gmmjax._exact.mesh import Mesh, build_mesh
from gmmjax._exact.refine import Strips, refine
from gmmjax._logs import log_sum_exp
from gmmjax._matrices import linalg
from gmmjax._mixture.gmm import GMM, index
from gmmjax._mixture.moments import recentred

FINENESS = {1: 2.0, 2: 0.5}  # panels of a line, per panel that its mesh asks for
PART = 8  # panels of a line evaluated at once


def integrate(fn: Callable, mixtures: Sequence[GMM], joint: bool = False) -> jax.Array:
    """∫ fn(log p, log q, …) dx for checked mixtures of dimension 1 or 2.

    `fn` is smooth in its arguments, up to kinks where p = q if `joint`, and vanishes with all
    densities.
    """
    dim = mixtures[0].dim
    rows = _rows_of_each(mixtures)
    every_row = slice(0, rows[-1].stop)
    params, restore = ravel_pytree(_side_by_side(recentred(*mixtures)))
    integrand = _Integrand(
        fn=fn,
        restore=restore,
        mixtures=rows,
        envelopes=[*rows, every_row] if joint else rows,
        fineness=FINENESS[dim],
    )
    integral = _line_integral if dim == 1 else _plane_integral
    value = integral(integrand, params)
    # NaN parameters would give an empty mesh and a 0: return NaN instead.
    one_or_nan = jnp.where(jnp.any(jnp.isnan(params)), jnp.nan, 1.0)
    return value * one_or_nan.astype(value.dtype)


def _rows_of_each(mixtures):
    """Which of all components, side by side, make up each mixture."""
    ends = np.cumsum([g.num_components for g in mixtures])
    starts = [0, *ends[:-1]]
    return [slice(start, end) for start, end in zip(starts, ends, strict=True)]


def _side_by_side(mixtures):
    """All components of all mixtures as one `Line` or one `Plane`."""
    convert = as_line if mixtures[0].dim == 1 else as_plane
    structures = [convert(g) for g in mixtures]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *structures)


class _StripMesh(NamedTuple):
    """A mesh on each line of a strip, and the number of panels that every line gets."""

    meshes: Mesh
    count: jax.Array


class _Integrand(NamedTuple):
    """A function of log-densities, and how a vector of parameters describes the components.

    In one dimension there is one line, which counts as a strip.
    """

    fn: Callable
    restore: Callable  # from the vector to a `Line` or a `Plane`
    mixtures: Sequence[slice]  # the components of each
    envelopes: Sequence[slice]  # among which the largest component is of interest
    fineness: float

    def lines(self, params, strip):
        """The lines of a strip, and what each of them counts for."""
        structure = self.restore(params)
        if isinstance(structure, Line):
            return index(structure, None), jnp.ones(1, params.dtype)
        x1, weights = nodes(strip[0], strip[1])
        return jax.vmap(structure.cut)(x1), weights

    def mesh(self, params, strip):
        """The mesh on all lines of a strip; no panels for an empty strip."""
        lines, _ = self.lines(params, strip)
        meshes = jax.vmap(lambda line: build_mesh(line, self.envelopes))(lines)
        count = jnp.ceil(self.fineness * jnp.max(meshes.cumulative)).astype(int)
        return _StripMesh(meshes, jnp.where(strip[1] > strip[0], count, 0))

    def partial_integrals(self, params, strip, mesh, step):
        """What one part of each line of a strip adds, line by line."""
        lines, weights = self.lines(params, strip)
        steps = step * PART + jnp.arange(PART + 1)
        edges = jax.vmap(lambda on_line: on_line.edges(steps, mesh.count))(mesh.meshes)
        x, point_weights = nodes(edges[:, :-1], edges[:, 1:])
        all_points = (len(edges), -1)
        values = self.values(lines, x.reshape(all_points))
        terms = point_weights.reshape(all_points) * values
        return weights * jnp.sum(terms, axis=1)

    def values(self, lines, x):
        """The function at some points on each line."""
        table = jax.vmap(Line.component_log_prob)(lines, x)
        logs = [log_sum_exp(table[:, rows], axis=1) for rows in self.mixtures]
        return self.fn(*logs)

    def partial_integral(self, params, strip, mesh, step):
        """What one part of all lines of a strip adds."""
        return jnp.sum(self.partial_integrals(params, strip, mesh, step))


def _sum_parts(integrand, term, params, strip, start):
    """Add `term(params, strip, mesh, step)` over all parts of a strip to `start`."""
    mesh = integrand.mesh(params, strip)

    def add(step, total):
        return jax.tree.map(jnp.add, total, term(params, strip, mesh, step))

    num_parts = -(-mesh.count // PART)
    return jax.lax.fori_loop(0, num_parts, add, start)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _sum_strips(integrand, term, params, strips, used):
    """The sum of a term over all parts of the first `used` strips."""

    def add(i, total):
        return _sum_parts(integrand, term, params, strips[i], total)

    def first_part():
        return term(params, strips[0], integrand.mesh(params, strips[0]), 0)

    zeros = jax.tree.map(jnp.zeros_like, jax.eval_shape(first_part))
    return jax.lax.fori_loop(0, used, add, zeros)


@_sum_strips.defjvp
def _sum_strips_jvp(integrand, term, primals, tangents):
    # The trip count is traced, so reverse mode cannot cross the loop: each part is differentiated
    # inside it.
    value, jacobian = _sum_strips(integrand, _value_and_jacobian(term), *primals)
    tangent, *_ = tangents
    return value, jax.tree.map(lambda leaf: linalg.matmul(leaf, tangent), jacobian)


def _value_and_jacobian(term):
    """The term and its derivatives in the parameters, its first argument."""

    def twice(*part):
        value = term(*part)
        return value, value

    def value_and_jacobian(*part):
        jacobian, value = jax.jacrev(twice, has_aux=True)(*part)
        return value, jacobian

    return value_and_jacobian


def _line_integral(integrand, params):
    """The integral over the one strip there is."""
    whole = jnp.array([[0.0, 1.0]], params.dtype)
    return _sum_strips(integrand, integrand.partial_integral, params, whole, jnp.asarray(1))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _plane_integral(integrand, params):
    """The integral over strips that are bisected until all have converged."""
    return jnp.sum(_converged_strips(integrand, params).integrals)


@_plane_integral.defjvp
def _plane_integral_jvp(integrand, primals, tangents):
    (params,) = primals
    strips = _converged_strips(integrand, jax.lax.stop_gradient(params))

    def total(params):
        term = integrand.partial_integral
        return _sum_strips(integrand, term, params, strips.bounds, strips.used)

    return jax.jvp(total, primals, tangents)


def _converged_strips(integrand, params) -> Strips:
    edges = first_edges(integrand.restore(params), integrand.envelopes)
    zeros = jnp.zeros(ORDER, edges.dtype)

    def terms(strip):
        return _sum_parts(integrand, integrand.partial_integrals, params, strip, zeros)

    return refine(terms, edges)
