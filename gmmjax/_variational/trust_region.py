"""The largest natural-gradient step inside a trust region, of each component and of the weights."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._logs import log_softmax
from gmmjax._matrices import linalg, scales, triangular
from gmmjax._mixture.gmm import GMM
from gmmjax._mixture.structure import is_full
from gmmjax._variational.quadratic import Quadratic

_RATIO, _COUNT = 16.0, 16  # from one step size to the next in the first round, and how many


class Move(NamedTuple):
    """What a step does to components in the whitened coordinates of each."""

    shift: jax.Array  # (K, D)
    factor: jax.Array  # (K, D, D) lower, (K, D) or (K, 1)
    kl: jax.Array  # (K,) from the old component to the new one, NaN where there is none


def move(found: Quadratic, step: jax.Array) -> Move:
    """A step of size β, `(K,)`: the precision becomes 1 − βA and the mean (1 − βA)⁻¹βm."""
    dim = found.slope.shape[1]
    slope = step[:, None] * found.slope
    if found.curvature.ndim == 3:
        identity = np.eye(dim, dtype=slope.dtype)[None]
        factor = _inverse_factor(identity - step[:, None, None] * found.curvature)
        shift = scales.apply(factor, scales.apply(factor.mT, slope))
        trace = jnp.sum(factor * factor, axis=(1, 2))
        log_det = jnp.sum(jnp.log(linalg.diagonal(factor)), axis=1)
    else:
        factor = 1 / jnp.sqrt(1 - step[:, None] * found.curvature)
        shift = factor * factor * slope
        repeat = dim // factor.shape[1]
        trace = repeat * jnp.sum(factor * factor, axis=1)
        log_det = repeat * jnp.sum(jnp.log(factor), axis=1)
    kl = 0.5 * (trace - dim + jnp.sum(shift * shift, axis=1)) - log_det
    return Move(shift, factor, kl)


def _inverse_factor(precision):
    """The lower T with T Tᵀ = P⁻¹: the inverse of the transposed U with P = U Uᵀ."""
    upper = triangular.cholesky(precision[..., ::-1, ::-1])[..., ::-1, ::-1]
    return triangular.tril_inverse(upper.mT)


def largest_step(found: Quadratic, radius: jax.Array, most: jax.Array) -> jax.Array:
    """The largest β ≤ `most` whose KL is at most `radius`, `(K,)`, within 20 %; 0 where none is."""
    # The KL grows with β. Grids take two Cholesky loops, where bisection takes one for every bit.
    powers = jnp.arange(_COUNT, dtype=radius.dtype)[:, None]
    coarse = most * _RATIO**-powers * jnp.ones_like(radius)[None]
    first = _largest_inside(found, radius, coarse)
    fine = first[None] * _RATIO ** (powers / _COUNT)
    return _largest_inside(found, radius, jnp.minimum(fine, most))


def _largest_inside(found: Quadratic, radius: jax.Array, steps: jax.Array) -> jax.Array:
    """Of step sizes `(n, K)` the largest that is inside, or 0."""
    kl = jax.vmap(lambda step: move(found, step).kl)(steps)
    return jnp.max(jnp.where(kl <= radius[None], steps, 0.0), axis=0)


def moved(q: GMM, change: Move) -> GMM:
    """The mixture after its components have moved."""
    if is_full(q):
        shift = scales.apply(q.scale, change.shift)
        return q._replace(means=q.means + shift, scale=linalg.matmul(q.scale, change.factor))
    scale = q.scale.reshape(q.num_components, -1)
    new = (scale * change.factor).reshape(q.scale.shape)
    return q._replace(means=q.means + scale * change.shift, scale=new)


def reweighted(log_weights: jax.Array, level: jax.Array, radius: float, most: jax.Array):
    """Log-weights ∝ w_k exp(β E_k[f]) for the largest β ≤ `most` whose KL is at most `radius`."""
    present = log_weights > -jnp.inf
    start: jax.Array = jnp.where(present, log_weights, 0.0)

    def at(step: jax.Array):
        tilted: jax.Array = jnp.where(present, start + step * level, -jnp.inf)
        return jnp.where(present, log_softmax(tilted), 0.0)

    def halve(_, bounds):
        low, high = bounds
        middle = 0.5 * (low + high)
        new = at(middle)
        inside = jnp.sum(jnp.where(present, jnp.exp(new) * (new - start), 0.0)) <= radius
        return jnp.where(inside, middle, low), jnp.where(inside, high, middle)

    # The end of the interval first: most steps are inside.
    low, _ = jax.lax.fori_loop(0, 20, halve, (jnp.zeros_like(most), 2 * most))
    return jnp.where(present, at(jnp.minimum(low, most)), -jnp.inf)
