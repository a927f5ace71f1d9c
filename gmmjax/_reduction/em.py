"""The nearest mixture of fewer components, as the fixed point of forward KL on points of p.

Each component takes the moments of what it is responsible for, again and again. All is NumPy:
an iteration takes about a millisecond, and a compiled program would take seconds to come.
"""

from typing import NamedTuple

import numpy as np

from gmmjax._reduction import natural
from gmmjax._reduction.anderson import Anderson
from gmmjax._reduction.cloud import Cloud
from gmmjax._reduction.parts import Parts

# A component that is responsible for less of p is dead: its moments would be those of a few points.
MIN_WEIGHT = 1e-8
TABLE = 1 << 18  # entries of the table of components that are held at once: they fit the cache
MAX_IDLE_STEPS = 3


class Stop(NamedTuple):
    """Iterations end after so many steps, or where none of the batch gains that part of its loss
    in three.
    """

    num_steps: int
    gain: float


class Run(NamedTuple):
    """A batch of mixtures on their way to the fixed point, and KL on the cloud."""

    parts: Parts  # (C, K, …)
    loss: np.ndarray  # (C,)
    losses: np.ndarray  # (num_steps, C), the least so far
    ended: bool  # whether no more was gained


def run(starts: Parts, c: Cloud, ndim: int, floor: float, stop: Stop) -> Run:
    """Iterate a batch of mixtures.

    `ndim` is that of the scale: 3 full, 2 diagonal, 1 spherical; `floor` is added to all variances.
    """
    shape = starts.means.shape
    starts = starts._replace(covariances=natural.structured(starts.covariances, ndim))
    walk = Anderson(natural.free(starts))
    losses = []
    idle = 0
    with np.errstate(all="ignore"):  # where a step leads nowhere its loss is not finite
        for _ in range(stop.num_steps):
            now = natural.parts(walk.theta, shape)
            sums, loss = expect(now, c, ndim)
            image = natural.free(maximise(now, sums, ndim, floor))
            gain = walk.update(image, loss)
            idle = 0 if np.any(gain > stop.gain * np.abs(walk.loss)) else idle + 1
            losses.append(walk.loss)
            if idle == MAX_IDLE_STEPS:
                break
    found = natural.parts(walk.found, shape)
    return Run(found, walk.loss, np.array(losses), idle == MAX_IDLE_STEPS)


def batch(several: list[Parts]) -> Parts:
    """Mixtures side by side."""
    return Parts(*(np.stack(leaves) for leaves in zip(*several, strict=True)))


def expect(g: Parts, c: Cloud, ndim: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums of features that each component is responsible for, `(C, K, F)`, and KL on the cloud."""
    rows = natural.coefficients(g, ndim)
    batch, count, num_features = rows.shape
    flat = rows.reshape(-1, num_features)
    sums = np.zeros_like(flat)
    loss = np.full(batch, c.weight @ c.log_prob)
    for some in blocks(len(c.weight), len(flat)):
        f, weight = c.features(some, ndim), c.weight[some]
        table = (flat @ f).reshape(batch, count, -1)
        peak = table.max(axis=1)
        table -= peak[:, None]
        np.exp(table, out=table)
        mass = table.sum(axis=1)
        loss -= (peak + np.log(mass)) @ weight
        table *= (weight / mass)[:, None]
        sums += table.reshape(len(flat), -1) @ f.T
    return sums.reshape(rows.shape), loss


def excess(g: Parts, c: Cloud, ndim: int) -> np.ndarray:
    """What each point adds to KL(p ‖ g) of one mixture: positive where p is missed."""
    return c.weight * (c.log_prob - log_prob(g, c, ndim))


def log_prob(g: Parts, c: Cloud, ndim: int) -> np.ndarray:
    """Log-density of one mixture at each point."""
    rows = natural.coefficients(g, ndim)
    found = []
    for some in blocks(len(c.weight), len(rows)):
        table = rows @ c.features(some, ndim)
        peak = table.max(axis=0)
        found.append(peak + np.log(np.exp(table - peak).sum(axis=0)))
    return np.concatenate(found)


def blocks(num_points, num_rows):
    """Slices of points, so that a table of all rows stays small."""
    size = max(TABLE // num_rows, 64)
    return [slice(first, first + size) for first in range(0, num_points, size)]


def maximise(g: Parts, sums, ndim: int, floor: float) -> Parts:
    """The mixtures of weighted moments; what is dead stays where it was, without weight."""
    mass, dim = sums[:, :, 0], g.means.shape[2]
    alive = ~(mass <= MIN_WEIGHT)  # NaN is not dead
    safe = np.where(alive, mass, 1.0)[:, :, None]
    means, covariances = natural.moments(sums[:, :, 1:] / safe, dim, ndim)
    return Parts(
        np.where(alive, mass, 0.0),
        np.where(alive[:, :, None], means, g.means),
        np.where(alive[:, :, None, None], covariances + floor * np.eye(dim), g.covariances),
    )
