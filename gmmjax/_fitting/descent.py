"""One descent: the state of a fit, a step of it, and when it has arrived."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gmmjax._mixture.gmm import GMM
from gmmjax._mixture.unconstrained import Unconstrained, constrain, unconstrain
from gmmjax._sampling.estimate import Estimate


class Method(NamedTuple):
    """What is static in a descent."""

    loss: Callable
    optimizer: optax.GradientTransformation
    num_steps: int
    patience: int | None
    common_random_numbers: bool


class Problem(NamedTuple):
    """What a descent is given: a key, a start, which of its numbers may move, and arguments of the
    loss.
    """

    key: jax.Array
    init: GMM
    trainable: Unconstrained  # booleans
    args: tuple


class Window(NamedTuple):
    """Sums over the steps since progress was last judged."""

    count: jax.Array
    loss: jax.Array
    variance: jax.Array  # stderr²
    gradient: Unconstrained
    squares: Unconstrained


class State(NamedTuple):
    """Everything that goes from step to step."""

    free: Unconstrained
    good: Unconstrained  # where loss and gradient were last finite
    average: Unconstrained
    memory: Any  # of the optimiser
    window: Window
    level: Estimate  # mean loss of the window before
    num_steps: jax.Array
    num_skipped: jax.Array
    stopped: jax.Array


class Record(NamedTuple):
    """What is kept of each step."""

    loss: jax.Array
    stderr: jax.Array
    gradient_norm: jax.Array


def movable(init: GMM, trainable: GMM) -> Unconstrained:
    """Booleans of the shapes of `init`: what the user lets move, of components that are present."""
    present = init.logits > -jnp.inf
    masks = []
    for leaf, choice in zip(init, trainable, strict=True):
        mask = jnp.broadcast_to(jnp.asarray(choice, bool), leaf.shape)
        if leaf.shape[0] == len(present):  # a tied scale belongs to all
            mask &= present.reshape(-1, *[1] * (leaf.ndim - 1))
        masks.append(mask)
    return Unconstrained(*masks)


def begin(method: Method, problem: Problem) -> State:
    """The state before the first step."""
    # Optimisers see 0 in place of −inf: weight decay and line searches would turn it into NaN.
    free = unconstrain(problem.init)
    free = free._replace(logits=jnp.where(free.logits > -jnp.inf, free.logits, 0.0))
    none = jnp.zeros((), int)
    level = Estimate(*jnp.full((2,), jnp.inf, free.means.dtype))
    empty = _empty(free)
    return State(free, free, free, method.optimizer.init(free), empty, level, none, none, none > 0)


def advance(
    method: Method, problem: Problem, state: State, start, count: int
) -> tuple[State, Record]:
    """Steps start … start + count, none of them beyond the last or after a stop."""

    def one(state, index):
        rest = Record(*jnp.full((3,), jnp.nan, state.free.means.dtype))
        go = ~state.stopped & (index < method.num_steps)
        return jax.lax.cond(
            go, lambda s: _step(method, problem, s, index), lambda s: (s, rest), state
        )

    return jax.lax.scan(one, state, start + jnp.arange(count))


def evaluate(method: Method, problem: Problem, key, free: Unconstrained) -> Estimate:
    """The loss at free parameters; what may not move is where it was."""
    result = method.loss(key, assemble(problem, free), *problem.args)
    value, stderr = result if isinstance(result, Estimate) else (result, 0 * result)
    if jnp.shape(value) != ():
        raise ValueError(
            f"loss: expected an Estimate or a scalar, got an array of shape {jnp.shape(value)}"
        )
    dtype = free.means.dtype
    return Estimate(jnp.asarray(value, dtype), jax.lax.stop_gradient(jnp.asarray(stderr, dtype)))


def assemble(problem: Problem, free: Unconstrained) -> GMM:
    """The mixture of free parameters, with the start's own numbers, to the last bit, where nothing
    may move.
    """
    fixed = unconstrain(problem.init)
    g = constrain(
        Unconstrained(
            *(jnp.where(m, a, b) for m, a, b in zip(problem.trainable, free, fixed, strict=True))
        )
    )
    rows = [
        jnp.any(mask, axis=tuple(range(1, mask.ndim)), keepdims=True) for mask in problem.trainable
    ]
    return GMM(*(jnp.where(row, a, b) for row, a, b in zip(rows, g, problem.init, strict=True)))


def _step(method, problem, state, index):
    key = jax.random.fold_in(problem.key, 0 if method.common_random_numbers else index)
    value_fn = lambda free: evaluate(method, problem, key, free)
    (value, stderr), gradient = jax.value_and_grad(value_fn, has_aux=True)(state.free)
    updates, memory = optax.with_extra_args_support(method.optimizer).update(
        gradient,
        state.memory,
        state.free,
        value=value,
        grad=gradient,
        value_fn=lambda free: value_fn(free).value,
    )
    moved = jax.tree.map(
        lambda m, x, u: jnp.where(m, x + u, x), problem.trainable, state.free, updates
    )
    sound = jnp.isfinite(value) & _all_finite(gradient)
    taken = sound & _all_finite(moved)
    # A step that led to where the loss or its gradient is not finite is halved until it does not.
    halved = jax.tree.map(lambda good, free: 0.5 * (good + free), state.good, state.free)
    num_steps = state.num_steps + taken
    # Polynomial-decay averaging (Shamir and Zhang, 2013): of the tail, wherever the end may come.
    rate = (9.0 / (jnp.maximum(num_steps, 1) + 8.0)).astype(value.dtype)
    average = jax.tree.map(lambda a, x: a + rate * (x - a), state.average, moved)
    window, level, arrived = _judge(method, state.window, state.level, value, stderr, gradient)
    new = State(
        free=_where(taken, moved, _where(sound, state.free, halved)),
        good=_where(sound, state.free, state.good),
        average=_where(taken, average, state.average),
        memory=_where(taken, memory, state.memory),
        window=_where(sound, window, state.window),
        level=_where(sound, level, state.level),
        num_steps=num_steps,
        num_skipped=state.num_skipped + ~taken,
        stopped=sound & arrived,
    )
    return new, Record(value, stderr, _norm(gradient))


def _judge(method, window, level, value, stderr, gradient):
    """The window with one more step in it, and whether, once it is full, it shows no progress."""
    gradient = jax.lax.stop_gradient(gradient)
    window = Window(
        window.count + 1,
        window.loss + value,
        window.variance + stderr**2,
        jax.tree.map(jnp.add, window.gradient, gradient),
        jax.tree.map(lambda s, g: s + g * g, window.squares, gradient),
    )
    if method.patience is None:
        return window, level, jnp.zeros((), bool)
    count, full = window.count.astype(value.dtype), window.count >= method.patience
    # One key for all steps has no noise between steps: what counts then is to be small beside the
    # error of all.
    error = (
        0.01 * jnp.sqrt(window.variance / count)
        if method.common_random_numbers
        else jnp.sqrt(window.variance) / count
    )
    current = Estimate(window.loss / count, error)
    flat = level.value - current.value <= jnp.hypot(level.stderr, error) + jnp.finfo(
        value.dtype
    ).eps * jnp.abs(value)
    # On a plateau before a descent one of the two often holds by itself. Without noise there is
    # only the loss to go by.
    arrived = (
        full
        & jnp.isfinite(level.value)
        & flat
        & (_drowned(window, count) | method.common_random_numbers)
    )
    return _where(full, _empty(gradient), window), _where(full, current, level), arrived


def _drowned(window: Window, count: jax.Array):
    """Whether the mean gradient is no larger than its standard error, in the mean over
    parameters.
    """

    def ratio(total: jax.Array, squares: jax.Array):
        mean = total / count
        variance = (squares / count - mean**2) / jnp.maximum(count - 1, 1)
        moves = squares > 0
        return jnp.sum(
            jnp.where(moves, mean**2 / jnp.where(variance > 0, variance, 1e-30), 0.0)
        ), jnp.sum(moves)

    ratios, counts = zip(*map(ratio, window.gradient, window.squares), strict=True)
    return sum(ratios) <= sum(counts)


def _empty(free):
    zeros = jax.tree.map(jnp.zeros_like, free)
    zero = jnp.zeros((), free.means.dtype)
    return Window(jnp.zeros((), int), zero, zero, zeros, zeros)


def _norm(tree):
    return jnp.sqrt(sum(jnp.sum(leaf * leaf) for leaf in jax.tree.leaves(tree)))


def _all_finite(tree):
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def _where(condition, yes, no):
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
