"""Batches of points that grow until their average has a wanted error, and stop without bias."""

from typing import NamedTuple, Self

import jax
import jax.numpy as jnp

from gmmjax._compile import WIDE, jit_with
from gmmjax._jax import is_traced
from gmmjax._trees import choose

MARGIN = 1.3  # of the planned number of batches, so that the plan is rarely extended
# The error of one Sobol set falls nearly as 1/N, that of an average of sets as 1/√N: where more
# batches than this are wanted, larger ones are drawn. Each size of batch is one more compilation.
GROWTH = 8


class Level(NamedTuple):
    """A size of batches, and how many of them there may be beside the pilot."""

    batch_samples: int
    most: int
    is_last: bool


def levels(batch_samples: int, max_samples: int) -> list[Level]:
    """Batches that grow, by less where no more than a pilot and a batch of them are left."""
    found = []
    left = max_samples
    while True:
        left -= batch_samples
        most = left // batch_samples
        growth = min(GROWTH, _power_of_two(most // 2))
        is_last = growth < 4
        found.append(Level(batch_samples, most, is_last))
        if is_last:
            return found
        batch_samples *= growth


def _power_of_two(number: int) -> int:
    """The largest one that is no larger; 0 for 0."""
    return 1 << (number.bit_length() - 1) if number else 0


class _Average(NamedTuple):
    """The mean of some batches, and of their variances."""

    count: jax.Array
    value: jax.Array
    variance: jax.Array

    @property
    def stderr(self) -> jax.Array:
        return jnp.sqrt(self.variance / self.count.astype(self.variance.dtype))

    def with_one_more(self, value: jax.Array, variance: jax.Array) -> Self:
        count = self.count + 1
        number = count.astype(value.dtype)
        return self._replace(
            count=count,
            value=self.value + (value - self.value) / number,
            variance=self.variance + (variance - self.variance) / number,
        )


class Target(NamedTuple):
    """The wanted accuracy."""

    rtol: jax.Array
    atol: jax.Array

    def stderr(self, value: jax.Array) -> jax.Array:
        return jnp.maximum(self.atol, self.rtol * jnp.abs(value))

    def is_met(self, average: _Average) -> jax.Array:
        return average.stderr <= self.stderr(average.value)

    def num_batches(self, average: _Average, most: int) -> jax.Array:
        """How many batches of this variance give the wanted error, at most `most`."""
        stderr = self.stderr(average.value)
        count = MARGIN * average.variance / jnp.where(stderr > 0, stderr, 1.0) ** 2
        enough = (stderr > 0) & (count < most)  # False for NaN, too
        batches = jnp.ceil(jnp.where(enough, count, most))
        return jnp.maximum(batches.astype(int), 1)


class Found(NamedTuple):
    """What the levels so far have given."""

    average: _Average
    num_samples: jax.Array
    is_done: jax.Array


class _Progress(NamedTuple):
    """Inside a level: the pilot's estimate, and after it the average of all later batches."""

    average: _Average
    drawn: jax.Array  # batches, the pilot among them
    plan: jax.Array  # how many are to be drawn in all


def run(key, given, target: Target, call, levels: list[Level]) -> Found:
    """Batches of one size after the other, until enough were drawn; no larger one is compiled."""
    first, *others = levels
    found = run_level(jax.random.fold_in(key, 0), given, target, None, call, first)
    for index, level in enumerate(others, start=1):
        if not is_traced(found) and found.is_done:
            break
        found = run_level(jax.random.fold_in(key, index), given, target, found, call, level)
    return found


@jit_with(WIDE, static_argnums=(4, 5))
def run_level(key, given, target: Target, found: Found | None, call, level: Level) -> Found:
    """Batches of one size: a pilot, and as many as it says, unless larger ones do better.

    `given` are the mixtures and the keywords that are arrays.
    """

    def batch(index):
        stream = jax.random.fold_in(key, index)
        result = call(stream, *given, num_samples=level.batch_samples)
        return result.value, result.stderr**2

    nothing = _Average(jnp.zeros((), int), *_zeros_of(batch, 0))
    if found is None:
        found = Found(nothing, jnp.zeros((), int), jnp.zeros((), bool))

    def unfinished(progress):
        return progress.drawn < progress.plan

    def step(progress):
        # The first batch after the pilot begins anew.
        average = choose(progress.drawn == 1, nothing, progress.average)
        average = average.with_one_more(*batch(progress.drawn))
        return _planned(progress, average, target, level)

    # Not a branch, of which `vmap` would always compute both sides.
    plan = jnp.where(found.is_done, 0, 1)
    progress = jax.lax.while_loop(unfinished, step, _Progress(nothing, jnp.zeros((), int), plan))
    return Found(
        choose(found.is_done, found.average, progress.average),
        found.num_samples + progress.drawn * level.batch_samples,
        found.is_done | (progress.drawn > 1),
    )


def _planned(progress: _Progress, average: _Average, target: Target, level: Level) -> _Progress:
    """One batch later: the pilot makes the plan, which is extended where it was not enough."""
    is_pilot = progress.drawn == 0
    drawn = progress.drawn + 1
    wanted = target.num_batches(average, level.most)
    grows = is_pilot & (wanted > GROWTH) & (not level.is_last)
    misses = (drawn == progress.plan) & ~target.is_met(average)
    plan = jnp.where(is_pilot | misses, jnp.maximum(wanted, drawn) + 1, progress.plan)
    plan = jnp.where(grows, 1, jnp.minimum(plan, level.most + 1))
    return _Progress(average, drawn, plan)


def _zeros_of(function, *arguments):
    shapes = jax.eval_shape(function, *arguments)
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
