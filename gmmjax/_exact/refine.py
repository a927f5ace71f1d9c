"""Bisection of strips of the plane until the integral over each has converged."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gmmjax._exact.legendre import integral_and_error

NUM_BISECTED = 8  # strips at a time
MIN_ROUNDS = 24  # of bisection, for which there is room


class Strips(NamedTuple):
    """Strips of the plane, of which the first `used` are in use; the others are empty."""

    bounds: jax.Array  # (n, 2)
    integrals: jax.Array  # (n,)
    errors: jax.Array  # (n,), inf for those not seen yet
    used: jax.Array


def refine(terms: Callable, edges: jax.Array) -> Strips:
    """Bisect the worst strips until all have converged.

    `terms(bounds)` are what the lines of a strip add to its integral, at Gauss–Legendre points.
    """
    precision = max(1e-12, 10 * float(jnp.finfo(edges.dtype).eps))

    def unfinished(strips):
        has_room = strips.used < strips.errors.size
        size = jnp.sum(jnp.abs(strips.integrals))
        return has_room & (jnp.max(strips.errors) > precision * size)

    def improve(strips):
        bounds, place, used = _next_strips(strips)
        integrals, errors = jax.lax.map(lambda strip: integral_and_error(terms(strip)), bounds)
        return Strips(
            strips.bounds.at[place].set(bounds),
            strips.integrals.at[place].set(integrals),
            strips.errors.at[place].set(errors),
            used,
        )

    return jax.lax.while_loop(unfinished, improve, _unseen_strips(edges))


def _unseen_strips(edges):
    """Strips between edges, in a table with room for their halves."""
    count = edges.size - 1
    room = 2 * count + NUM_BISECTED * MIN_ROUNDS
    bounds = jnp.zeros((room, 2), edges.dtype)
    bounds = bounds.at[:count].set(jnp.stack([edges[:-1], edges[1:]], axis=1))
    errors = jnp.where(bounds[:, 1] > bounds[:, 0], jnp.inf, 0.0).astype(edges.dtype)
    return Strips(bounds, jnp.zeros_like(errors), errors, jnp.asarray(count, jnp.int32))


def _next_strips(strips):
    """Bounds of the strips to integrate next, their places, and how many are then in use."""
    error, worst = jax.lax.top_k(strips.errors, 2 * NUM_BISECTED)
    bisected = worst[:NUM_BISECTED]
    halves = _halves(strips.bounds[bisected])
    places = jnp.concatenate([bisected, strips.used + jnp.arange(NUM_BISECTED, dtype=jnp.int32)])
    unseen = jnp.isinf(error[0])  # these come first, whole
    return (
        jnp.where(unseen, strips.bounds[worst], halves),
        jnp.where(unseen, worst, places),
        jnp.where(unseen, strips.used, strips.used + NUM_BISECTED),
    )


def _halves(bounds):
    """All left halves of strips, then all right ones."""
    low, high = bounds.T
    middle = (low + high) / 2
    left = jnp.stack([low, middle], axis=1)
    right = jnp.stack([middle, high], axis=1)
    return jnp.concatenate([left, right])
