"""Narrow components inside broad ones: what the points of the broad one may have missed."""

import jax
import jax.numpy as jnp

from gmmjax import _gaussian, _linalg
from gmmjax._gmm import GMM

FEW = 32  # hits that tell about themselves
NARROW = 1 / 64  # of the points at most


def variance(g: GMM, points: jax.Array, spikes: GMM, inverse: jax.Array, residuals: jax.Array) -> jax.Array:
    """The variance of a sum over the points of a mixture that comes from spikes too narrow for its replicates to show.

    Under component k an integrand with a spike at component l is another number with the probability
    h = E_k[exp(−½ ‖L_l⁻¹(x − μ_l)‖² / (D + 3))]. Where l is that narrow, and few of the `points` `(K,)` of component k
    would fall there even if the centres agreed, the spread of replicates says nothing of it, and its variance h r² / n
    is added, with r what the integrand is at the mean of l beyond what is known of it: `residuals`, `(K, K_l)`.
    `inverse` is that of the scale of the spikes.
    """
    reach = g.dim + 3  # squared: points of a component lie √D deviations away from its mean
    ratio = _gaussian.relative_scale(g.scale, g.means, inverse, spikes.means)
    squares = ratio * ratio if ratio.ndim == 3 else jnp.sum(ratio * ratio, axis=-1)
    shift = jnp.moveaxis(_linalg.whiten(inverse, spikes.means, g.means.T), -1, 0)
    spread = jnp.broadcast_to(1 + squares / reach, shift.shape)  # the diagonal alone: the share comes out smaller
    largest = jnp.exp(-0.5 * jnp.sum(jnp.log(spread), axis=-1))
    share = largest * jnp.exp(-0.5 * jnp.sum(shift**2 / spread, axis=-1) / reach)
    hidden = (largest < NARROW) & (largest * points[:, None] < FEW) & (points[:, None] > 0)
    hidden &= (spikes.logits[None] > -jnp.inf) & (share > 0)
    size = jax.nn.softmax(g.logits)[:, None] * jnp.where(hidden, residuals, 0.0)
    return jax.lax.stop_gradient(jnp.sum(share * size * size / jnp.where(hidden, points[:, None], 1.0)))
