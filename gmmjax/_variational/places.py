"""Where one more component may be wanted, and how large it should be there."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._matrices import scales, whitening
from gmmjax._mixture.density import component_log_prob, log_prob
from gmmjax._mixture.gmm import GMM
from gmmjax._mixture.moments import covariance_factor
from gmmjax._mixture.structure import is_full, is_spherical
from gmmjax._variational.components import WEIGHTLESS, Memory

NARROW = 0.05  # of the deviation of the start: components that explore see one mode at a time
# How far below the largest log q a place counts as empty, in nats, in turn: near or far from q.
THRESHOLDS = (20.0, 50.0, 200.0)
STRETCH = 1.1  # a place so far out of its component asks for a wider one, not for one of its own


class Place(NamedTuple):
    """The mean and the scale of one more component, and whether it is wanted at all."""

    mean: jax.Array
    scale: jax.Array
    wanted: jax.Array


def explores(turn: jax.Array) -> jax.Array:
    """Whether it is the turn of a component that explores."""
    return turn % 2 == 0


def choose(
    key, q: GMM, init: GMM, fresh: Memory, memory: Memory, level: jax.Array, turn: jax.Array
) -> Place:
    """In turn a place to explore from, a wider copy of a component, and a place that q misses."""
    wide, own = _missed(key, q, init, memory, level, turn)
    far = _unexplored(q, init, fresh, memory, level)
    which = jnp.where(explores(turn), 0, jnp.where(turn % 4 == 1, 1, 2))
    return jax.tree.map(lambda *leaves: jnp.stack(leaves)[which], far, wide, own)


def _unexplored(q, init, fresh, memory, level):
    """The fresh point of which q says most wrongly, in proportion, how unlikely it is."""
    # Far from everything log p and log q are large, and so is their difference where q is right
    # but for a hundredth of a covariance.
    weighty = jnp.where(jax.nn.softmax(q.logits) > WEIGHTLESS, q.logits, -jnp.inf)
    gap = fresh.log_p - log_prob(q._replace(logits=weighty), fresh.x) - level
    top = jnp.maximum(jnp.max(memory.log_p), jnp.max(fresh.log_p))
    score = _numbers(gap / (q.dim + top - fresh.log_p))
    best = jnp.argmax(score)
    return Place(fresh.x[best], NARROW * _broad(init)[0], jnp.abs(score[best]) * q.dim > 1)


def _missed(key, q, init, memory, level, turn):
    """Where log p most exceeds log q among remembered points: the component there, as wide as the
    place asks for, and one of its own.
    """
    log_q = jnp.where(memory.log_p > -jnp.inf, log_prob(q, memory.x), -jnp.inf)
    floor = jnp.asarray(THRESHOLDS, log_q.dtype)[turn // 2 % len(THRESHOLDS)]
    gap = _numbers(memory.log_p - jnp.maximum(log_q, jnp.max(log_q) - floor))
    best = jnp.argmax(gap)
    x, wanted = memory.x[best], gap[best] - level > 1
    share = jax.random.uniform(key, dtype=q.means.dtype)
    own = Place(x, _between(share, q, _broad(init)), wanted)
    near = jnp.argmax(component_log_prob(q, x))
    white = whitening.whiten(scales.inverse(q.scale, q.means), q.means, x[:, None])[near]
    stretch = jnp.sqrt(jnp.mean(white * white))
    wide = Place(q.means[near], stretch * q.scale[near], wanted)
    return jax.tree.map(lambda a, b: jnp.where(stretch > STRETCH, a, b), wide, own), own


def _numbers(score: jax.Array) -> jax.Array:
    return jnp.where(jnp.isnan(score), -jnp.inf, score)


def _broad(init):
    """The scale `(1, …)` of the covariance of the start, in the structure of its scale."""
    factor, _ = covariance_factor(init)
    if is_full(init):
        return factor[None]
    variances = jnp.sum(factor * factor, axis=1)
    return jnp.sqrt(jnp.mean(variances)[None] if is_spherical(init) else variances[None])


def _between(share, q, broad):
    """The scale of the start, as small as the mean component, or as it is, or between the two."""
    # A multiple of the start's own covariance, so that a map of the space maps it, too.
    start = scales.log_abs_det(broad, q.means[:1])[0]
    sizes = scales.log_abs_det(q.scale, q.means)
    mean_size = jnp.sum(jax.nn.softmax(q.logits) * sizes)
    return broad[0] * jnp.exp(share * jnp.minimum(mean_size - start, 0.0) / np.float32(q.dim))
