"""What the replicates of an estimate cannot show: each guard returns a variance, 0, finite or ∞."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._matrices import linalg, tiles, whitening
from gmmjax._mixture import density
from gmmjax._mixture.density import Prepared
from gmmjax._mixture.gmm import take
from gmmjax._mixture.structure import is_full
from gmmjax._pairs import components
from gmmjax._pairs.components import Relation
from gmmjax._sampling.spikes import ManySpikes, Spikes

# One replicate of R that carries more of a sum, in shares of 1/R, is the mark of a tail.
LARGEST_SHARE = 4.0
# Of so many numbers a table may be that proves a tail; with more, of the broadest components of
# either side only so many give directions to look along.
LARGEST_PROOF = 1 << 26
NUM_BROADEST = 32
# Steps of power iteration; an inexact direction still gives a valid proof.
NUM_STEPS = 40


class Overlaps(NamedTuple):
    """A density in an integrand, as the components of the sampled mixture see it."""

    log_peaks: jax.Array  # (M,) log w_c N(ν_c; ν_c, Σ_c) of its components
    relation: Relation
    # Where its components are among the spikes, or None where the integrand in their means says
    # nothing of it between them.
    spikes: slice | None
    unit: jax.typing.ArrayLike = 1.0  # by how much the integrand changes with one nat of it


def overlaps(
    log_peaks: Sequence[jax.Array], spikes: Spikes | ManySpikes, unit: jax.typing.ArrayLike = 1.0
) -> tuple[Overlaps, ...]:
    """Those of densities whose components are the spikes, in this order; none of too many pairs."""
    if isinstance(spikes, ManySpikes):
        return ()
    found, first = [], 0
    for peaks in log_peaks:
        where = slice(first, first + len(peaks))
        shift, variances = (leaf[:, where] for leaf in spikes.relation)
        found.append(Overlaps(peaks, Relation(shift, variances), where, unit))
        first += len(peaks)
    return tuple(found)


def min_overlaps(
    dim: int, num_points: jax.Array, is_logarithm: bool, are_stratified: bool
) -> jax.Array:
    """How many expected points where another component takes over show their error, `(K,)`.

    Measured on two clusters 5 to 10 deviations apart, in 1 to 10 dimensions. Sobol points show
    more: of all but the logarithm of one density, for what is small where densities agree has
    smaller errors; in the plane; and above all on the line, where in every scramble the outermost
    of n has about 1/n of the tail beyond it.
    """
    few = 4.0 if are_stratified and not is_logarithm else 16.0
    if are_stratified and dim <= 2:
        few = 1.0
    least = jnp.full_like(num_points, few)
    return least / jnp.maximum(num_points, 1.0) if are_stratified and dim == 1 else least


def hidden_overlaps(
    log_weights: jax.Array,
    num_points: jax.Array,
    overlaps: Overlaps,
    residuals: jax.Array,
    min_points: jax.Array,
) -> jax.Array:
    """The variance of what is made of a density where one component takes over from another unseen.

    Under component a the density is that of the component b which is largest on average, but for
    the points where another one is larger. Their fraction is h = ½ erfc(m/(s√2)), with m ≥ 0 the
    mean of the logarithm of the ratio of the two, and s its deviation by its linear part; there the
    logarithm is about 1 above that of b, or less, where the integrand beyond what is known of it
    is less in the middle of the other component. Where few such points are expected the replicates
    may have met none, and the variance w_a² h / n is added.

    Args:
      log_weights: `(K,)` of the components of the sampled mixture.
      num_points: `(K,)` points of each of them.
      overlaps: of the density.
      residuals: `(K, M)` of the integrand, under each component, in the means of the density's.
      min_points: `(K,)` how many such points show their error themselves.
    """
    log_peaks, relation = jax.lax.stop_gradient(overlaps[:2])
    scores = log_peaks[None] - 0.5 * relation.expected_distances
    largest = jnp.argmax(scores, axis=1)[:, None]
    gap = jnp.take_along_axis(scores, largest, axis=1) - scores
    # Between components of one covariance this is their distance.
    between = relation.shift - jnp.take_along_axis(relation.shift, largest[:, :, None], axis=1)
    spread = jnp.sum(between**2 * relation.variances, axis=-1)
    hit = 0.5 * jax.lax.erfc(gap * jax.lax.rsqrt(2 * jnp.where(spread > 0, spread, 1.0)))
    num_points = num_points[:, None]
    apart = (spread > 0) & (gap < jnp.inf) & (num_points > 0)
    few = apart & (hit * num_points < min_points[:, None])
    unit = jnp.abs(jax.lax.stop_gradient(overlaps.unit))
    size = jnp.minimum(jnp.abs(residuals), unit) * jnp.exp(log_weights)[:, None]
    variance = jnp.where(few, size**2 * hit / jnp.where(few, num_points, 1.0), 0.0)
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
        largest = jnp.maximum(largest, 0.5 * one.mixture.dim + jnp.sum(weights * peaks))
    return jax.lax.stop_gradient((0.5 * jnp.finfo(largest.dtype).eps * largest) ** 2)


def heavy_tails(p: Prepared, q: Prepared, alpha: jax.Array) -> jax.Array:
    """∞ where the variance of ∫ p^α q^(1−α), α > 1, sampled from ½(p + q), is so, else 0.

    Along u the logarithms of p and q fall like −½ a r² and −½ b r², with a = min_k ‖L_k⁻¹u‖² over
    the components of p, and b over those of q. Points come from normals that are s = 1 + 2/D² times
    as wide as the components, and the mean square (p^α q^(1−α))²/m is finite only where
    (2α − 1/s) a > (2α − 2) b. It is never said of a finite one; an infinite one is missed where it
    takes several components of q to hide the direction.
    """
    p, q = jax.lax.stop_gradient((p, q))
    pairs = p.mixture.num_components * q.mixture.num_components
    if pairs * (p.mixture.means.size + q.mixture.means.size) > LARGEST_PROOF:
        u = _narrow_directions(_broadest(p.mixture), density.prepare(_broadest(q.mixture)))
    else:
        u = _narrow_directions(p.mixture, q)
    a, b = _slowest_fall(p, u), _slowest_fall(q, u)
    wider = 1 + 2 / p.mixture.dim**2
    infinite = (2 * alpha - 1 / wider) * a <= (2 * alpha - 2) * b
    return jnp.where(jnp.any(infinite), jnp.inf, 0.0)


def _slowest_fall(g, u):
    """min_k ‖L_k⁻¹u‖² for directions `(D, n)`, as `(n,)`."""

    def least(part):
        logits, inverse = part
        origin = jnp.zeros((len(logits), len(u)), u.dtype)
        falls = whitening.squared_distances(inverse, origin, u)
        return jnp.min(jnp.where(logits[:, None] > -jnp.inf, falls, jnp.inf), axis=0)

    parts, count = (g.mixture.logits, g.inverse), g.mixture.num_components
    if count * u.size <= LARGEST_PROOF:
        return least(parts)
    size = max(1, tiles.tile_size() // u.size)
    logits = tiles.cut(g.mixture.logits, count, size, -jnp.inf)
    return jnp.min(jax.lax.map(least, (logits, tiles.cut(g.inverse, count, size))), axis=0)


def _broadest(g):
    """A few of the components, those that reach farthest."""
    extent = jnp.max(jnp.abs(g.scale).reshape(len(g.scale), -1), axis=1)
    extent = jnp.where(g.logits > -jnp.inf, jnp.broadcast_to(extent, g.logits.shape), -1.0)
    _, chosen = jax.lax.top_k(extent, min(NUM_BROADEST, g.num_components))
    return take(g, chosen)


def _narrow_directions(p, q):
    """For each pair of components about the direction in which that of q is narrowest, of all.

    As columns, `(D, pairs)`.
    """
    ratio = components.relative_scale(p.scale, p.means, q.inverse, q.mixture.means)
    diagonal = ratio.ndim == 3
    square = ratio * ratio if diagonal else linalg.matmul(ratio.mT, ratio)

    def step(_, y):
        y = square * y if diagonal else linalg.matvec(square, y)
        return y / jnp.max(jnp.abs(y), axis=-1, keepdims=True)

    start = np.random.default_rng(p.dim).normal(size=(1, 1, p.dim))
    start = jnp.broadcast_to(jnp.asarray(start, ratio.dtype), (*ratio.shape[:2], p.dim))
    y = jax.lax.fori_loop(0, NUM_STEPS, step, start)
    if is_full(p):
        u = linalg.matvec(p.scale[:, None], y)
    else:
        u = p.scale.reshape(p.scale.shape[0], 1, -1) * y
    return u.reshape(-1, p.dim).T
