"""A fit to a density: steps of all components at once, and how they grow and cool."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gmmjax._fitting.descent import Record
from gmmjax._logs import log_softmax
from gmmjax._mixture.gmm import GMM
from gmmjax._trees import choose
from gmmjax._variational import components, exploring, growth, quadratic, sight, trust_region
from gmmjax._variational.fit_state import (
    NEVER,
    Components,
    Method,
    Problem,
    State,
    start_of_cooling,
)
from gmmjax._variational.sight import Sight

HELD = 0.2  # the part of a fit in which weights wait for components to move
WEIGHT_RADIUS = 1.0  # KL of one step of the weights, in nats
LEAST_RADIUS = 1e-3  # of one step of a component


def advance(method: Method, problem: Problem, state: State, start, count: int):
    """Steps start … start + count, none of them beyond the last."""

    def one(state, index):
        rest = Record(*jnp.full((3,), jnp.nan, state.q.means.dtype))
        return jax.lax.cond(
            index < method.num_steps,
            lambda state: _step(method, problem, state, index),
            lambda state: (state, rest),
            state,
        )

    return jax.lax.scan(one, state, start + jnp.arange(count))


def _step(method, problem, state, index):
    key, more = jax.random.split(jax.random.fold_in(problem.key, index))
    if method.adaptive:
        state = growth.add_and_drop(method, problem, state, index, more)
    active = growth.active(method, state, index)
    seen = sight.visit(method, problem, state, active, key)
    cooling = jnp.maximum(index.astype(state.q.means.dtype) - start_of_cooling(method), 0)
    most = 1 / (1 + 0.25 * cooling)
    tried = _try(state, seen, active, most, jnp.where(cooling > 0, 1.0, state.known.journey.reach))
    known = _learn(method, state.q, state.known, seen.sight, active, tried.kept, tried.kl)
    if method.adaptive:
        inside = (tried.size >= most) & (tried.kl <= method.max_kl)
        trend = quadratic.mean_curvature(seen.found)
        journey = exploring.go_on(
            state.known, tried.verdict, seen.sight.alone, trend, tried.kept, inside
        )
        known = growth.arrive(state.q, known._replace(journey=journey), state.known.journey)
    logits, known = _reweighted(method, state.q, known, index, most)
    return _after(method, state, active, seen, tried, logits, known, more)


class _Tried(NamedTuple):
    """A step of each component, and whether to take it, `(K,)`."""

    new: GMM
    size: jax.Array  # the part of the way to the optimum
    kl: jax.Array  # of the step, in nats
    sound: jax.Array  # all that was seen and found is finite
    kept: jax.Array  # sound, and the last step is not to be taken back
    verdict: exploring.Verdict


def _try(state, seen, active, most, reach):
    """The largest step of each component inside its trust region."""
    sound = active & _finite((seen.found, seen.sight))
    verdict = exploring.judge(state.known, seen.sight.alone, sound)
    bold = quadratic.stretched(seen.found, reach)
    size = trust_region.largest_step(bold, verdict.radius, most)
    change = trust_region.move(bold, size)
    new = trust_region.moved(state.q, change)
    sound &= _finite(new._replace(logits=0 * state.q.logits))
    return _Tried(new, size, change.kl, sound, sound & ~verdict.worse, verdict)


def _after(method, state, active, seen, tried, logits, known, key):
    """The state after a step, and what is recorded of it."""
    q = state.q
    halfway = choose(active, _halfway(state.good, q), q)
    back = choose(tried.verdict.worse, state.good, halfway)
    skipped = jnp.any(active & ~tried.sound)
    level = sight.loss_of(q, known.level, known.stderr)
    memory = None
    if method.adaptive:
        memory = growth.remember(key, state, seen.points, seen.log_p, active)
    state = State(
        choose(tried.kept, tried.new, back)._replace(logits=logits),
        choose(tried.kept, q, state.good),
        known,
        memory,
        state.num_steps + (~skipped).astype(state.num_steps.dtype),
        state.num_skipped + skipped.astype(state.num_skipped.dtype),
        state.num_evaluations + method.count * sight.num_visited(method, active),
        level,
        state.stopped,
    )
    return state, Record(*level, _natural_norm(q, seen.found, tried.sound))


def _learn(
    method: Method,
    q: GMM,
    known: Components,
    seen: Sight,
    active: jax.Array,
    kept: jax.Array,
    kl: jax.Array,
) -> Components:
    """Trust regions grow while a component improves; what is not finite halves them."""
    w = jax.nn.softmax(q.logits)
    level = jnp.clip(jnp.where(kept, seen.level, known.level), NEVER, -NEVER)
    reward = jnp.where(kept, jnp.log(jnp.maximum(w, 1e-37)) + level, known.reward)
    rate = jnp.where(reward > known.reward, 1.15, 0.85)
    radius = known.radius * jnp.where(kept, rate, jnp.where(active, 0.5, 1.0))
    radius = jnp.clip(radius, LEAST_RADIUS, method.max_kl)
    bold = jnp.maximum(exploring.radius(known, kept, active, kl), LEAST_RADIUS)
    busy = (w > components.WEIGHTLESS) | (reward > known.best + 1)
    return Components(
        jnp.where(known.journey.done, radius, bold),
        level,
        jnp.where(kept, seen.stderr, known.stderr),
        jnp.where(kept, seen.share, known.share),
        reward,
        jnp.maximum(known.best, reward),
        known.age + active.astype(known.age.dtype),
        jnp.where(busy, 0, known.idle + 1),
        known.journey,
    )


def _reweighted(method, q, known, index, most):
    """The logits after a step, and what that makes of the levels."""
    present = q.logits > -jnp.inf
    log_w = jnp.where(present, log_softmax(q.logits), -jnp.inf)
    arrived = log_softmax(jnp.where(known.journey.done, log_w, -jnp.inf))
    logits = trust_region.reweighted(arrived, known.level, WEIGHT_RADIUS, most)
    logits = jnp.maximum(logits, components.LEAST_LOG_WEIGHT)
    logits = jnp.where(present, logits, -jnp.inf)
    if not method.adaptive:
        return jnp.where(index < math.ceil(HELD * method.num_steps), q.logits, logits), known
    # Components that are not visited in every step would otherwise be weighed by what they were
    # worth under other weights.
    change = jnp.where(present, logits - log_w, 0.0)
    return logits, known._replace(level=known.level - known.share * change)


def _natural_norm(q, found, sound):
    """The norm of the natural gradient in the mean over components, which has no unit."""
    count = q.num_components
    squares = jnp.sum(found.slope**2, axis=1)
    squares += 0.5 * jnp.sum(found.curvature.reshape(count, -1) ** 2, axis=1)
    w = jax.nn.softmax(q.logits)
    return jnp.sqrt(jnp.sum(jnp.where(sound, w * squares, 0.0)))


def _halfway(a, b):
    return jax.tree.map(lambda x, y: 0.5 * (x + y), a, b)


def _finite(tree):
    leaves = jax.tree.leaves(tree)
    return jnp.all(
        jnp.stack([jnp.all(jnp.isfinite(x.reshape(len(x), -1)), axis=1) for x in leaves]), axis=0
    )
