"""How the best of many starts is found.

Mixtures are concrete, without absent components, and in coordinates where p has covariance 1.
"""

import functools

import jax
import numpy as np

from gmmjax._mixture.gmm import GMM, index
from gmmjax._mixture.structure import is_full
from gmmjax._progress import watched
from gmmjax._reduction import changes, cloud, descent, em, parts
from gmmjax._reduction.partitions import numpy_rng
from gmmjax._reduction.parts import Parts
from gmmjax._validate import warn

NUM_BLOCKS = 8
NUM_POINTS = 2048  # in each block
NUM_BLOCKS_1D = 2
NUM_POINTS_1D = 1024  # even ones: each block is nearly exact
# All starts, the better half of them once more, and all changes go through a few iterations on few
# blocks. That buys time: on six targets three times as many iterations took twice as long, all
# blocks three times, for changes of KL below 10⁻⁵. A third of the iterations missed an optimum.
SCREEN_ITERATIONS = 15
SCREEN_BLOCKS = 2
# On the line one block, and scoring until it brings little.
FIRST_ITERATIONS_1D = 5
SCREEN_STEPS_1D = 40
# In units of what the iteration adds; narrower components could fit between points.
LEAST_VARIANCE_1D = 100.0
# How many mixtures are changed side by side; a round takes time in proportion.
NUM_CANDIDATES = 4
# The search ends after so many rounds in a row that bring less than this part of the loss. Three
# saved a third of the time and 14 took a third more, and found the same: it is for rare optima.
MAX_IDLE_ROUNDS = 7
MAX_IDLE_ROUNDS_1D = 14  # where optima are rare: seven missed one of four
MIN_GAIN = 1e-3
MIN_APART = 1e-3  # of the loss: less is the same mixture
# With all blocks, to rank the candidates. It is free: the descent does the rest.
FINAL_ITERATIONS = 10
NUM_FIRST = 5  # partitions that are among these


def search(
    key, p: GMM, starts: list[GMM], num_rounds: int, progress: bool
) -> tuple[list[GMM], list[cloud.Block]]:
    """Run EM from all starts, perturb the best few for some rounds, and return them best first.

    The points used are returned, too.
    """
    # A component far narrower than any of p has collapsed onto a few points.
    floor = 1e-3 * _smallest_variance(p)
    if p.dim == 1:
        blocks = cloud.draw(key, p, NUM_BLOCKS_1D, NUM_POINTS_1D)
        screen = functools.partial(_screen_on_line, blocks[:1], floor)
    else:
        blocks = cloud.draw(key, p, NUM_BLOCKS, NUM_POINTS)
        screen = functools.partial(_screen, blocks[:SCREEN_BLOCKS], floor)
    several = starts * -(-NUM_CANDIDATES // len(starts))  # changes of one and the same differ
    runs = screen(several)
    runs = screen(_best(runs, max(NUM_CANDIDATES, len(several) // 2)))
    candidates = index(runs, _order(runs)[:NUM_CANDIDATES])
    if starts[0].num_components > 1:
        rng = numpy_rng(key)
        perturb = functools.partial(_changed, rng, parts.to_numpy(p), blocks[0], screen)
        max_idle = MAX_IDLE_ROUNDS_1D if p.dim == 1 else MAX_IDLE_ROUNDS
        with watched(range(num_rounds), progress, desc="reduce", unit="round") as rounds:
            candidates = _until_idle(perturb, candidates, rounds, max_idle, progress)
    # The first starts are partitions, which no points have misled: in many dimensions they may be
    # the best on all points, if not on few.
    last = _batch([*_unstacked(candidates)[: NUM_CANDIDATES - 1], *starts[:NUM_FIRST]])
    final = em.run_em(last, blocks, floor, FINAL_ITERATIONS)
    return _best(final, NUM_CANDIDATES), blocks


def _screen(blocks, floor, starts):
    """Runs from a list of starts, which are a batch."""
    return em.run_em(_batch(starts), blocks, floor, SCREEN_ITERATIONS)


def _screen_on_line(blocks, floor, starts):
    """Components overlap so much that KL is 10⁻⁵ and iterations crawl: a few, and then scoring."""
    begun = em.run_em(_batch(starts), blocks, floor, FIRST_ITERATIONS_1D)
    ends = [
        descent.settled(g, blocks, LEAST_VARIANCE_1D * floor, SCREEN_STEPS_1D)
        for g in _unstacked(begun)
    ]
    return em.Run(_batch([g for g, _ in ends]), np.array([loss for _, loss in ends]))


def _until_idle(change, candidates, rounds, max_idle, progress):
    """Change the candidates until it brings nothing for some rounds, or somebody has seen enough.

    Without a bar there is nobody who has: Ctrl-C then is meant for the program around this.
    """
    idle = 0
    try:
        for _ in rounds:
            before = np.min(_losses(candidates))
            candidates = change(candidates)
            gained = np.min(_losses(candidates)) < (1 - MIN_GAIN) * before
            idle = 0 if gained else idle + 1
            if idle == max_idle:
                break
    except KeyboardInterrupt:
        if not progress:
            raise
        warn("reduce_mixture: interrupted; this is the best so far")
    return candidates


def _changed(rng, p: Parts, block, screen, candidates):
    """Try two changes of each candidate and keep the best of the three: they stay distinct."""
    found = _unstacked(candidates)
    replaced = [changes.replace(rng, p, g) for g in found]
    relocated = [changes.relocate(rng, block, g) for g in found]
    runs = _concatenate(candidates, screen(replaced + relocated))
    losses = _losses(runs).reshape(3, len(found))
    losses[0, _are_twins(losses[0])] = np.inf
    best = np.argmin(losses, axis=0)
    return index(runs, len(found) * best + np.arange(len(found)))


def _are_twins(losses):
    """Which have the loss of one before: they ended in the same place, and add nothing."""
    apart = np.abs(losses[:, None] - losses)
    return np.tril(apart <= MIN_APART * np.abs(losses), -1).any(axis=1)


def _losses(runs):
    return np.where(np.isfinite(runs.loss), runs.loss, np.inf)


def _order(runs):
    return np.argsort(_losses(runs))


def _best(runs, count):
    return [index(runs.gmm, i) for i in _order(runs)[:count]]


def _batch(several):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *several)


def _unstacked(candidates):
    return [index(candidates.gmm, i) for i in range(len(candidates.loss))]


def _concatenate(*runs):
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *runs)


def _smallest_variance(p):
    """Of any component along any direction."""
    if is_full(p):
        return np.min(np.linalg.svd(np.tril(p.scale), compute_uv=False)) ** 2
    return np.min(p.scale**2)
