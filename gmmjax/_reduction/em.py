"""The nearest mixture of fewer components, as the fixed point of forward KL on points of p."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from gmmjax._mixture.gmm import GMM, index
from gmmjax._mixture.structure import is_full, is_spherical
from gmmjax._reduction.cloud import Block, central, expect

# A component that is responsible for less of p is dead: its moments would be those of a few points.
MIN_WEIGHT = 1e-8
# Iterations end where one brings less than this part of the loss: what is left is for the descent.
MIN_GAIN = 1e-4
LARGEST_EXPONENT = 300.0  # of a deviation: beyond, an extrapolation makes no sense


class Run(NamedTuple):
    """Mixtures on their way to the fixed point, and KL on the points."""

    gmm: GMM
    loss: np.ndarray


def run_em(starts: GMM, blocks: Sequence[Block], floor: np.floating | float, num_steps: int) -> Run:
    """Iterate a batch of mixtures, each until its loss falls no more.

    `floor` is added to the variances of all components.
    """
    rounding = 8 * np.finfo(float).eps * np.abs(blocks[0].log_prob).max()
    found, losses = starts, np.full(len(starts.logits), np.inf)
    moving = np.arange(len(losses))
    for _ in range(num_steps):
        with np.errstate(all="ignore"):  # what is not finite is not kept
            gmm, loss = _squarem_step(index(found, moving), blocks, floor)
            fall = losses[moving] - loss
            stalled = fall < MIN_GAIN * np.maximum(loss, 0.0) + rounding
        found = GMM._make(_put(past, moving, new) for past, new in zip(found, gmm, strict=True))
        losses = _put(losses, moving, loss)
        moving = moving[~stalled]
        if not len(moving):
            break
    return Run(found, losses)


def _put(past, places, new):
    past = past.copy()
    past[places] = new
    return past


def _squarem_step(start, blocks, floor):
    """Two steps, an extrapolation through them, and a third that is kept where it loses no more.

    Squared extrapolation: Varadhan and Roland (2008), "Simple and globally convergent methods",
    scheme S3.
    """
    once, _ = _step(start, blocks, floor)
    twice, loss = _step(once, blocks, floor)
    far, far_loss = _step(_extrapolate(start, once, twice), blocks, floor)
    better = far_loss <= loss
    return _choose(better, far, twice), np.where(better, far_loss, loss)


def _extrapolate(start, once, twice):
    """Where the two steps lead on a parabola in logarithms of deviations, if that makes sense."""
    start, once, twice = (on_diagonals(np.log, g) for g in (start, once, twice))
    r = jax.tree.map(_difference, once, start)
    v = jax.tree.map(np.subtract, jax.tree.map(_difference, twice, once), r)
    growth = np.maximum(_norm(r) / np.maximum(_norm(v), 1e-12), 1.0)

    def move(start, r, v):
        rate = growth.reshape(-1, *[1] * (r.ndim - 1))
        return start + 2 * rate * r + rate**2 * v

    moved = jax.tree.map(move, start, r, v)
    small = np.abs(moved.scale) < LARGEST_EXPONENT
    makes_sense = small.reshape(len(small), -1).all(axis=1)
    return on_diagonals(np.exp, _choose(makes_sense, moved, twice))


def on_diagonals(function, g: GMM) -> GMM:
    """A mixture with a function of the diagonals of its factors, or of its deviations."""
    if not is_full(g):
        return g._replace(scale=function(g.scale))
    diagonal = function(np.diagonal(g.scale, axis1=-2, axis2=-1))
    return g._replace(scale=np.tril(g.scale, -1) + diagonal[..., None] * np.eye(g.dim))


def _difference(new, old):
    """Zero between two logits of −inf, which stay where they are."""
    difference = new - old
    return np.where(np.isfinite(difference), difference, 0.0)


def _norm(tree):
    return np.sqrt(sum(np.sum(leaf**2, axis=tuple(range(1, leaf.ndim))) for leaf in tree))


def _choose(which, yes, no):
    """Of two batches of mixtures the elements of the one or of the other."""

    def choose(a, b):
        return np.where(which.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return jax.tree.map(choose, yes, no)


def _step(g, blocks, floor):
    """Responsibilities, then the mixture of their moments; and the loss of `g`."""
    sums = expect(g, blocks)
    mass, mean, spread = central(g, sums.rows)
    alive = ~(mass <= MIN_WEIGHT)  # NaN is not dead
    logits = np.where(alive, np.log(mass), -np.inf)
    means = np.where(alive[..., None], mean, g.means)
    scale = _scale(spread, g, floor)
    kept = alive.reshape(*alive.shape, *[1] * (scale.ndim - alive.ndim))
    new = GMM._make((logits, means, np.where(kept, scale, g.scale)))
    return new, sums.losses.mean(axis=-1)


def _scale(spread, g, floor):
    """Factors of covariances, or deviations of variances, in the structure of `g`."""
    if is_full(g):
        return _factors(spread + floor * np.eye(g.dim), floor)
    if is_spherical(g):
        spread = spread.mean(axis=-1)
    return np.sqrt(np.maximum(spread + floor, floor))


def _factors(covariances, floor):
    """Lower factors of matrices that are positive definite but for rounding."""
    try:
        return np.linalg.cholesky(covariances)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(np.nan_to_num(covariances))
        least = np.maximum(floor, 1e-12 * values[..., -1:])
        rounded = (vectors * np.maximum(values, least)[..., None, :]) @ vectors.mT
        return np.linalg.cholesky(rounded)
