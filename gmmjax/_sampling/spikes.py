"""Modes too narrow for the points of broad components to show: a variance that replicates hide."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gmmjax._logs import log_softmax
from gmmjax._matrices import scales, tiles
from gmmjax._mixture import density
from gmmjax._mixture.gmm import GMM, take
from gmmjax._pairs import components
from gmmjax._pairs.components import Relation

# With more expected hits than that the replicates show a narrow mode themselves.
MIN_HITS = 32
# A mode that catches more of the points of a broad one at the same centre is not narrow.
NARROW = 1 / 64


class Spikes(NamedTuple):
    """Components of some mixtures one after another, as those of a sampled mixture see them.

    An integrand that is minus the logarithm of a density can be low only where that density has
    mass: `log_masses` says how much of it each component holds. It is ∞ where an integrand may be
    anything.
    """

    means: jax.Array  # (K_l, D)
    present: jax.Array  # (K_l,)
    log_masses: jax.Array  # (K_l,)
    relation: Relation


class ManySpikes(NamedTuple):
    """Components of mixtures that make too many pairs with those of the sampled one."""

    mixtures: Sequence[GMM]
    log_masses: Sequence[jax.Array]


def spikes(
    mixtures: Sequence[GMM],
    relations: Sequence[Relation] | None,
    log_masses: Sequence[jax.Array] | None = None,
) -> Spikes | ManySpikes:
    """The components of all mixtures as possible spikes, from how the sampled one lies to each."""
    if log_masses is None:
        log_masses = [jnp.full_like(g.logits, jnp.inf) for g in mixtures]
    if relations is None:
        return ManySpikes(mixtures, log_masses)
    variances = [jnp.broadcast_to(r.variances, r.shift.shape) for r in relations]
    logits = jnp.concatenate([g.logits for g in mixtures])
    return Spikes(
        means=jnp.concatenate([g.means for g in mixtures]),
        present=logits > -jnp.inf,
        log_masses=_joined(log_masses),
        relation=Relation(
            shift=jnp.concatenate([r.shift for r in relations], axis=1),
            variances=jnp.concatenate(variances, axis=1),
        ),
    )


def most_hidden(g: GMM, num_points: jax.Array, narrow: Spikes, count: int) -> Spikes:
    """So many of the modes, those of which the least is known: each costs a point to look at."""
    if count >= len(narrow.present):
        return narrow
    hit, hidden = _hits(num_points, narrow)
    weights = jax.nn.softmax(g.logits)[:, None]
    matters = jnp.sum(jnp.where(hidden, weights**2 * hit, 0.0), axis=0)
    _, chosen = jax.lax.top_k(jax.lax.stop_gradient(matters), count)
    shift, variances = narrow.relation
    relation = Relation(jnp.take(shift, chosen, axis=1), jnp.take(variances, chosen, axis=1))
    return Spikes(
        means=jnp.take(narrow.means, chosen, axis=0),
        present=jnp.take(narrow.present, chosen),
        log_masses=jnp.take(narrow.log_masses, chosen),
        relation=relation,
    )


def _joined(arrays):
    return jnp.concatenate(list(arrays))


def narrow_modes(
    log_weights: jax.Array, num_points: jax.Array, narrow: Spikes, residuals: jax.Array
) -> jax.Array:
    """The variance that comes from modes too narrow for the points of a broad one to show.

    Under component k an integrand with a spike at component l is another number with probability
    h = E_k[exp(−½ ‖L_l⁻¹(x − μ_l)‖² / (D + 3))]. Where l is that narrow, and few of the points of
    component k would fall there even if the centres agreed, the spread of replicates says nothing
    of it, and the variance w_k² h r² / n is added, with r what the integrand is there beyond what
    is known of it.

    Args:
      log_weights: `(K,)` of the components of the sampled mixture.
      num_points: `(K,)` points of each of them.
      narrow: the modes.
      residuals: r at the mean of each mode, `(K, K_l)`. Where p meets a mode with the mass a = w_k
        h and the subtracted density holds the mass m beside that of p, its logarithm is on average
        at most log(1 + m/a) above that of p (Jensen's inequality): −r is not taken to be more.
    """
    hit, hidden = _hits(num_points, narrow)
    log_weights = log_weights[:, None]
    log_hit = jnp.log(jnp.where(hidden, hit, 1.0))
    lowest = -jnp.logaddexp(narrow.log_masses[None] - (log_weights + log_hit), 0.0)
    size = jnp.where(hidden, jnp.exp(log_weights) * jnp.maximum(residuals, lowest), 0.0)
    variance = jnp.sum(hit * size * size / jnp.where(hidden, num_points[:, None], 1.0))
    return jax.lax.stop_gradient(variance)


def _hits(num_points, narrow):
    """The probability h of each mode under each component, and whether it is hidden there."""
    shift, variances = narrow.relation
    # Squared: points of a component lie √D deviations away from its mean.
    reach = shift.shape[-1] + 3
    spread = 1 + variances / reach  # without correlations: the probability comes out smaller
    log_largest = -0.5 * jnp.sum(jnp.log(spread), axis=-1)
    hit = jnp.exp(log_largest - 0.5 * jnp.sum(shift**2 / spread, axis=-1) / reach)
    largest, num_points = jnp.exp(log_largest), num_points[:, None]
    hidden = (largest < NARROW) & (largest * num_points < MIN_HITS) & (num_points > 0)
    return hit, hidden & narrow.present[None] & (hit > 0)


def narrowest(g: GMM, log_masses: jax.Array, count: int) -> tuple[GMM, jax.Array]:
    """So many of the components, those of the least volume, and their masses."""
    if count >= g.num_components:
        return g, log_masses
    volumes = jnp.broadcast_to(scales.log_abs_det(g.scale, g.means), g.logits.shape)
    volumes = jnp.where(g.logits > -jnp.inf, volumes, jnp.inf)
    _, chosen = jax.lax.top_k(-jax.lax.stop_gradient(volumes), count)
    return take(g, chosen), log_masses[chosen]


def narrow_modes_of_many(
    g: GMM,
    num_points: jax.Array,
    modes: GMM,
    log_masses: jax.Array,
    values: jax.Array,
    constant: jax.Array,
) -> jax.Array:
    """`narrow_modes` of the components of one mixture, under some components of g at a time.

    Args:
      g: the sampled mixture.
      num_points: `(K,)` points of each of its components.
      modes: the mixture of K_l modes, whose weights do not matter.
      log_masses: `(K_l,)`.
      values: `(K_l,)` of the integrand at the means of the modes.
      constant: `(K,)` what is known of it under each component of g.
    """
    narrow = density.prepare(modes)
    size = max(1, tiles.tile_size() // modes.means.size)

    def under(part):
        log_weights, means, scale, num_points, constant = part
        some = GMM(log_weights, means, scale)
        relation = components.relate(some, narrow)
        present = modes.logits > -jnp.inf
        seen = Spikes(modes.means, present, log_masses, relation)
        residuals = values[None] - constant[:, None]
        return narrow_modes(log_weights, num_points, seen, residuals)

    parts = log_softmax(g.logits), g.means, g.scale, num_points, constant
    parts = [tiles.cut(part, g.num_components, size) for part in parts]
    return jnp.sum(jax.lax.map(under, parts))
