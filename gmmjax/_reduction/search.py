"""How the best of many starts is found.

Mixtures are parts, without absent components, in coordinates where p has covariance 1.
"""

import warnings
from collections.abc import Iterable
from typing import NamedTuple

import jax
import numpy as np

from gmmjax._mixture.gmm import index
from gmmjax._reduction import changes, cloud, em
from gmmjax._reduction.cloud import Cloud
from gmmjax._reduction.parts import Parts

# All starts, the better half of them once more, and all changes go through a few iterations on few
# points.
SCREEN_POINTS = 2048
SCREEN = em.Stop(20, 1e-4)
FIRST = em.Stop(6, 1e-4)
KEEP = 2
LONG = em.Stop(60, 1e-3)
# On as many as that the best are brought to the end.
NUM_POINTS = 16_384
FINAL = em.Stop(10, 1e-6)
NUM_CANDIDATES = 4  # mixtures that are changed side by side
NUM_CHANGES = 2  # of either kind to each of them in a round
# The search ends after so many rounds in a row that bring less than this part of the loss.
MAX_IDLE_ROUNDS = 7
MIN_GAIN = 1e-3


class Task(NamedTuple):
    """What is searched: a mixture near p, in the structure of a scale of so many axes."""

    p: Parts
    ndim: int
    floor: float  # added to variances: what is far narrower than any of p has collapsed onto points
    large: bool  # so many components that they stand for themselves, instead of points


def task(p: Parts, ndim: int) -> Task:
    """A task of concrete parts."""
    narrowest = np.linalg.eigvalsh(p.covariances).min()
    return Task(p, ndim, 1e-3 * narrowest, len(p.weights) > NUM_POINTS // 8)


def search(rng, t: Task, starts: list[Parts], rounds: Iterable[int]) -> tuple[list[Parts], Cloud]:
    """The best mixtures, best first, after EM from all starts and changes to the best few.

    They come with the points of p on which they were found last.
    """
    if t.large:
        points = cloud.whole(t.p)
        return starts, points
    few = _points(rng, t, SCREEN_POINTS)
    runs = _run(t, few, em.batch(starts), SCREEN)
    runs = _run(t, few, _best(runs, max(NUM_CANDIDATES, len(starts) // 2)).parts, SCREEN)
    candidates = _best(runs, NUM_CANDIDATES)
    if starts[0].means.shape[0] > 1:
        candidates = _perturb(rng, t, few, candidates, rounds)
    candidates = _run(t, few, candidates.parts, LONG)
    points = _points(rng, t, NUM_POINTS)
    # The first start is a partition, which no points have misled.
    last = _concatenate(candidates.parts, em.batch(starts[:1]))
    final = _best(_run(t, points, last, FINAL), NUM_CANDIDATES)
    return [index(final.parts, i) for i in range(len(final.loss))], points


def _points(rng, t, number):
    drawn = cloud.draw(rng, t.p, number)
    return drawn._replace(log_prob=em.log_prob(t.p, drawn, 3))


def _run(t, points, batch, stop):
    return em.run(batch, points, t.ndim, t.floor, stop)


def _perturb(rng, t, points, candidates, rounds):
    """Change the candidates until it brings nothing for some rounds."""
    idle = 0
    try:
        for _ in rounds:
            before = candidates.loss.min()
            candidates = _changed(rng, t, points, candidates)
            gained = candidates.loss.min() < (1 - MIN_GAIN) * before
            idle = 0 if gained else idle + 1
            if idle == MAX_IDLE_ROUNDS:
                break
    except KeyboardInterrupt:
        if isinstance(rounds, range):  # no bar, and nobody who has seen enough
            raise
        warnings.warn("reduce_mixture: interrupted; this is the best so far", stacklevel=2)
    return candidates


def _changed(rng, t, points, candidates):
    """Try some changes of each candidate and keep the best of all: they stay distinct."""
    count = len(candidates.loss)
    found = [index(candidates.parts, i) for i in range(count)]
    excess = [em.excess(q, points, t.ndim) for q in found]
    tried = []
    for _ in range(NUM_CHANGES):
        tried += [changes.replace(rng, t.p, q) for q in found]
        tried += [changes.relocate(rng, points, e, q) for e, q in zip(excess, found, strict=True)]
    owner = np.arange(len(tried)) % count
    runs = _run(t, points, em.batch(tried), FIRST)
    order = np.argsort(runs.loss)[: len(tried) // KEEP]
    runs = _run(t, points, index(runs.parts, order), SCREEN)
    owner = np.concatenate([np.arange(count), owner[order]])
    parts = _concatenate(candidates.parts, runs.parts)
    losses = np.concatenate([candidates.loss, runs.loss])
    chosen = [np.argmin(np.where(owner == i, losses, np.inf)) for i in range(count)]
    return candidates._replace(parts=index(parts, np.array(chosen)), loss=losses[chosen])


def _best(run, count):
    """The best of a batch, best first."""
    order = np.argsort(run.loss)[:count]
    return run._replace(parts=index(run.parts, order), loss=run.loss[order])


def _concatenate(*batches):
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *batches)
