"""When components come and go during a fit, and which of them a step visits."""

import math

import jax
import jax.numpy as jnp

from gmmjax._variational import components
from gmmjax._variational.fit_state import Method, Problem, State, choose, start_of_cooling, unknown

YOUNG, EVERY = 30, 4  # components older than so many steps are visited every fourth


def active(method: Method, state: State, index) -> jax.Array:
    """Which components are visited: of old ones a few at a time, until steps begin to shrink."""
    present = state.q.logits > -jnp.inf
    if not method.adaptive:
        return jnp.ones_like(present)
    turn = (index + jnp.arange(state.q.num_components)) % EVERY == 0
    cooling = index >= math.ceil(start_of_cooling(method))
    return present & ((state.known.age < YOUNG) | turn | cooling)


def add_and_drop(method: Method, problem: Problem, state: State, index, key) -> State:
    """Once in a while one more component, and at any time fewer."""
    q = components.drop(state.q, state.known.idle)
    last = math.floor(start_of_cooling(method))
    absent = jnp.sum(problem.init.logits == -jnp.inf)
    pause = jnp.maximum(last // (2 * jnp.maximum(absent, 1)), 1)
    due = (index > 0) & (index % pause == 0) & (index < math.ceil(start_of_cooling(method)))
    due &= jnp.any(q.logits == -jnp.inf)

    def grow(state):
        draws, size, place = jax.random.split(key, 3)
        x = components.scouts(draws, problem.init, method.count)
        log_p = jnp.asarray(method.log_density(x, *problem.args)).astype(x.dtype)
        memory = components.remember(place, state.memory, x, log_p, jnp.ones(len(x), bool))
        merged = components.merge(state.q)
        q, slot = components.add(size, merged, problem.init, memory, index // pause)
        new = jnp.arange(q.num_components) == slot
        return state._replace(
            q=q,
            good=choose(new, q, state.good),
            known=choose(new, unknown(q, method), state.known),
            memory=memory,
            num_evaluations=state.num_evaluations + method.count,
        )

    return jax.lax.cond(due, grow, lambda state: state, state._replace(q=q))


def remember(key, state: State, points, log_p, visited) -> components.Memory:
    """The memory with points of components that have arrived: the way of others leads to them."""
    arrived = jnp.repeat(visited & (state.known.age >= YOUNG), log_p.shape[1])
    x = points.x.reshape(-1, state.q.dim)
    return components.remember(key, state.memory, x, log_p.reshape(-1), arrived)
