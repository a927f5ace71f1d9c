"""Parameters of a fit in the units of its start: the same numbers whatever the units of x."""

import jax
import jax.numpy as jnp

from gmmjax._matrices import linalg, scales
from gmmjax._mixture.gmm import GMM
from gmmjax._mixture.structure import is_full
from gmmjax._mixture.unconstrained import Unconstrained, constrain, unconstrain

# Far below any logit of a component that is present, and small enough for norms of parameters.
_ABSENT = -100.0
# Of whitened points, in standard deviations.
_LARGEST_ERROR = 0.01


def to_units(init: GMM) -> Unconstrained:
    """Free parameters of a start: means as steps from where they are, and rows of factors, both in
    standard deviations of its components along each coordinate.
    """
    free = unconstrain(init._replace(scale=init.scale / _rows(_sizes(init), init)))
    present = free.logits > -jnp.inf
    logits = jnp.where(present, free.logits, jnp.max(free.logits) + _ABSENT)
    return Unconstrained(logits, jnp.zeros_like(free.means), free.scale)


def from_units(init: GMM, params: Unconstrained) -> GMM:
    """The mixture of free parameters, the inverse of `to_units`."""
    sizes = _sizes(init)
    g = constrain(params)
    return GMM(g.logits, init.means + sizes * g.means, g.scale * _rows(sizes, g))


def resolved(params: Unconstrained) -> jax.Array:
    """Whether the precision resolves all factors: densities where it does not are nonsense."""
    if params.scale.ndim <= params.means.ndim:
        return jnp.all(jnp.isfinite(params.scale))
    factor = constrain(params).scale
    inverse = scales.inverse(factor, params.means)
    # Skeel's condition number bounds the error of L⁻¹(L z), whatever the units of the rows.
    growth = jnp.sum(linalg.matmul(jnp.abs(inverse), jnp.abs(factor)), axis=-1)
    return jnp.all(jnp.finfo(factor.dtype).eps * growth < _LARGEST_ERROR)


def _sizes(init: GMM) -> jax.Array:
    """Standard deviations of the components along each coordinate, `(K or 1, D or 1)`."""
    scale = jnp.abs(init.scale)
    if scale.ndim > init.means.ndim:
        # Squares of 1e-30 underflow in float32, those of ratios to the largest entry do not.
        largest = jnp.max(scale, axis=-1)
        ratios = linalg.safe_divide(scale, largest[..., None])
        # The largest ratio is 1, but for rows of zeros, where a root has no derivative.
        scale = largest * jnp.sqrt(jnp.maximum(jnp.sum(ratios * ratios, axis=-1), 1.0))
    sizes = scale.reshape(scale.shape[0], -1)
    # An absent component may have a scale of 0, or none at all.
    usable = jnp.isfinite(sizes) & (sizes > 0)
    return jnp.where(usable, sizes, 1.0)


def _rows(sizes: jax.Array, g: GMM) -> jax.Array:
    """Sizes in the shape of a scale: one for each row of a factor."""
    if is_full(g):
        return sizes[:, :, None]
    return sizes.reshape(g.scale.shape)
