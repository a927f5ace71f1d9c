"""Narrow components inside broad ones: what the points of the broad one may have missed."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gmmjax._mixture.components import Relation
from gmmjax._mixture.gmm import GMM

FEW = 32  # hits that tell about themselves
NARROW = 1 / 64  # of the points at most


class Spikes(NamedTuple):
    """Components of some mixtures one after another, as those of another mixture see them."""

    means: jax.Array  # (K_l, D)
    logits: jax.Array  # (K_l,)
    relation: Relation


def spikes(mixtures: Sequence[GMM], relations: Sequence[Relation]) -> Spikes:
    """Those of all the mixtures, from how the other one lies to each."""
    variances = [jnp.broadcast_to(r.variances, r.shift.shape) for r in relations]
    relation = Relation(
        jnp.concatenate([r.shift for r in relations], axis=1), jnp.concatenate(variances, axis=1)
    )
    means, logits = (
        jnp.concatenate(leaves)
        for leaves in zip(*((g.means, g.logits) for g in mixtures), strict=True)
    )
    return Spikes(means, logits, relation)


def variance(g: GMM, points: jax.Array, narrow: Spikes, residuals: jax.Array) -> jax.Array:
    """The variance of a sum over the points of a mixture that comes from spikes too narrow for its
    replicates to show.

    Under component k an integrand with a spike at component l is another number with the
    probability h = E_k[exp(−½ ‖L_l⁻¹(x − μ_l)‖² / (D + 3))]. Where l is that narrow, and few of the
    `points` `(K,)` of component k would fall there even if the centres agreed, the spread of
    replicates says nothing of it, and its variance h r² / n is added, with r what the integrand is
    at the mean of l beyond what is known of it: `residuals`, `(K, K_l)`.
    """
    reach = g.dim + 3  # squared: points of a component lie √D deviations away from its mean
    shift = narrow.relation.shift
    # without correlations: the share comes out smaller
    spread = 1 + narrow.relation.variances / reach
    largest = jnp.exp(-0.5 * jnp.sum(jnp.log(spread), axis=-1))
    share = largest * jnp.exp(-0.5 * jnp.sum(shift**2 / spread, axis=-1) / reach)
    hidden = (largest < NARROW) & (largest * points[:, None] < FEW) & (points[:, None] > 0)
    hidden &= (narrow.logits[None] > -jnp.inf) & (share > 0)
    size = jax.nn.softmax(g.logits)[:, None] * jnp.where(hidden, residuals, 0.0)
    return jax.lax.stop_gradient(
        jnp.sum(share * size * size / jnp.where(hidden, points[:, None], 1.0))
    )
