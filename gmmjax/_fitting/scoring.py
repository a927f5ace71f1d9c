"""Damped Fisher scoring in NumPy, for losses whose curvature is nearly a Fisher matrix."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gmmjax._fitting.lbfgs import Place

FIRST_DAMPING = 1e-2  # of the diagonal of the curvature
LEAST_DAMPING, MOST_DAMPING = 1e-9, 1e6
LESS, MORE = 0.2, 4.0  # damping after a step that lowers the loss, and after one that does not
LONGEST = 2.0  # of a step, in any coordinate


def descend(value: Callable, slopes: Callable, move: Callable, start: Any) -> Iterator[Place]:
    """Places on the way to a minimum, each lower than the one before, until no step lowers it.

    Args:
      value: of a place to its value and anything else; what is not finite is no step.
      slopes: of a place to the gradient and the curvature there, in coordinates of steps.
      move: of a place and a step to where it leads, in coordinates in which 1 is a long step.
      start: the first place.

    Reference:
      Nocedal and Wright (2006), "Numerical optimization", section 10.3 (Levenberg and Marquardt).
    """
    damping = FIRST_DAMPING
    here, (height, more) = start, value(start)
    gradient, curvature = slopes(here)
    yield Place(here, height, gradient, more)
    while damping < MOST_DAMPING:
        there = move(here, _damped(gradient, curvature, damping))
        level, rest = value(there)
        if level < height:
            here, height, more = there, level, rest
            gradient, curvature = slopes(here)
            yield Place(here, height, gradient, more)
            damping = max(LESS * damping, LEAST_DAMPING)
        else:
            damping *= MORE


def _damped(gradient, curvature, damping):
    # What the loss does not depend on has no curvature, and stays.
    more = damping * np.diagonal(curvature) + 1e-12
    step = -np.linalg.solve(curvature + np.diag(more), gradient)
    return step * min(1.0, LONGEST / np.abs(step).max(initial=1e-300))
