"""A fit to a density: steps of all components at once, and how they grow and cool."""

import math

import jax
import jax.numpy as jnp

from gmmjax._fitting.descent import Record
from gmmjax._mixture.gmm import GMM
from gmmjax._sampling.estimate import Estimate
from gmmjax._variational import components, growth, own_points, quadratic, trust_region
from gmmjax._variational.fit_state import (
    NEVER,
    Components,
    Method,
    Problem,
    State,
    choose,
    start_of_cooling,
)

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


def evaluate(method: Method, args: tuple, points, active):
    """Log p at the points of active components, `(K, S)`, and its gradients in x, `(K, D, S)`."""

    def target(x):
        values = jnp.asarray(method.log_density(x, *args))
        if values.shape != x.shape[:1]:
            raise ValueError(
                f"log_density: expected values of shape ({len(x)},), one for each point, "
                f"got {values.shape}"
            )
        return values.astype(x.dtype)

    def of(x):
        if not method.differentiable:
            return target(x), jnp.zeros_like(x)
        values, back = jax.vjp(target, x)
        return values, back(jnp.ones_like(values))[0]

    if method.adaptive:
        values, gradients = own_points.where_active(lambda i: of(points.x[i]), active)
    else:
        count, num, dim = points.x.shape
        values, gradients = of(points.x.reshape(-1, dim))
        values, gradients = values.reshape(count, num), gradients.reshape(count, num, dim)
    return values, gradients.mT


def loss(method: Method, problem: Problem, key, q: GMM):
    """−ELBO, an estimate from fresh points, as many of each component, and how many there were."""
    present = q.logits > -jnp.inf
    count = max(2 * -(-method.num_samples // (2 * q.num_components)), 8)
    points = own_points.draw(key, q, count, present)
    log_p = evaluate(method._replace(differentiable=False), problem.args, points, present)[0]
    mean = own_points.pairs(log_p - points.log_q)[0]
    found = _loss(q, jnp.mean(mean, axis=1), jnp.var(mean, axis=1, ddof=1) / mean.shape[1])
    return found, count * (jnp.sum(present) if method.adaptive else q.num_components)


def _loss(q: GMM, level: jax.Array, variance: jax.Array) -> Estimate:
    w = jax.nn.softmax(q.logits)
    return Estimate(
        -jnp.sum(jnp.where(w > 0, w * level, 0.0)),
        jnp.sqrt(jnp.sum(jnp.where(w > 0, w * w * variance, 0.0))),
    )


def _step(method, problem, state, index):
    key, more = jax.random.split(jax.random.fold_in(problem.key, index))
    if method.adaptive:
        state = growth.add_and_drop(method, problem, state, index, more)
    q, known = state.q, state.known
    active = growth.active(method, state, index)
    points = own_points.draw(key, q, method.count, active)
    log_p, gradient = evaluate(method, problem.args, points, active)
    found = _fit(method, q, points, log_p, gradient)
    sound = active & _finite(found)
    cooling = jnp.maximum(index.astype(q.means.dtype) - start_of_cooling(method), 0)
    most = 1 / (1 + 0.25 * cooling)
    size = trust_region.largest_step(found, known.radius, most)
    new = trust_region.moved(q, trust_region.move(found, size))
    sound &= _finite(new._replace(logits=q.logits * 0))
    known = _learn(method, q, known, found, active, sound)
    moved = choose(sound, new, choose(active, _halfway(state.good, q), q))
    log_w = jax.nn.log_softmax(q.logits)
    logits = trust_region.reweighted(log_w, known.level, WEIGHT_RADIUS, most)
    logits = jnp.maximum(logits, components.LEAST_LOG_WEIGHT)
    logits = jnp.where(q.logits > -jnp.inf, logits, -jnp.inf)
    if not method.adaptive:
        logits = jnp.where(index < math.ceil(HELD * method.num_steps), q.logits, logits)
    memory = growth.remember(more, state, points, log_p, active) if method.adaptive else None
    skipped = jnp.any(active & ~sound)
    level = _loss(q, known.level, known.variance)
    norm = _natural_norm(q, found, sound)
    evaluated = method.count * (jnp.sum(active) if method.adaptive else q.num_components)
    state = State(
        moved._replace(logits=logits),
        choose(sound, q, state.good),
        known,
        memory,
        state.num_steps + (~skipped).astype(state.num_steps.dtype),
        state.num_skipped + skipped.astype(state.num_skipped.dtype),
        state.num_evaluations + evaluated,
        level,
        state.stopped,
    )
    return state, Record(*level, norm)


def _fit(method, q, points, log_p, gradient):
    values = log_p - points.log_q
    if not method.differentiable:
        return quadratic.from_values(points.z, values, q.scale.ndim)
    gradients = own_points.pull_back(q, gradient) - points.gradient
    return quadratic.from_gradients(points.z, values, gradients, q.scale.ndim)


def _learn(
    method: Method,
    q: GMM,
    known: Components,
    found: quadratic.Quadratic,
    active: jax.Array,
    sound: jax.Array,
) -> Components:
    """Trust regions grow while a component improves; what is not finite halves them."""
    w = jax.nn.softmax(q.logits)
    level = jnp.clip(jnp.where(sound, found.level, known.level), NEVER, -NEVER)
    reward = jnp.where(sound, jnp.log(jnp.maximum(w, 1e-37)) + level, known.reward)
    rate = jnp.where(reward > known.reward, 1.15, 0.85)
    radius = known.radius * jnp.where(sound, rate, jnp.where(active, 0.5, 1.0))
    busy = (w > components.WEIGHTLESS) | (reward > known.best + 1)
    return Components(
        jnp.clip(radius, LEAST_RADIUS, method.max_kl),
        level,
        jnp.where(sound, found.variance, known.variance),
        reward,
        jnp.maximum(known.best, reward),
        known.age + active.astype(known.age.dtype),
        jnp.where(busy, 0, known.idle + active.astype(known.idle.dtype)),
    )


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
