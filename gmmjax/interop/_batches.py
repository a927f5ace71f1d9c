"""Batches of mixtures of other libraries, and their divergences one by one."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gmmjax._estimates.kl import kl_divergence
from gmmjax._mixture.gmm import GMM


class Shape(NamedTuple):
    """What a distribution says of its arrays, static under `jit`."""

    batch: tuple[int, ...]
    event: tuple[int, ...]
    full: bool  # whether its scales are matrices


def as_batch(shape: Shape, logits: jax.Array, loc: jax.Array, scale: jax.Array) -> GMM:
    """Arrays that broadcast against each other as a `GMM` with leading axes `shape.batch`."""
    components = (*shape.batch, logits.shape[-1])
    if not shape.event:
        loc, scale = loc[..., None], scale[..., None]
    event = shape.event or (1,)
    ends = event * 2 if shape.full else event
    return GMM(
        jnp.broadcast_to(logits, components),
        jnp.broadcast_to(loc, (*components, *event)),
        jnp.broadcast_to(scale, (*components, *ends)),
    )


@functools.partial(jax.jit, static_argnums=2)
def kl_of_batches(p: GMM, q: GMM, num_samples: int) -> jax.Array:
    """KL(p ‖ q) of every pair, in the common shape of both batches, with the points of one key.

    The gradient is that of the returned value.
    """

    def one(p, q):
        key = jax.random.key(0)
        return kl_divergence(key, p, q, num_samples=num_samples, stick_the_landing=False).value

    batch = jnp.broadcast_shapes(p.logits.shape[:-1], q.logits.shape[:-1])
    if not batch:
        return one(p, q)
    pairs = _flattened(p, batch), _flattened(q, batch)
    return jax.vmap(one)(*pairs).reshape(batch)


def _flattened(g, batch):
    """All mixtures of a batch along one axis, after broadcasting to a larger one."""
    leading = g.logits.ndim - 1

    def flat(leaf):
        return jnp.broadcast_to(leaf, batch + leaf.shape[leading:]).reshape(
            -1, *leaf.shape[leading:]
        )

    return jax.tree.map(flat, g)
