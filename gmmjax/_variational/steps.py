"""A fit to a density: steps of all components at once, and how they grow and cool."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gmmjax._fitting.descent import Record
from gmmjax._mixture.density import log_peaks
from gmmjax._mixture.gmm import GMM
from gmmjax._sampling.estimate import Estimate
from gmmjax._variational import components, exploring, growth, own_points, quadratic, trust_region
from gmmjax._variational.components import choose
from gmmjax._variational.fit_state import (
    NEVER,
    Components,
    Method,
    Problem,
    State,
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
    points = own_points.place(q, own_points.normals(key, q, count), present)
    log_p = evaluate(method._replace(differentiable=False), problem.args, points, present)[0]
    level, variance = _level(log_p - points.log_q)
    return _loss(q, level, variance), count * _num_visited(method, present)


def _num_visited(method, active):
    return jnp.sum(active) if method.adaptive else len(active)


def _level(values):
    """The mean of values at pairs of points, and its variance."""
    mean = own_points.pairs(values)[0]
    return jnp.mean(mean, axis=1), jnp.var(mean, axis=1, ddof=1) / mean.shape[1]


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
    points = own_points.place(q, _normals(method, problem, known, key, q), active)
    log_p, gradient = evaluate(method, problem.args, points, active)
    found = _fit(method, q, known.journey, points, log_p, gradient)
    sight = _look(q, known.journey, points, log_p, found)
    sound = active & _finite((found, sight))
    verdict = exploring.judge(known, sight.alone, sound)
    cooling = jnp.maximum(index.astype(q.means.dtype) - start_of_cooling(method), 0)
    most = 1 / (1 + 0.25 * cooling)
    bold = quadratic.stretched(found, jnp.where(cooling > 0, 1.0, known.journey.reach))
    size = trust_region.largest_step(bold, verdict.radius, most)
    change = trust_region.move(bold, size)
    new = trust_region.moved(q, change)
    sound &= _finite(new._replace(logits=q.logits * 0))
    kept = sound & ~verdict.worse
    known = _learn(method, q, known, sight, active, kept, change.kl)
    if method.adaptive:
        inside = (size >= most) & (change.kl <= method.max_kl)
        trend = quadratic.mean_curvature(found)
        journey = exploring.go_on(state.known, verdict, sight.alone, trend, kept, inside)
        known = growth.arrive(q, known._replace(journey=journey), state.known.journey)
    back = choose(verdict.worse, state.good, choose(active, _halfway(state.good, q), q))
    logits, known = _reweighted(method, q, known, index, most)
    skipped = jnp.any(active & ~sound)
    level = _loss(q, known.level, known.variance)
    state = State(
        choose(kept, new, back)._replace(logits=logits),
        choose(kept, q, state.good),
        known,
        growth.remember(more, state, points, log_p, active) if method.adaptive else None,
        state.num_steps + (~skipped).astype(state.num_steps.dtype),
        state.num_skipped + skipped.astype(state.num_skipped.dtype),
        state.num_evaluations + method.count * _num_visited(method, active),
        level,
        state.stopped,
    )
    return state, Record(*level, _natural_norm(q, found, sound))


def _normals(method, problem, known, key, q):
    """Fresh ones in every step, and the same in all of them for components that explore."""
    fresh = own_points.normals(key, q, method.count)
    if not method.adaptive:
        return fresh
    return choose(known.journey.done, fresh, own_points.normals(problem.key, q, method.count))


class _Sight(NamedTuple):
    """Means over the points of each component, `(K,)`."""

    level: jax.Array  # E_k[log p − log q]
    variance: jax.Array
    alone: jax.Array  # E_k[log p − log N_k]
    share: jax.Array  # responsibility of the component for its own points


def _look(q, journey, points, log_p, found):
    own = log_peaks(q)[:, None] - 0.5 * jnp.sum(points.z**2, axis=1)
    log_w = jnp.where(q.logits > -jnp.inf, jax.nn.log_softmax(q.logits), 0.0)
    alone = jnp.mean(log_p - own, axis=1) + log_w
    share = jnp.mean(jnp.exp(own - points.log_q), axis=1)
    plain = _Sight(*_level(log_p - points.log_q), alone, share)
    return choose(journey.done, plain._replace(level=found.level, variance=found.variance), plain)


def _fit(method, q, journey, points, log_p, gradient):
    """The quadratic of log p − log q, and of log p − log N_k for components that explore."""
    log_q, log_q_gradient = points.log_q, points.gradient
    if method.adaptive:
        alone = -0.5 * jnp.sum(points.z**2, axis=1), -points.z
        log_q, log_q_gradient = choose(journey.done, (log_q, log_q_gradient), alone)
    if not method.differentiable:
        return quadratic.from_values(points.z, log_p - log_q, q.scale.ndim)
    gradients = own_points.pull_back(q, gradient) - log_q_gradient
    return quadratic.from_gradients(points.z, log_p - log_q, gradients, q.scale.ndim)


def _learn(
    method: Method,
    q: GMM,
    known: Components,
    sight: _Sight,
    active: jax.Array,
    kept: jax.Array,
    kl: jax.Array,
) -> Components:
    """Trust regions grow while a component improves; what is not finite halves them."""
    w = jax.nn.softmax(q.logits)
    level = jnp.clip(jnp.where(kept, sight.level, known.level), NEVER, -NEVER)
    reward = jnp.where(kept, jnp.log(jnp.maximum(w, 1e-37)) + level, known.reward)
    rate = jnp.where(reward > known.reward, 1.15, 0.85)
    radius = known.radius * jnp.where(kept, rate, jnp.where(active, 0.5, 1.0))
    radius = jnp.clip(radius, LEAST_RADIUS, method.max_kl)
    bold = jnp.maximum(exploring.radius(known, kept, active, kl), LEAST_RADIUS)
    busy = (w > components.WEIGHTLESS) | (reward > known.best + 1)
    return Components(
        jnp.where(known.journey.done, radius, bold),
        level,
        jnp.where(kept, sight.variance, known.variance),
        jnp.where(kept, sight.share, known.share),
        reward,
        jnp.maximum(known.best, reward),
        known.age + active.astype(known.age.dtype),
        jnp.where(busy, 0, known.idle + 1),
        known.journey,
    )


def _reweighted(method, q, known, index, most):
    """The logits after a step, and what that makes of the levels."""
    present = q.logits > -jnp.inf
    log_w = jnp.where(present, jax.nn.log_softmax(q.logits), -jnp.inf)
    arrived = jax.nn.log_softmax(jnp.where(known.journey.done, log_w, -jnp.inf))
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
