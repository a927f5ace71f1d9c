"""One descent: the state of a fit, a step of it, and what it does where numbers are not finite."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gmmjax._fitting import stopping
from gmmjax._fitting.stopping import Window
from gmmjax._fitting.units import from_units, resolved, to_units
from gmmjax._mixture.gmm import GMM
from gmmjax._mixture.unconstrained import Unconstrained
from gmmjax._sampling.estimate import Estimate
from gmmjax._trees import choose

# Errors of the same loss differ by some tens of percent from step to step.
_EXPLOSION = 10.0


class Method(NamedTuple):
    """What is static in a descent."""

    loss: Callable
    optimizer: optax.GradientTransformation
    num_steps: int
    patience: int | None
    common_random_numbers: bool
    hold_weights: int


class Problem(NamedTuple):
    """What a descent is given: a key, a start, which of its numbers may move, and arguments of the
    loss.
    """

    key: jax.Array
    init: GMM
    trainable: Unconstrained  # booleans
    args: tuple


class State(NamedTuple):
    """Everything that goes from step to step."""

    params: Unconstrained
    last_finite: Unconstrained  # where loss and gradient last made sense
    average: Unconstrained
    opt_state: Any
    window: Window
    last_loss: Estimate  # the last that made sense
    previous: Estimate  # mean loss of the window before
    num_steps: jax.Array
    num_skipped: jax.Array
    stopped: jax.Array


class Record(NamedTuple):
    """What is kept of each step."""

    loss: jax.Array
    stderr: jax.Array
    gradient_norm: jax.Array


def trainable_mask(init: GMM, trainable: GMM) -> Unconstrained:
    """Booleans of the shapes of `init`: what the user lets move, of components that are present."""
    present = init.logits > -jnp.inf
    masks = []
    for leaf, choice in zip(init, trainable, strict=True):
        mask = jnp.broadcast_to(jnp.asarray(choice, bool), leaf.shape)
        if leaf.shape[0] == len(present):  # a tied scale belongs to all
            mask &= present.reshape(-1, *[1] * (leaf.ndim - 1))
        masks.append(mask)
    return Unconstrained(*masks)


def init_state(method: Method, problem: Problem) -> State:
    """The state before the first step."""
    params = to_units(problem.init)
    infinite = jnp.full((), jnp.inf, params.means.dtype)
    return State(
        params=params,
        last_finite=params,
        average=params,
        opt_state=method.optimizer.init(params),
        window=stopping.empty_window(params),
        last_loss=Estimate(infinite, infinite),
        previous=Estimate(infinite, infinite),
        num_steps=jnp.zeros((), int),
        num_skipped=jnp.zeros((), int),
        stopped=jnp.zeros((), bool),
    )


def run_steps(
    method: Method, problem: Problem, state: State, start, count: int
) -> tuple[State, Record]:
    """Steps start … start + count, none of them beyond the last or after a stop."""
    nothing = Record(*jnp.full((3,), jnp.nan, state.params.means.dtype))

    def one(state, index):
        return jax.lax.cond(
            ~state.stopped & (index < method.num_steps),
            lambda s: _step(method, problem, s, index),
            lambda s: (s, nothing),
            state,
        )

    return jax.lax.scan(one, state, start + jnp.arange(count))


def evaluate(method: Method, problem: Problem, key, params: Unconstrained) -> Estimate:
    """The loss at parameters; what may not move is where it was."""
    result = method.loss(key, assemble(problem, params), *problem.args)
    if isinstance(result, Estimate):
        value, stderr = result
    else:
        value, stderr = result, jnp.zeros_like(result)
    if jnp.shape(value) != ():
        raise ValueError(
            f"loss: expected an Estimate or a scalar, got an array of shape {jnp.shape(value)}"
        )
    dtype = params.means.dtype
    return Estimate(jnp.asarray(value, dtype), jax.lax.stop_gradient(jnp.asarray(stderr, dtype)))


def assemble(problem: Problem, params: Unconstrained) -> GMM:
    """The mixture of parameters, with the start's own numbers, to the last bit, where nothing may
    move.
    """
    start = to_units(problem.init)
    moved = jax.tree.map(jnp.where, problem.trainable, params, start)
    g = from_units(problem.init, moved)
    leaves = []
    for mask, new, old in zip(problem.trainable, g, problem.init, strict=True):
        row = jnp.any(mask, axis=tuple(range(1, mask.ndim)), keepdims=True)
        leaves.append(jnp.where(row, new, old))
    return GMM(*leaves)


def _step(method, problem, state, index):
    key = jax.random.fold_in(problem.key, 0 if method.common_random_numbers else index)
    held = (index < method.hold_weights) & _components_move(problem.trainable)
    weights_move = problem.trainable.logits & ~held
    problem = problem._replace(trainable=problem.trainable._replace(logits=weights_move))

    def loss_fn(params):
        return evaluate(method, problem, key, params)

    (value, stderr), gradient = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    loss = Estimate(value, stderr)
    # optax mixes types, whatever the user has told JAX of that.
    with jax.numpy_dtype_promotion("standard"):
        updates, opt_state = optax.with_extra_args_support(method.optimizer).update(
            gradient,
            state.opt_state,
            state.params,
            value=value,
            grad=gradient,
            value_fn=lambda params: loss_fn(params).value,
        )
    moved = _move(problem.trainable, state.params, updates)
    sound = makes_sense(loss, state.last_loss) & _all_finite(gradient) & resolved(state.params)
    taken = sound & _all_finite(moved)
    # A step that led to where the loss or its gradient makes no sense is halved until it does.
    halved = jax.tree.map(lambda a, b: 0.5 * (a + b), state.last_finite, state.params)
    num_steps = state.num_steps + taken.astype(state.num_steps.dtype)
    window, previous, arrived = _judge(method, state, loss, gradient)
    judged = sound & ~held
    new = State(
        params=choose(taken, moved, choose(sound, state.params, halved)),
        last_finite=choose(sound, state.params, state.last_finite),
        average=choose(taken, _average(state.average, moved, num_steps), state.average),
        opt_state=choose(taken, opt_state, state.opt_state),
        window=choose(judged, window, state.window),
        last_loss=choose(sound, loss, state.last_loss),
        previous=choose(judged, previous, state.previous),
        num_steps=num_steps,
        num_skipped=state.num_skipped + (~taken).astype(state.num_skipped.dtype),
        stopped=judged & arrived,
    )
    return new, Record(value, stderr, _norm(gradient))


def _components_move(trainable: Unconstrained) -> jax.Array:
    """Whether there is anything for the weights to wait for."""
    return jnp.any(trainable.means) | jnp.any(trainable.scale)


def makes_sense(loss: Estimate, reference: Estimate) -> jax.Array:
    """Whether a loss is a number whose error has not exploded beyond all of a loss before."""
    # At an optimum that is known exactly any error is larger: below a nat none is an explosion.
    usual = jnp.maximum(1.0, jnp.abs(reference.value) + _EXPLOSION * reference.stderr)
    known = jnp.maximum(usual, jnp.abs(loss.value) / _EXPLOSION)
    return jnp.isfinite(loss.value) & (loss.stderr <= known)


def _move(trainable, params, updates):
    return jax.tree.map(lambda m, x, u: jnp.where(m, x + u, x), trainable, params, updates)


def _average(average, params, num_steps):
    """Polynomial-decay averaging (Shamir and Zhang, 2013): of the tail, wherever the end may
    come.
    """
    rate = 9.0 / (jnp.maximum(num_steps, 1).astype(params.means.dtype) + 8.0)
    return jax.tree.map(lambda a, x: a + rate * (x - a), average, params)


def _judge(method, state, loss, gradient):
    """The window with one more step in it, emptied once it is full, and whether the descent has
    arrived.
    """
    window = stopping.extend(state.window, loss, gradient)
    if method.patience is None:
        return window, state.previous, jnp.zeros((), bool)
    full = window.count >= method.patience
    current = stopping.mean_loss(window, method.common_random_numbers)
    arrived = stopping.has_arrived(window, state.previous, current, method.common_random_numbers)
    empty = stopping.empty_window(state.params)
    return choose(full, empty, window), choose(full, current, state.previous), full & arrived


def _norm(tree):
    return jnp.sqrt(sum(jnp.sum(leaf * leaf) for leaf in jax.tree.leaves(tree)))


def _all_finite(tree):
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))
