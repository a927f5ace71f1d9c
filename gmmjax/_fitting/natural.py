"""Natural gradients as an optax transformation."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gmmjax._fitting import fisher
from gmmjax._fitting.fisher import Frame, Step
from gmmjax._matrices import linalg
from gmmjax._mixture.unconstrained import Unconstrained

_FIRST_LENGTH = 0.1
# How much of the steepest curvature so far counts a step later.
_MEMORY = 0.9


class NaturalState(NamedTuple):
    """What natural gradients remember of the last step."""

    count: jax.Array
    gradient: Unconstrained
    update: Unconstrained
    velocity: Step
    squared_lengths: Step  # of the blocks of the last step
    curvature: Step  # of each block


def natural_gradient(
    learning_rate: optax.ScalarOrSchedule = 1.0,
    *,
    momentum: float = 0.8,
    max_kl: float = 0.1,
    adaptive: bool = True,
) -> optax.GradientTransformation:
    r"""Steepest descent where distance is KL between components,
    :math:`-\eta\, F(\theta)^{-1} \nabla f`, for `gmmjax.fit`.

    F is the Fisher information of the mixture whose draws name their component, in closed form: a
    step of a mean counts in standard deviations of its component, one of a scale relative to it,
    and all the more the larger its weight. No narrow ridge and no unit of x slows it down, and no
    step takes a component, or the weights, further than `max_kl`. Components with a logit of −inf
    stay as they are.

    Rates and schedules belong inside: what is scaled afterwards is no longer held by `max_kl`.
    Other transformations may come before, `optax.chain(optax.clip(1.0), natural_gradient())`.

    Args:
      learning_rate: η, a number or an optax schedule. With `adaptive`, 1 is a step as long as the
        curvature along the last steps allows.
      momentum: in [0, 1), how much of the last step, as the components see it, is taken again.
      max_kl: the most nats by which one step may change a component, KL(new‖old), and the weights.
      adaptive: divide by the largest curvature of f in the metric F along the last steps, so that
        steps do not depend on the size of f. Without it η is used as it is, which suits KL.

    Returns:
      An `optax.GradientTransformation` of trees of type `gmmjax.Unconstrained`, such as the
      parameters of `gmmjax.fit` or `gmmjax.unconstrain(g)`; its `update` needs the parameters.

    Raises:
      ValueError: `momentum` or `max_kl` is out of range; `update` is called without parameters.

    Reference:
      Amari (1998), "Natural gradient works efficiently in learning"; Khan and Rue (2023), "The
      Bayesian learning rule", section 3; Barzilai and Borwein (1988), "Two-point step size gradient
      methods" (the curvature).

    Example:
      >>> import gmmjax, optax, jax.numpy as jnp
      >>> u = gmmjax.unconstrain(gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), 10 * jnp.ones(1)))
      >>> rule = gmmjax.natural_gradient(0.01, momentum=0.0, adaptive=False)
      >>> grads = u._replace(means=jnp.ones((1, 1)), scale=jnp.zeros(1))
      >>> print(rule.update(grads, rule.init(u), u)[0].means.round(4))
      [[-1.]]
    """
    if not max_kl > 0:
        raise ValueError(f"max_kl: expected a number above 0, got {max_kl}")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum: expected a number from 0 to below 1, got {momentum}")

    # Names and types of optax, which knows trees of any kind.
    def update(updates: Any, state: Any, params: Any = None):
        if params is None:
            raise ValueError("natural_gradient: update(grads, state, params) needs the parameters")
        at = fisher.frame(params)
        natural = fisher.solve(at, fisher.pull_back(at, updates))
        curvature = _curvature(at, state, updates, _squared_lengths(at, natural))
        rate = learning_rate(state.count) if callable(learning_rate) else learning_rate
        step = jax.tree.map(lambda n: jnp.negative(rate) * n, natural)
        if adaptive:
            step = fisher.scaled(at, jax.tree.map(_inverse, curvature), step)
        step = fisher.limit(at, step, max_kl)
        step = jax.tree.map(lambda v, s: momentum * v + s, state.velocity, step)
        step = fisher.limit(at, step, max_kl)
        change = fisher.push_forward(at, step)
        return change, NaturalState(
            count=state.count + 1,
            gradient=updates,
            update=change,
            velocity=step,
            squared_lengths=_squared_lengths(at, step),
            curvature=curvature,
        )

    return optax.GradientTransformation(_init, update)


def _init(params: Any) -> NaturalState:
    zeros = jax.tree.map(jnp.zeros_like, params)
    blocks = fisher.block_sums(fisher.frame(params), Step(*zeros))
    return NaturalState(jnp.zeros((), int), zeros, zeros, Step(*zeros), blocks, blocks)


def _squared_lengths(at: Frame, step: Step) -> Step:
    """Of each block, in the information: twice KL, for a short step."""
    squares = jax.tree.map(lambda f, s: f * s**2, fisher.information(at), step)
    return fisher.block_sums(at, squares)


def _curvature(at: Frame, state: NaturalState, grads: Unconstrained, squared_lengths: Step) -> Step:
    """The largest second derivative of each block along its last steps, per squared length; of the
    first step, what makes it a tenth of a standard deviation long.
    """
    products = jax.tree.map(
        lambda update, new, old: update * (new - old), state.update, grads, state.gradient
    )

    def largest(
        product: jax.Array, length: jax.Array, before: jax.Array, natural_length: jax.Array
    ):
        # A root has no derivative at 0, where weights that wait are.
        moves = natural_length > 0
        root = jnp.sqrt(jnp.where(moves, natural_length, 1.0))
        first = jnp.where(moves, root, 0.0) / _FIRST_LENGTH
        seen = linalg.safe_divide(jnp.abs(product), length)
        most = jnp.where(state.count > 1, jnp.maximum(seen, _MEMORY * before), seen)
        return jnp.where((state.count == 0) | (most == 0), first, most)

    return jax.tree.map(
        largest,
        fisher.block_sums(at, Step(*products)),
        state.squared_lengths,
        state.curvature,
        squared_lengths,
    )


def _inverse(x):
    return linalg.safe_divide(jnp.ones_like(x), x)
