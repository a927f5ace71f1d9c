"""How a component that was sent out finds a mode.

It is fitted for itself, as if there were no others, to the same points all the way in its own
coordinates: that is an optimisation without noise, whose steps may be bold and are taken back where
they made things worse.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gmmjax._variational.fit_state import Components, Journey

BOLDER = 64.0  # the KL of a step over that of the last one, where that one was an improvement
ARRIVED = 0.02  # nats; where a step brings less, it has arrived
LONGEST = 40  # visits
FASTER, FASTEST = 2.0, 64.0  # of the reach, while a component keeps growing or shrinking


class Verdict(NamedTuple):
    """What is thought of the last steps, `(K,)`."""

    gained: jax.Array  # nats
    worse: jax.Array  # whether they are taken back
    radius: jax.Array  # KL of the next ones


def judge(known: Components, alone: jax.Array, sound: jax.Array) -> Verdict:
    """Compare where components are with where they were; others than explorers are left alone."""
    exploring = ~known.journey.done
    gained = alone - known.journey.alone
    bolder = jnp.where(exploring & (gained > 0), BOLDER, 1.0)
    return Verdict(gained, sound & exploring & (gained < -ARRIVED), known.radius * bolder)


def go_on(
    known: Components,
    verdict: Verdict,
    alone: jax.Array,
    trend: jax.Array,
    kept: jax.Array,
    inside: jax.Array,
) -> Journey:
    """The journey after a visit, whose steps were `kept`.

    `inside` says where a whole step was inside the trust region, `trend` is the mean curvature.
    """
    last = known.journey
    arrived = kept & (verdict.gained < ARRIVED) & (inside | ~last.returned)
    # Far out in heavy tails a component shrinks by the same few per cent in every step.
    faster = jnp.where(trend * last.trend > 0, jnp.minimum(FASTER * last.reach, FASTEST), 1.0)
    return Journey(
        last.done | arrived | (known.age >= LONGEST),
        jnp.where(kept, alone, last.alone),
        jnp.where(kept, faster, jnp.where(verdict.worse, 1.0, last.reach)),
        jnp.where(kept, trend, last.trend),
        verdict.worse,
    )


def radius(known: Components, kept: jax.Array, active: jax.Array, kl: jax.Array) -> jax.Array:
    """The KL of steps that were kept, and much less where they were not."""
    return jnp.where(kept, kl, known.radius * jnp.where(active, 0.1, 1.0))
