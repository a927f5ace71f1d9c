"""When components come and go during a fit, and which of them a step visits."""

import math

import jax
import jax.numpy as jnp

from gmmjax._mixture.gmm import GMM
from gmmjax._sampling.sample import sample
from gmmjax._trees import choose
from gmmjax._variational import components, places
from gmmjax._variational.fit_state import (
    Components,
    Journey,
    Method,
    Problem,
    State,
    start_of_cooling,
    unknown,
)

FLEET = 6  # components that explore at a time
SETTLING = 0.85  # of the steps before cooling are over when the last component comes
YOUNG = 15  # components are visited in every step so many times, and then
EVERY, COOLING = 4, 2  # in every fourth step, and in every second one at the end
GAIN = 0.1  # nats; a component without weight whose level is no higher above the mean is not needed


def active(method: Method, state: State, index) -> jax.Array:
    """Which components are visited: of old ones a few at a time."""
    present = state.q.logits > -jnp.inf
    if not method.adaptive:
        return present
    pause = jnp.where(index < math.ceil(start_of_cooling(method)), EVERY, COOLING)
    turn = (index + jnp.arange(len(present))) % pause == 0
    return present & ((state.known.age < YOUNG) | ~state.known.journey.done | turn)


def add_and_drop(method: Method, problem: Problem, state: State, index, key) -> State:
    """Once in a while one more component, and at any time fewer."""
    q = components.drop(state.q, state.known.idle)
    last = math.ceil(SETTLING * start_of_cooling(method))
    absent = jnp.sum(problem.init.logits == -jnp.inf)
    pause = jnp.maximum(last // (2 * jnp.maximum(absent, 1)), 1)
    turn = index // pause
    due = (index > 0) & (index % pause == 0) & (index < last) & jnp.any(q.logits == -jnp.inf)
    explorers = jnp.sum((q.logits > -jnp.inf) & ~state.known.journey.done)
    due &= (explorers < FLEET) | ~places.explores(turn)

    def grow(state):
        return _grown(method, problem, state, turn, key)

    return jax.lax.cond(due, grow, lambda state: state, state._replace(q=q))


def _grown(method, problem, state, turn, key):
    draws, size, slots = jax.random.split(key, 3)
    # Where the user expects the target, whatever has become of the mixture.
    x = sample(draws, problem.init, method.count)
    log_p = jnp.asarray(method.log_density(x, *problem.args)).astype(x.dtype)
    memory = components.remember(slots, state.memory, x, log_p, jnp.ones(len(x), bool))
    merged = components.merge(state.q)
    fresh = components.Memory(x, log_p, memory.seen)
    place = places.choose(size, merged, problem.init, fresh, memory, -state.level.value, turn)
    q, new = components.add(merged, place.mean, place.scale, place.wanted)
    known = unknown(q, method)
    known = known._replace(journey=known.journey._replace(done=~(new & places.explores(turn))))
    return state._replace(
        q=q,
        good=choose(new, q, state.good),
        known=choose(new, known, state.known),
        memory=memory,
        num_evaluations=state.num_evaluations + method.count,
    )


def arrive(q: GMM, known: Components, before: Journey) -> Components:
    """Whoever has come to where the others are already may go at once."""
    w = jax.nn.softmax(q.logits)
    mean = jnp.sum(jnp.where(w > 0, w * known.level, 0.0))
    needless = known.journey.done & (known.level < mean + GAIN)
    sooner = jnp.where(needless & (known.idle > 0), known.idle + 3, known.idle)
    at_once = needless & ~before.done
    return known._replace(idle=jnp.where(at_once, components.PATIENCE + 1, sooner))


def remember(key, state: State, points, log_p, visited) -> components.Memory:
    """The memory with points of components that have arrived: the way of others leads to them."""
    arrived = jnp.repeat(visited & (state.known.age >= YOUNG), log_p.shape[1])
    x = points.x.reshape(-1, state.q.dim)
    return components.remember(key, state.memory, x, log_p.reshape(-1), arrived)
