"""Points of each component's own, and log q there without the rounding of the points."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._matrices import linalg, scales
from gmmjax._mixture.density import log_peaks
from gmmjax._mixture.gmm import GMM
from gmmjax._mixture.structure import is_full
from gmmjax._pairs.components import relative_scale
from gmmjax._sampling.estimate import Estimate


class OwnPoints(NamedTuple):
    """Points x = μ_k + L_k z of each component, in opposite pairs, and log q there."""

    z: jax.Array  # (K, D, S)
    x: jax.Array  # (K, S, D)
    log_q: jax.Array  # (K, S)
    gradient: jax.Array  # (K, D, S) of log q in z


def normals(key, q: GMM, count: int) -> jax.Array:
    """The first halves of pairs of standard normals, `(K, D, count / 2)`."""
    return jax.random.normal(key, (*q.means.shape, count // 2), q.means.dtype)


def place(q: GMM, half: jax.Array, active: jax.Array) -> OwnPoints:
    """Points at normals and their opposites, with log q where the component is `active`."""
    z = jnp.concatenate([half, -half], axis=2)
    x = (q.means[:, :, None] + _spread(q, z)).mT
    inverse = scales.inverse(q.scale, q.means)
    peaks = log_peaks(q)

    def own(i):
        factor, shift = _relative(q, inverse, i)
        return _log_density(peaks, factor, shift, z[i])

    return OwnPoints(z, x, *where_active(own, active))


def pairs(values: jax.Array) -> jax.Array:
    """Means and half differences of opposite points, `(2, K, S / 2)` of `(K, S)` values."""
    first, second = jnp.split(values, 2, axis=1)
    return jnp.stack([0.5 * (first + second), 0.5 * (first - second)])


def estimate(values: jax.Array) -> Estimate:
    """Means over the last axis and their errors, of values whose squares may overflow."""
    value = jnp.mean(values, axis=-1)
    off = values - value[..., None]
    largest = jnp.max(jnp.abs(off), axis=-1)
    unit = jnp.where(largest > 0, largest, 1.0)
    relative = jnp.sum((off / unit[..., None]) ** 2, axis=-1)
    count = values.shape[-1]
    return Estimate(value, unit * jnp.sqrt(relative / (count * (count - 1))))


def where_active(function, active: jax.Array):
    """A function of every active component, and zeros for the rest, for which it is not called."""
    shapes = jax.eval_shape(function, 0)

    def one(i):
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return jax.lax.cond(active[i], function, lambda _: zeros, i)

    return jax.lax.map(one, jnp.arange(len(active)))


def pull_back(q: GMM, gradient: jax.Array) -> jax.Array:
    """Gradients in x, `(K, D, S)`, as gradients in z."""
    if is_full(q):
        return linalg.matmul(q.scale.mT, gradient)
    return _spread(q, gradient)


def _relative(q, inverse, i):
    """R_j and s_j with L_j⁻¹(x − μ_j) = R_j z + s_j at the points x of component i."""
    # In these coordinates log q suffers neither from the rounding of x, nor where components are
    # narrow and far from 0, and what a component says of its own points is −½‖z‖² to the last bit.
    one = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, i, 1), q)
    own = jnp.arange(q.num_components) == i
    factor = relative_scale(one.scale, one.means, inverse, q.means)[0]
    identity = np.eye(q.dim, dtype=factor.dtype)[None] if factor.ndim == 3 else 1.0
    factor = jnp.where(own.reshape(-1, *[1] * (factor.ndim - 1)), identity, factor)
    shift = scales.apply(inverse, one.means - q.means)
    return factor, jnp.where(own[:, None], 0.0, shift)


def _log_density(peaks, factor, shift, z):
    """Log Σ_j exp(peak_j − ½‖R_j z + s_j‖²) and its gradient in z, at `(D, S)` points."""
    count, dim = shift.shape
    if factor.ndim == 3:
        flat = factor.reshape(count * dim, dim)
        white = linalg.matmul(flat, z).reshape(count, dim, -1) + shift[:, :, None]
    else:
        white = factor[:, :, None] * z[None] + shift[:, :, None]
    table = peaks[:, None] - 0.5 * jnp.sum(white * white, axis=1)
    log_q = jax.nn.logsumexp(table, axis=0)
    pull = jnp.exp(table - log_q[None])[:, None] * white
    if factor.ndim == 3:
        return log_q, -linalg.matmul(flat.T, pull.reshape(count * dim, -1))
    return log_q, -jnp.sum(factor[:, :, None] * pull, axis=0)


def _spread(q, vectors):
    """L_k v for `(K, D, S)` vectors."""
    if is_full(q):
        return linalg.matmul(q.scale, vectors)
    return q.scale.reshape(q.num_components, -1, 1) * vectors
