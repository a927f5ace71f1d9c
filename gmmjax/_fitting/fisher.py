"""The Fisher information of a mixture whose components are told apart, where it is diagonal.

A step is seen from each component: its mean moves by L a, and its factor L becomes L N e^s with a
unit lower-triangular N and a diagonal s. In (a, N, s) the information of the component is
diagonal, and KL(new‖old) has a closed form.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gmmjax._matrices import linalg, scales
from gmmjax._mixture.unconstrained import Unconstrained, constrain


class Frame(NamedTuple):
    """What steps are measured by."""

    weights: jax.Array  # (K,)
    scale: jax.Array  # factors, as in `GMM`
    dim: int


class Step(NamedTuple):
    """A change of a mixture as its components see it, or a gradient with respect to one."""

    logits: jax.Array  # (K,)
    means: jax.Array  # (K, D), in standard deviations
    scale: jax.Array  # below the diagonal N, on it s


def frame(params: Unconstrained) -> Frame:
    """The frame at parameters."""
    g = constrain(params)
    return Frame(jax.nn.softmax(g.logits), g.scale, g.dim)


def pull_back(at: Frame, gradient: Unconstrained) -> Step:
    """The gradient with respect to a step, from that with respect to parameters."""
    means = scales.apply(_transposed(at), gradient.means)
    if not _is_full(at):
        return Step(gradient.logits, means, gradient.scale)
    on_diagonal = linalg.diagonal(gradient.scale) / linalg.diagonal(at.scale)
    by_factor = jnp.tril(gradient.scale, -1) + linalg.diagonal_matrices(on_diagonal)
    return Step(gradient.logits, means, jnp.tril(linalg.matmul(at.scale.mT, by_factor)))


def push_forward(at: Frame, step: Step) -> Unconstrained:
    """The change of parameters that a step is; exact however long the step."""
    means = scales.apply(at.scale, step.means)
    if not _is_full(at):
        return Unconstrained(step.logits, means, step.scale)
    logs = linalg.diagonal(step.scale)
    change = jnp.tril(step.scale, -1) + linalg.diagonal_matrices(jnp.expm1(logs))
    below = jnp.tril(linalg.matmul(at.scale, change), -1)
    return Unconstrained(step.logits, means, below + linalg.diagonal_matrices(logs))


def information(at: Frame) -> Step:
    """The diagonal of the information of all, in shapes that broadcast against a step's."""
    of_scales = jnp.ones((1,), at.weights.dtype) if _is_tied(at) else at.weights
    return Step(
        at.weights,
        at.weights[:, None],
        _per_factor(at, of_scales) * _information_of_scale(at),
    )


def solve(at: Frame, gradient: Step) -> Step:
    """The natural gradient: the gradient over the information."""
    # Of softmax it is diag(w) − w wᵀ, but constants change no weight: dividing by w solves it too.
    return jax.tree.map(linalg.safe_divide, gradient, information(at))


def block_sums(at: Frame, parts: Step) -> Step:
    """Sums over each component, and over the weights, `(K,)` and `(1,)`.

    Mean and scale of a component make one block; a tied scale makes its own.
    """
    means = jnp.sum(parts.means, axis=1)
    scales = jnp.sum(parts.scale.reshape(len(parts.scale), -1), axis=1)
    if not _is_tied(at):
        means = scales = means + scales
    return Step(jnp.sum(parts.logits, keepdims=True), means, scales)


def scaled(at: Frame, factors: Step, step: Step) -> Step:
    """The step times one factor for each block."""
    return Step(
        factors.logits * step.logits,
        factors.means[:, None] * step.means,
        _per_factor(at, factors.scale) * step.scale,
    )


def limit(at: Frame, step: Step, max_kl: float) -> Step:
    """The step, shortened for each component, and for the weights, until KL(new‖old) ≤ max_kl."""
    radius = _squared_radius(max_kl) / (2 if _is_tied(at) else 1)
    squares = Step(
        jnp.zeros_like(step.logits), step.means**2, _information_of_scale(at) * step.scale**2
    )
    lengths = block_sums(at, squares)
    shrunk = jax.tree.map(lambda length: jnp.sqrt(radius / jnp.maximum(length, radius)), lengths)
    # Weights tilted by exp(step) lie within range² / 8 nats (Hoeffding's lemma).
    most = math.sqrt(2 * max_kl)
    return scaled(at, shrunk, step._replace(logits=jnp.clip(step.logits, -most, most)))


def _squared_radius(max_kl: float) -> float:
    """The squared length within which no step of one component exceeds `max_kl`.

    At a given length, widening in one direction alone costs most: (e^{2s} − 1 − 2s)/2 nats at
    length s√2.
    """
    low, high = 0.0, 1.0 + math.sqrt(max_kl)
    for _ in range(60):
        middle = (low + high) / 2
        if (math.expm1(2 * middle) - 2 * middle) / 2 <= max_kl:
            low = middle
        else:
            high = middle
    return 2 * low * low


def _information_of_scale(at: Frame) -> jax.Array:
    """Of one component, in a shape that broadcasts against its scale."""
    if _is_full(at):
        return 1.0 + jnp.eye(at.dim, dtype=at.scale.dtype)[None]
    # A standard deviation that D coordinates share shows D times.
    shared_by = at.dim if at.scale.ndim == 1 else 1
    return jnp.full((1,) * at.scale.ndim, 2.0 * shared_by, at.scale.dtype)


def _per_factor(at, numbers):
    return numbers.reshape(-1, *[1] * (at.scale.ndim - 1))


def _is_full(at):
    return at.scale.ndim == 3


def _is_tied(at):
    return len(at.scale) < len(at.weights)


def _transposed(at):
    return at.scale.mT if _is_full(at) else at.scale
