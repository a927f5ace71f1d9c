"""Components that come and go during a fit, in a mixture of fixed size with absent ones."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._logs import log_softmax
from gmmjax._mixture.gmm import GMM
from gmmjax._pairs.components import pairwise_kl
from gmmjax._trees import choose

MEMORY = 8192  # points
LEAST_LOG_WEIGHT = -69.0
WEIGHTLESS = 1e-6
PATIENCE = 40  # steps without weight or progress, after which a component goes
SAME = 0.1  # nats, both ways


class Memory(NamedTuple):
    """A sample of all points at which the target was evaluated, all ages alike."""

    x: jax.Array  # (MEMORY, D)
    log_p: jax.Array  # (MEMORY,), −inf where there is none yet
    seen: jax.Array


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


def add(q: GMM, mean: jax.Array, scale: jax.Array, wanted: jax.Array):
    """The mixture with one more component of next to no weight, if it is wanted, and where."""
    logits = jnp.where(q.logits > -jnp.inf, log_softmax(q.logits), -jnp.inf)
    new = wanted & (jnp.arange(q.num_components) == jnp.argmin(q.logits))
    one = GMM(jnp.full_like(logits, LEAST_LOG_WEIGHT), mean[None], scale[None])
    return choose(new, one, q._replace(logits=logits)), new


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
