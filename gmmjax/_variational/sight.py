"""What a step, or a final estimate, sees of a density at points of each component."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gmmjax._logs import log_softmax
from gmmjax._mixture.density import log_peaks
from gmmjax._mixture.gmm import GMM
from gmmjax._sampling.estimate import Estimate
from gmmjax._trees import choose
from gmmjax._validate import check_values, given_points
from gmmjax._variational import own_points, quadratic
from gmmjax._variational.fit_state import Method, Problem


class Sight(NamedTuple):
    """Means over the points of each component, `(K,)`."""

    level: jax.Array  # E_k[log p − log q]
    stderr: jax.Array
    alone: jax.Array  # E_k[log p − log N_k]
    share: jax.Array  # responsibility of the component for its own points


class Seen(NamedTuple):
    """What a step sees of the target, at points of each component."""

    points: own_points.OwnPoints
    log_p: jax.Array
    found: quadratic.Quadratic
    sight: Sight


def visit(method, problem, state, active, key):
    """Evaluate the target around each active component, and fit a quadratic there."""
    q, journey = state.q, state.known.journey
    points = own_points.place(q, _normals(method, problem, state.known, key, q), active)
    log_p, gradient = evaluate(method, problem.args, points, active)
    found = _fit(method, q, journey, points, log_p, gradient)
    return Seen(points, log_p, found, _look(q, journey, points, log_p, found))


def _normals(method, problem, known, key, q):
    """Fresh ones in every step, and the same in all of them for components that explore."""
    fresh = own_points.normals(key, q, method.count)
    if not method.adaptive:
        return fresh
    return choose(known.journey.done, fresh, own_points.normals(problem.key, q, method.count))


def evaluate(method: Method, args: tuple, points, active):
    """Log p at the points of active components, `(K, S)`, and its gradients in x, `(K, D, S)`."""

    def target(x):
        with given_points("log_density"):
            values = jnp.asarray(method.log_density(x, *args))
        check_values("log_density", values, len(x))
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


def _look(q, journey, points, log_p, found):
    own = log_peaks(q)[:, None] - 0.5 * jnp.sum(points.z**2, axis=1)
    log_w = jnp.where(q.logits > -jnp.inf, log_softmax(q.logits), 0.0)
    alone = jnp.mean(log_p - own, axis=1) + log_w
    share = jnp.mean(jnp.exp(own - points.log_q), axis=1)
    plain = Sight(*_level(log_p - points.log_q), alone, share)
    return choose(journey.done, plain._replace(level=found.level, stderr=found.stderr), plain)


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


def loss(method: Method, problem: Problem, key, q: GMM):
    """−ELBO, an estimate from fresh points, as many of each component, and how many there were."""
    present = q.logits > -jnp.inf
    count = max(2 * -(-method.num_samples // (2 * q.num_components)), 8)
    points = own_points.place(q, own_points.normals(key, q, count), present)
    log_p = evaluate(method._replace(differentiable=False), problem.args, points, present)[0]
    level, stderr = _level(log_p - points.log_q)
    return loss_of(q, level, stderr), count * num_visited(method, present)


def loss_of(q: GMM, level: jax.Array, stderr: jax.Array) -> Estimate:
    """−ELBO and its error, from what is known of each component."""
    w = jax.nn.softmax(q.logits)
    present = w > 0
    errors = jnp.where(present, w * stderr, 0.0)
    return Estimate(-jnp.sum(jnp.where(present, w * level, 0.0)), jnp.sqrt(jnp.sum(errors**2)))


def _level(values):
    """The mean of values at pairs of points, and its error."""
    return own_points.estimate(own_points.pairs(values)[0])


def num_visited(method, active):
    """How many components are evaluated in a step."""
    return jnp.sum(active) if method.adaptive else len(active)
