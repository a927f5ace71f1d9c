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
# points; of the changes the better half goes on after the first of them.
SCREEN_POINTS = 2048
KEPT_SHARE = 0.5
# On as many as that the best are brought to the end.
NUM_POINTS = 16_384
SETTLE = em.Stop(60, 1e-3)
FINAL = em.Stop(10, 1e-6)
NUM_CANDIDATES = 4  # mixtures that are changed side by side
NUM_CHANGES = 2  # of either kind to each of them in a round
# The search ends after so many rounds in a row that bring less than this part of the loss.
MAX_IDLE_ROUNDS = 7
MIN_GAIN = 1e-3
# Where iterations from the best partition bring less than this part of its loss, components lie
# apart: changes through single points lead nowhere, and the search ends sooner.
APART = 0.05
MAX_IDLE_ROUNDS_APART = 2
# Of more components each stands for itself, instead of points.
MAX_SAMPLED = 2048


class Task(NamedTuple):
    """What is searched: a mixture near p, in the structure of a scale of so many axes."""

    p: Parts
    ndim: int
    floor: float  # added to variances: what is far narrower than any of p has collapsed onto points
    large: bool  # so many components that they stand for themselves, instead of points

    @property
    def screen(self) -> tuple[em.Stop, em.Stop]:
        """How far changes are iterated before half of them are left, and how far the others.

        On the line and in the plane components overlap more, and iterations are slow and cheap.
        """
        first, last = (20, 60) if self.p.means.shape[1] <= 2 else (6, 20)
        return em.Stop(first, 1e-4), em.Stop(last, 1e-4)


def task(p: Parts, ndim: int) -> Task:
    """A task of concrete parts."""
    narrowest = np.linalg.eigvalsh(p.covariances).min()
    return Task(p, ndim, 1e-3 * narrowest, len(p.weights) > MAX_SAMPLED)


def search(rng, t: Task, starts: list[Parts], rounds: Iterable[int]) -> tuple[list[Parts], Cloud]:
    """The best mixtures, best first, after EM from all starts and changes to the best few.

    They come with the points of p on which they were found last.
    """
    if t.large:
        points = cloud.whole(t.p)
        return starts, points
    few = _points(rng, t, SCREEN_POINTS)
    runs = _run(t, few, em.batch(starts), t.screen[1])
    runs = _run(t, few, _best(runs, max(NUM_CANDIDATES, len(starts) // 2)).parts, t.screen[1])
    candidates = _best(runs, NUM_CANDIDATES)
    if starts[0].means.shape[0] > 1:
        partition = em.expect(em.batch(starts[:1]), few, t.ndim)[1][0]
        apart = candidates.loss[0] > (1 - APART) * partition
        idle = MAX_IDLE_ROUNDS_APART if apart else MAX_IDLE_ROUNDS
        candidates = _perturb(rng, t, few, candidates, rounds, idle)
    candidates = _run(t, few, candidates.parts, SETTLE)
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


def _perturb(rng, t, points, candidates, rounds, max_idle):
    """Change the candidates until it brings nothing for some rounds."""
    idle = 0
    try:
        for _ in rounds:
            before = candidates.loss.min()
            candidates = _changed(rng, t, points, candidates)
            gained = candidates.loss.min() < (1 - MIN_GAIN) * before
            idle = 0 if gained else idle + 1
            if idle == max_idle:
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
    first, last = t.screen
    runs = _run(t, points, em.batch(tried), first)
    order = np.argsort(runs.loss)[: int(KEPT_SHARE * len(tried))]
    runs = _run(t, points, index(runs.parts, order), last)
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
