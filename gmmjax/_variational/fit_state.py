"""What goes from step to step of a fit to a density."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gmmjax._mixture.gmm import GMM
from gmmjax._sampling.estimate import Estimate
from gmmjax._variational import components

COOLED = 0.4  # the part of a fit, at its end, in which steps shrink
FIRST_RADIUS = 0.1  # KL of the first step of a component, in nats
NEVER = -1e30  # in place of −inf, which would give NaN in products with 0


class Method(NamedTuple):
    """What is static in a fit."""

    log_density: Callable
    num_steps: int
    count: int  # points per component, even
    num_samples: int  # points of the final estimates
    max_kl: float
    differentiable: bool
    adaptive: bool


class Problem(NamedTuple):
    """What a fit is given: a key, a start, padded where components may come, and arguments."""

    key: jax.Array
    init: GMM
    args: tuple


class Journey(NamedTuple):
    """What is known of how components explore, `(K,)`; see `exploring`."""

    done: jax.Array  # whether it has arrived, or was never sent out
    alone: jax.Array  # E_k[log p − log N_k] at the last place that it kept
    reach: jax.Array  # how many times its mean curvature is taken
    trend: jax.Array  # that curvature, when it was last visited
    returned: jax.Array  # whether its last step was taken back


class Components(NamedTuple):
    """What is known of each component, `(K,)`."""

    radius: jax.Array  # of its trust region
    level: jax.Array  # E_k[log p − log q]
    stderr: jax.Array  # of that
    share: jax.Array  # its mean responsibility for its own points
    reward: jax.Array  # log w_k + level, when it was last visited
    best: jax.Array  # largest reward so far
    age: jax.Array  # how often it was visited
    idle: jax.Array  # steps without weight or progress
    journey: Journey


class State(NamedTuple):
    """Everything that goes from step to step."""

    q: GMM
    good: GMM  # where all was last finite
    known: Components
    memory: Any  # a components.Memory, or None in a fit of fixed size
    num_steps: jax.Array
    num_skipped: jax.Array
    num_evaluations: jax.Array
    level: Estimate  # the loss of the last step
    stopped: jax.Array


def begin(method: Method, problem: Problem) -> State:
    """The state before the first step."""
    q = problem.init
    none = jnp.zeros((), int)
    memory = components.empty(q) if method.adaptive else None
    level = Estimate(*jnp.full((2,), jnp.inf, q.means.dtype))
    return State(q, q, unknown(q, method), memory, none, none, none, level, none > 0)


def unknown(q: GMM, method: Method) -> Components:
    """What is known of components that no step has visited."""

    def full(value):
        return jnp.full(q.num_components, value, q.means.dtype)

    none = jnp.zeros(q.num_components, int)
    never, one = full(NEVER), full(1.0)
    radius = full(min(FIRST_RADIUS, method.max_kl))
    journey = Journey(none == 0, never, one, full(0.0), none > 0)
    return Components(radius, never, full(0.0), one, never, never, none, none, journey)


def start_of_cooling(method: Method) -> float:
    """The step from which on steps shrink, and no component comes."""
    return (1 - COOLED) * method.num_steps
