"""Components that come and go during a fit, in a mixture of fixed size with absent ones."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._mixture import linalg, triangular
from gmmjax._mixture.components import pairwise_kl
from gmmjax._mixture.density import log_prob
from gmmjax._mixture.gmm import GMM
from gmmjax._mixture.moments import covariance
from gmmjax._sampling.sample import sample

MEMORY = 8192  # points
LEAST_LOG_WEIGHT = -69.0
WEIGHTLESS = 1e-6
PATIENCE = 40  # steps without weight or progress, after which a component goes
# How far below the largest log q a place counts as empty, in nats, in turn: near or far from q.
THRESHOLDS = (1e9, 1e9, 1000.0, 100.0)
SAME = 0.1  # nats, both ways


class Memory(NamedTuple):
    """A sample of all points at which the target was evaluated, all ages alike."""

    x: jax.Array  # (MEMORY, D)
    log_p: jax.Array  # (MEMORY,), −inf where there is none yet
    seen: jax.Array


def padded(init: GMM, size: int) -> GMM:
    """The same with absent components, which repeat the first one, up to `size`."""
    more = size - init.num_components
    first = jax.tree.map(lambda leaf: jnp.repeat(leaf[:1], more, axis=0), init)
    first = first._replace(logits=jnp.full(more, -jnp.inf, init.logits.dtype))
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), init, first)


def empty(q: GMM) -> Memory:
    """A memory of nothing."""
    dtype = q.means.dtype
    return Memory(
        jnp.zeros((MEMORY, q.dim), dtype), jnp.full(MEMORY, -jnp.inf, dtype), jnp.zeros((), dtype)
    )


def remember(key, memory: Memory, x, log_p, known) -> Memory:
    """Add `(n, D)` points, of which `known` were evaluated, by reservoir sampling."""
    choose, place = jax.random.split(key)
    known = known & jnp.isfinite(log_p)
    dtype = memory.seen.dtype
    seen = memory.seen + jnp.sum(known).astype(dtype)
    order = jnp.cumsum(known).astype(dtype) - 1 + memory.seen
    kept = jax.random.uniform(choose, log_p.shape, dtype) * seen < MEMORY
    anywhere = jax.random.randint(place, log_p.shape, 0, MEMORY)
    slots = jnp.where(order < MEMORY, order.astype(anywhere.dtype), anywhere)
    slots = jnp.where(known & kept, slots, MEMORY)
    return Memory(
        memory.x.at[slots].set(x, mode="drop"),
        memory.log_p.at[slots].set(log_p, mode="drop"),
        seen,
    )


def scouts(key, init: GMM, count: int) -> jax.Array:
    """Fresh points of the start, `(n, D)`, which cover where the user expects the target."""
    return sample(key, init, count)


def add(key, q: GMM, init: GMM, memory: Memory, turn: jax.Array):
    """The mixture with one more component, of next to no weight, and its index.

    Its mean is where log p most exceeds log q among remembered points.
    """
    log_q = jnp.where(memory.log_p > -jnp.inf, log_prob(q, memory.x), -jnp.inf)
    floor = jnp.max(log_q) - jnp.asarray(THRESHOLDS, log_q.dtype)[turn % len(THRESHOLDS)]
    gap = memory.log_p - jnp.maximum(log_q, floor)
    place = memory.x[jnp.argmax(jnp.where(jnp.isnan(gap), -jnp.inf, gap))]
    slot = jnp.argmin(q.logits)
    scale = _between(jax.random.uniform(key, dtype=q.means.dtype), q, _broad(init))
    logits = jnp.where(q.logits > -jnp.inf, jax.nn.log_softmax(q.logits), -jnp.inf)
    return GMM(
        logits.at[slot].set(LEAST_LOG_WEIGHT),
        q.means.at[slot].set(place),
        q.scale.at[slot].set(scale),
    ), slot


def _broad(init):
    """The scale `(1, …)` of the covariance of the start, in the structure of its scale."""
    spread = covariance(init)
    if init.scale.ndim == 3:
        return triangular.cholesky(spread[None])
    variances = linalg.diagonal(spread)
    return jnp.sqrt(variances[None] if init.scale.ndim == 2 else jnp.mean(variances)[None])


def _between(share, q, broad):
    """The scale of the start, as small as the mean component, or as it is, or between the two."""
    # A multiple of the start's own covariance, so that a map of the space maps it, too.
    start = linalg.log_abs_det(broad, q.means[:1])[0]
    sizes = linalg.log_abs_det(q.scale, q.means)
    mean_size = jnp.sum(jax.nn.softmax(q.logits) * sizes)
    return broad[0] * jnp.exp(share * jnp.minimum(mean_size - start, 0.0) / q.dim)


def merge(q: GMM) -> GMM:
    """The mixture after the closest two components, where they are all but one, have become one."""
    count = q.num_components
    present = q.logits > -jnp.inf
    apart = pairwise_kl(q, q)
    apart = jnp.where(present[:, None] & present[None], apart + apart.T, jnp.inf)
    apart = jnp.where(np.tri(count, dtype=bool), jnp.inf, apart)
    pair = jnp.argmin(apart)
    kept, gone = pair // count, pair % count
    both = jnp.logaddexp(q.logits[kept], q.logits[gone])
    merged = q.logits.at[kept].set(both).at[gone].set(-jnp.inf)
    return q._replace(logits=jnp.where(apart[kept, gone] < SAME, merged, q.logits))


def drop(q: GMM, idle: jax.Array) -> GMM:
    """The mixture without components that have long been without weight or progress."""
    gone = (idle > PATIENCE) & (jax.nn.softmax(q.logits) < WEIGHTLESS)
    return q._replace(logits=jnp.where(gone, -jnp.inf, q.logits))
