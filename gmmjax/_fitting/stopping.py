"""When a descent has arrived: progress judged over windows of steps, against its own noise."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gmmjax._mixture.unconstrained import Unconstrained
from gmmjax._sampling.estimate import Estimate


class Window(NamedTuple):
    """Sums over the steps since progress was last judged."""

    count: jax.Array
    loss: jax.Array
    variance: jax.Array  # stderr²
    gradient: Unconstrained
    squares: Unconstrained


def empty_window(params: Unconstrained) -> Window:
    """The window before its first step."""
    zero = jnp.zeros((), params.means.dtype)
    zeros = jax.tree.map(jnp.zeros_like, params)
    return Window(jnp.zeros((), int), zero, zero, zeros, zeros)


def extend(window: Window, loss: Estimate, gradient: Unconstrained) -> Window:
    """The window with one more step in it."""
    gradient = jax.lax.stop_gradient(gradient)
    squares = jax.tree.map(jnp.square, gradient)
    return Window(
        window.count + 1,
        window.loss + loss.value,
        window.variance + loss.stderr**2,
        jax.tree.map(jnp.add, window.gradient, gradient),
        jax.tree.map(jnp.add, window.squares, squares),
    )


def mean_loss(window: Window, common_random_numbers: bool) -> Estimate:
    """The loss over a window, with the error that counts between two windows."""
    count = window.count.astype(window.loss.dtype)
    if common_random_numbers:
        # Successive losses carry the same noise: progress below 1 % of the standard error counts
        # as none.
        error = 0.01 * jnp.sqrt(window.variance / count)
    else:
        error = jnp.sqrt(window.variance) / count
    return Estimate(window.loss / count, error)


def has_arrived(
    window: Window, previous: Estimate, current: Estimate, common_random_numbers: bool
) -> jax.Array:
    """Whether a full window shows no progress over the one before."""
    rounding = jnp.finfo(current.value.dtype).eps * jnp.abs(current.value)
    progress = previous.value - current.value
    flat = progress <= jnp.hypot(previous.stderr, current.stderr) + rounding
    # Either test alone is fooled by a plateau, so both must hold. With common random numbers the
    # gradient test says nothing.
    noise = common_random_numbers | _gradient_is_noise(window)
    return jnp.isfinite(previous.value) & flat & noise


def _gradient_is_noise(window: Window) -> jax.Array:
    """Whether the mean gradient is no larger than its standard error, in the mean over
    parameters.
    """
    count = window.count.astype(window.loss.dtype)
    ratios, num_moving = 0.0, 0.0
    for total, squares in zip(window.gradient, window.squares, strict=True):
        mean = total / count
        variance = (squares / count - mean**2) / jnp.maximum(count - 1, 1)
        moves = squares > 0
        ratio = mean**2 / jnp.where(variance > 0, variance, 1e-30)
        ratios += jnp.sum(jnp.where(moves, ratio, 0.0))
        num_moving += jnp.sum(moves).astype(count.dtype)
    return jnp.asarray(ratios <= num_moving)
