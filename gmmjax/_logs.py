"""Logarithms of sums, and of weights that sum to 1."""

import jax
import jax.numpy as jnp
import numpy as np


def log_sum_exp(terms: jax.Array, axis: int) -> jax.Array:
    """Logarithm of Σ exp(terms) along an axis, for terms of any size.

    XLA may compute terms anew for each of their uses, and round them differently: of −10¹⁰ in
    float32 by thousands. The largest of them is then not the largest where they are summed, and
    `jax.nn.logsumexp` is infinite. Here the largest one is the one in some place, and counts as 1.
    """
    places = jax.lax.broadcasted_iota(jnp.int32, terms.shape, axis)
    which = jax.lax.argmax(terms, axis % terms.ndim, jnp.int32)
    is_largest = places == jnp.expand_dims(which, axis)
    largest = jnp.sum(jnp.where(is_largest, terms, 0), axis=axis, keepdims=True)
    unit = jnp.where(jnp.isfinite(largest), largest, 0)
    gaps = terms - unit
    gaps -= jax.lax.stop_gradient(jnp.maximum(gaps, 0))
    rest = jnp.sum(jnp.where(is_largest, 0, jnp.exp(gaps)), axis=axis)
    return jnp.squeeze(largest, axis) + jnp.log1p(rest)


def log_softmax(logits: jax.Array) -> jax.Array:
    """Logarithms `(K,)` of normalised weights; those of weights near 1 keep all their digits."""
    # log(1 + rest) and not the logarithm of a sum: of 0.9999 that would be right to three digits.
    is_largest = np.arange(len(logits)) == jnp.argmax(logits)
    relative = logits - jnp.sum(jnp.where(is_largest, logits, 0))
    rest = jnp.sum(jnp.where(is_largest, 0, jnp.exp(relative)))
    return relative - jnp.log1p(rest)
