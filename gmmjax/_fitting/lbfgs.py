"""Limited-memory BFGS in NumPy, for losses whose gradient takes no program."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

MEMORY = 10  # pairs of steps and changes of the gradient
SUFFICIENT = 1e-4  # of the fall that the slope promises (Armijo)
MAX_HALVINGS = 30


class Place(NamedTuple):
    """A point on the way to a minimum."""

    x: Any  # numbers here, anything that moves elsewhere
    value: float
    gradient: np.ndarray
    more: Any  # what else the function tells


def descend(function: Callable, x: np.ndarray) -> Iterator[Place]:
    """Places on the way to a minimum, each lower than the one before, until no step lowers it.

    Args:
      function: of `x` to its value, its gradient and anything else.
      x: the start, in coordinates in which a step of length 1 is neither long nor short.

    Reference:
      Nocedal and Wright (2006), "Numerical optimization", algorithm 7.5.
    """
    pairs = deque(maxlen=MEMORY)
    here: Place | None = Place(x, *function(x))
    while here is not None:
        yield here
        there = _lower(function, here, -_times_inverse(pairs, here.gradient))
        if there is None and pairs:  # what was remembered misleads
            pairs.clear()
            there = _lower(function, here, -_times_inverse(pairs, here.gradient))
        if there is not None:
            _remember(pairs, there.x - here.x, there.gradient - here.gradient)
        here = there


def _lower(function, here, direction):
    """A place along a direction that is low enough, if there is one."""
    slope = direction @ here.gradient
    length = 1.0
    for _ in range(MAX_HALVINGS if slope < 0 else 0):
        x = here.x + length * direction
        there = Place(x, *function(x))
        fall = here.value - there.value
        if fall >= -SUFFICIENT * length * slope and np.isfinite(there.gradient).all():
            return there
        # The lowest point of the parabola through both values.
        curved = 2 * (-fall - length * slope)
        best = -slope * length / curved if np.isfinite(curved) and curved > 0 else 0.0
        length *= min(max(best, 0.1), 0.5)
    return None


def _remember(pairs, step, change):
    """Keep a pair of positive curvature."""
    curvature = step @ change
    if curvature > 1e-10 * np.linalg.norm(step) * np.linalg.norm(change):
        pairs.append((step, change, curvature))


def _times_inverse(pairs, gradient):
    """The inverse Hessian that the pairs tell of, times a gradient."""
    if not pairs:
        return gradient / max(1.0, float(np.linalg.norm(gradient)))
    rates = []
    for step, change, curvature in reversed(pairs):
        rate = (step @ gradient) / curvature
        gradient = gradient - rate * change
        rates.append(rate)
    _, change, curvature = pairs[-1]
    gradient = gradient * (curvature / (change @ change))
    for (step, change, curvature), rate in zip(pairs, reversed(rates), strict=True):
        gradient = gradient + step * (rate - (change @ gradient) / curvature)
    return gradient
