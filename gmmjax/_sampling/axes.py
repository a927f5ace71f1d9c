"""Turned factors: normals whose first coordinates carry most of what a control leaves.

A factor L_k may be replaced by L_k U_k with any orthogonal U_k: points μ_k + L_k U_k z are
distributed alike. The first coordinates of Sobol points fill the cube most evenly, and here they
are given to the directions in which an integrand varies most on average, the leading eigenvectors
of E[∇r ∇rᵀ]: Constantine (2015), "Active subspaces". Axes need not be exact, only orthogonal.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gmmjax._mixture import linalg
from gmmjax._mixture.gmm import GMM
from gmmjax._sampling import allocation, control_variates
from gmmjax._sampling.control_variates import Baseline, Control

FLOOR = 1e-3  # of the mean square slope: directions without any are in no order


def turned_factors(
    p: GMM,
    integrand: Callable,
    control: Control | None,
    params,
    subtracted: Baseline,
    num_points: int,
    opposite: bool,
    fixed: bool,
) -> jax.Array:
    """L_k U_k for full factors, of the sampled mixture or tied; all others stay as they are.

    Args:
      p: the sampled mixture.
      integrand: `(params, x) -> (values, features)`.
      control: what the slopes of the integrand in its features come from; there is no U without.
      params: of the integrand.
      subtracted: from the integrand.
      num_points: of the estimate, as for `control_variates.baseline`.
      opposite: whether points come in opposite pairs, to which only the even part of what is left
        matters.
      fixed: whether U is a constant of differentiation.
    """
    z = control_variates.pilot_normals(p.num_components, p.dim, num_points)
    is_full = p.scale.ndim > p.means.ndim and p.dim > 1
    if control is None or not subtracted.slopes or not is_full or len(z) > 1:
        return p.scale
    arguments = (p, params, subtracted.slopes)
    if fixed:
        arguments = jax.tree.map(jax.lax.stop_gradient, arguments)
    held, params, slopes = arguments
    z = jnp.asarray(z[0], p.means.dtype)
    gradients = _gradients(held, integrand, control, params, slopes, z)
    if opposite:
        half = z.shape[1] // 2
        gradients = 0.5 * (gradients[..., :half] - gradients[..., half:])
    moments = linalg.matmul(gradients, gradients.mT)
    if len(p.scale) == 1:
        moments = jnp.tensordot(jax.nn.softmax(held.logits), moments, 1)[None]
    return linalg.matmul(p.scale, leading_axes(moments).mT)


def _gradients(p, integrand, control, params, slopes, z):
    """Gradients `(K, D, n)` of what is left of an integrand, in each component's coordinates."""
    count, dim = p.means.shape
    everyone = jnp.eye(count, dtype=p.means.dtype)
    # The normals of `control_variates` are in opposite pairs, one half and then the other.
    z = jnp.broadcast_to(z[:, None], (dim, count, z.shape[1]))

    def features(x):
        return integrand(params, x)[1]

    found, pull = jax.vjp(features, allocation.place(everyone, p.means, p.scale, z))
    _, rates = control_variates.linearise(params, control, found)
    left = [
        (rate.reshape(len(rate), count, -1) - fixed.T[:, :, None]).reshape(rate.shape)
        for rate, fixed in zip(rates, slopes, strict=True)
    ]
    (gradients,) = pull(tuple(left))
    gradients = gradients.reshape(dim, count, -1).transpose(1, 0, 2)
    return linalg.matmul(p.scale.mT, gradients)


def leading_axes(moments: jax.Array) -> jax.Array:
    """Orthonormal rows `(K, D, D)`, the first ones near the leading eigenvectors of `moments`."""
    # Gram–Schmidt with the longest row first, twice: one step of orthogonal iteration, which needs
    # no decomposition.
    dim = moments.shape[-1]
    size = jnp.mean(linalg.diagonal(moments), axis=-1)[:, None, None]
    relative = jnp.where(size > 0, moments / jnp.where(size > 0, size, 1.0), 0.0)

    def row(j, state):
        left, axes = state
        squares = jnp.sum(left * left, axis=-1)
        longest = jax.nn.one_hot(jnp.argmax(squares, axis=-1), dim, dtype=left.dtype)
        axis = _unit(jnp.sum(longest[..., None] * left, axis=-2))
        axis = _unit(axis - _along(axes.mT, _along(axes, axis)))
        left = left - _along(left, axis)[..., None] * axis[..., None, :]
        return left, jax.lax.dynamic_update_slice_in_dim(axes, axis[..., None, :], j, axis=-2)

    start = relative + FLOOR * jnp.eye(dim, dtype=relative.dtype)[None]
    return jax.lax.fori_loop(0, dim, row, (start, jnp.zeros_like(start)))[1]


def _along(matrices, vectors):
    return jnp.sum(matrices * vectors[..., None, :], axis=-1)


def _unit(vectors):
    return vectors / jnp.sqrt(jnp.sum(vectors * vectors, axis=-1, keepdims=True))
