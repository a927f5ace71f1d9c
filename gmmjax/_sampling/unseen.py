"""What the replicates of an estimate cannot show: each guard returns a variance, 0, finite or ∞."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._mixture import components, linalg
from gmmjax._mixture.components import Relation
from gmmjax._mixture.density import Prepared
from gmmjax._mixture.gmm import GMM

# With more expected hits than that the replicates show a narrow mode themselves.
MIN_HITS = 32
# With more expected points in the overlap of two components their error shows.
MIN_OVERLAPS = 16
# A mode that catches more of the points of a broad one at the same centre is not narrow.
NARROW = 1 / 64
# One replicate of R that carries more of a sum, in shares of 1/R, is the mark of a tail.
LARGEST_SHARE = 4.0
# Steps of power iteration; an inexact direction still gives a valid proof.
NUM_STEPS = 40


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


def spikes(
    mixtures: Sequence[GMM],
    relations: Sequence[Relation],
    log_masses: Sequence[jax.Array] | None = None,
) -> Spikes:
    """The components of all mixtures as possible spikes, from how the sampled one lies to each."""
    variances = [jnp.broadcast_to(r.variances, r.shift.shape) for r in relations]
    logits = jnp.concatenate([g.logits for g in mixtures])
    return Spikes(
        means=jnp.concatenate([g.means for g in mixtures]),
        present=logits > -jnp.inf,
        log_masses=jnp.full_like(logits, jnp.inf) if log_masses is None else _joined(log_masses),
        relation=Relation(
            shift=jnp.concatenate([r.shift for r in relations], axis=1),
            variances=jnp.concatenate(variances, axis=1),
        ),
    )


def most_hidden(g: GMM, num_points: jax.Array, narrow: Spikes, count: int) -> Spikes:
    """So many of the modes, those of which the least is known: each costs a point to look at."""
    if count >= len(narrow.present):
        return narrow
    hit, hidden = _hits(g, num_points, narrow)
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


def narrow_modes(g: GMM, num_points: jax.Array, narrow: Spikes, residuals: jax.Array) -> jax.Array:
    """The variance that comes from modes too narrow for the points of a broad one to show.

    Under component k an integrand with a spike at component l is another number with probability
    h = E_k[exp(−½ ‖L_l⁻¹(x − μ_l)‖² / (D + 3))]. Where l is that narrow, and few of the points of
    component k would fall there even if the centres agreed, the spread of replicates says nothing
    of it, and the variance w_k² h r² / n is added, with r what the integrand is there beyond what
    is known of it.

    Args:
      g: the sampled mixture.
      num_points: `(K,)` points of each of its components.
      narrow: the modes.
      residuals: r at the mean of each mode, `(K, K_l)`. Where p meets a mode with the mass a = w_k
        h and the subtracted density holds the mass m there, its logarithm is on average at most
        log(m/a) above that of p, by Jensen's inequality: −r is not taken to be more.
    """
    hit, hidden = _hits(g, num_points, narrow)
    log_weights = linalg.log_softmax(g.logits)[:, None]
    log_hit = jnp.log(jnp.where(hidden, hit, 1.0))
    lowest = -jnp.maximum(narrow.log_masses[None] - (log_weights + log_hit), 0.0)
    size = jnp.where(hidden, jnp.exp(log_weights) * jnp.maximum(residuals, lowest), 0.0)
    variance = jnp.sum(hit * size * size / jnp.where(hidden, num_points[:, None], 1.0))
    return jax.lax.stop_gradient(variance)


def _hits(g, num_points, narrow):
    """The probability h of each mode under each component, and whether it is hidden there."""
    reach = g.dim + 3  # squared: points of a component lie √D deviations away from its mean
    shift, variances = narrow.relation
    spread = 1 + variances / reach  # without correlations: the probability comes out smaller
    log_largest = -0.5 * jnp.sum(jnp.log(spread), axis=-1)
    hit = jnp.exp(log_largest - 0.5 * jnp.sum(shift**2 / spread, axis=-1) / reach)
    largest, num_points = jnp.exp(log_largest), num_points[:, None]
    hidden = (largest < NARROW) & (largest * num_points < MIN_HITS) & (num_points > 0)
    return hit, hidden & narrow.present[None] & (hit > 0)


def hidden_overlaps(g: GMM, num_points: jax.Array, relation: Relation) -> jax.Array:
    """The variance of −log p that comes from overlaps of its components which few points show.

    Between components of the same covariance a fraction h = ½ erfc(√B) of the points of one lies
    nearer to the other, with B their Bhattacharyya distance. Where components are apart, −log p is
    that of its own component but for such points, of which it takes about 1. Where few are
    expected, the variance w_k² h / n is added.

    Args:
      g: the sampled mixture.
      num_points: `(K,)` points of each of its components.
      relation: of its components to each other.
    """
    variances = relation.variances
    middle = 0.5 * (1 + variances)
    spread = jnp.log(middle) - 0.5 * jnp.log(variances)
    distance = 0.125 * jnp.sum(relation.shift**2 / middle, axis=-1) + 0.5 * (
        components.sum_coordinates(spread, g.dim)
    )
    hit = 0.5 * jax.lax.erfc(jnp.sqrt(jnp.maximum(distance, 0.0)))
    num_points = num_points[:, None]
    others = np.eye(g.num_components) == 0
    present = g.logits > -jnp.inf
    hidden = others & (present[:, None] & present[None]) & (hit * num_points < MIN_OVERLAPS)
    weights = jax.nn.softmax(g.logits)[:, None]
    variance = jnp.where(hidden, weights**2 * hit / jnp.where(hidden, num_points, 1.0), 0.0)
    return jax.lax.stop_gradient(jnp.sum(variance))


def missed_point(parts: jax.Array, largest: jax.typing.ArrayLike, num_points: int) -> jax.Array:
    """The variance of one more point, `largest`, among so many: added where a few carry the sum.

    Where one of R replicates carries far more of a non-negative sum than its share, a few points
    make it up, and others like them may not have been drawn at all.

    Args:
      parts: `(R,)` what each replicate has of the sum.
      largest: what a single point may be at most; ∞ where nothing bounds it, and then the variance
        may be infinite, of which the spread of the replicates says nothing.
      num_points: among how many points the sum is averaged.
    """
    parts = jax.lax.stop_gradient(parts)
    largest = jax.lax.stop_gradient(jnp.asarray(largest, parts.dtype))
    most = jnp.max(parts)
    few = ~jnp.isfinite(most) | (most > LARGEST_SHARE * jnp.mean(parts))
    # A third of the replicates may carry it alike. That is weaker evidence: enough to add a point,
    # not to call an error infinite.
    carrying = jnp.sum(parts) ** 2 < len(parts) / 3 * jnp.sum(parts**2)
    few |= jnp.isfinite(largest) & carrying
    return jnp.where(few, (largest / num_points) ** 2, 0.0)


def missed_between(missing: jax.Array, largest: float, num_points: int) -> jax.Array:
    """The variance of one more point where no more than a few are missing to the largest value.

    What two mixtures far apart have in common lies between them, where hardly a point falls, and
    perhaps none has.

    Args:
      missing: `(R,)` what each replicate lacks.
      largest: what a single point may be at most.
      num_points: among how many points the sum is averaged.
    """
    point = largest / num_points
    few = jax.lax.stop_gradient(jnp.mean(missing)) < 4 * point
    return jnp.where(few, point**2, 0.0)


def rounding(densities: Sequence[Prepared]) -> jax.Array:
    """The variance that comes from rounding log-densities, which all replicates have in common.

    A ratio near 0 is the difference of two numbers that are not: for these the mean of
    |log w_k N_k(x)| under their mixtures stands, or a little more.
    """
    largest = jnp.zeros((), densities[0].density.log_peaks.dtype)
    for one in densities:
        weights = jax.nn.softmax(one.mixture.logits)
        peaks = jnp.where(weights > 0, jnp.abs(one.density.log_peaks), 0.0)
        largest = jnp.maximum(largest, 0.5 * one.mixture.dim + jnp.vdot(weights, peaks))
    return jax.lax.stop_gradient((0.5 * jnp.finfo(largest.dtype).eps * largest) ** 2)


def heavy_tails(p: Prepared, q: Prepared, alpha: jax.Array) -> jax.Array:
    """∞ where the variance of ∫ p^α q^(1−α), α > 1, sampled from ½(p + q), is so, else 0.

    Along u the logarithms of p and q fall like −½ a r² and −½ b r², with a = min_k ‖L_k⁻¹u‖² over
    the components of p, and b over those of q. Points come from normals that are s = 1 + 2/D² times
    as wide as the components, and the mean square (p^α q^(1−α))²/m is finite only where
    (2α − 1/s) a > (2α − 2) b. It is never said of a finite one; an infinite one is missed where it
    takes several components of q to hide the direction.
    """
    p, q = jax.tree.map(jax.lax.stop_gradient, (p, q))
    u = _narrow_directions(p.mixture, q)
    a, b = _slowest_fall(p, u), _slowest_fall(q, u)
    wider = 1 + 2 / p.mixture.dim**2
    infinite = (2 * alpha - 1 / wider) * a <= (2 * alpha - 2) * b
    return jnp.where(jnp.any(infinite), jnp.inf, 0.0)


def _slowest_fall(g, u):
    """min_k ‖L_k⁻¹u‖² for directions `(D, n)`, as `(n,)`."""
    origin = jnp.zeros_like(g.mixture.means)
    falls = linalg.squared_distances(g.inverse, origin, u)
    present = g.mixture.logits[:, None] > -jnp.inf
    return jnp.min(jnp.where(present, falls, jnp.inf), axis=0)


def _narrow_directions(p, q):
    """For each pair of components about the direction in which that of q is narrowest, of all.

    As columns, `(D, pairs)`.
    """
    ratio = components.relative_scale(p.scale, p.means, q.inverse, q.mixture.means)
    diagonal = ratio.ndim == 3
    square = ratio * ratio if diagonal else linalg.matmul(ratio.mT, ratio)

    def step(_, y):
        y = square * y if diagonal else linalg.matmul(square, y[..., None])[..., 0]
        return y / jnp.max(jnp.abs(y), axis=-1, keepdims=True)

    start = np.random.default_rng(p.dim).normal(size=(1, 1, p.dim))
    start = jnp.broadcast_to(jnp.asarray(start, ratio.dtype), (*ratio.shape[:2], p.dim))
    y = jax.lax.fori_loop(0, NUM_STEPS, step, start)
    if p.scale.ndim > p.means.ndim:
        u = linalg.matmul(p.scale[:, None], y[..., None])[..., 0]
    else:
        u = p.scale.reshape(p.scale.shape[0], 1, -1) * y
    return u.reshape(-1, p.dim).T
