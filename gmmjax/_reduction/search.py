"""How the best of many starts is found.

Mixtures are concrete, without absent components, and in coordinates where p has covariance 1.
"""

import warnings
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._mixture.gmm import GMM, index
from gmmjax._reduction import changes, em, parts
from gmmjax._reduction.partitions import numpy_rng
from gmmjax._reduction.parts import Parts

NUM_BLOCKS = 8
NUM_POINTS = 2048  # in each block
# All starts, the better half of them once more, and all changes go through a few iterations on few
# blocks. That buys time: on six targets three times as many iterations took twice as long, all
# blocks three times, for changes of KL below 10⁻⁵. A third of the iterations missed an optimum.
SCREEN_ITERATIONS = 15
# On the line components overlap so much that KL is 10⁻⁵: after 15 its order is not settled.
SCREEN_ITERATIONS_1D = 45
SCREEN_BLOCKS = 2
# How many mixtures are changed side by side; a round takes time in proportion.
NUM_CANDIDATES = 4
# The search ends after so many rounds in a row that bring less than this part of the loss. Three
# saved a third of the time and 14 took a third more, and found the same: it is for rare optima.
MAX_IDLE_ROUNDS = 7
MAX_IDLE_ROUNDS_1D = 14  # where optima are rare, and rounds cheap
MIN_GAIN = 1e-3
# With all blocks, to rank the candidates. It is free: the descent does the rest.
FINAL_ITERATIONS = 10


def search(key, p: GMM, starts: list[GMM], rounds: Iterable[int]) -> tuple[list[GMM], em.Cloud]:
    """Run EM from all starts, perturb the best few for some rounds, and return them best first.

    The points used, a cloud of p, are returned, too.
    """
    # A component far narrower than any of p has collapsed onto a few points.
    floor = jnp.asarray(1e-3 * _smallest_variance(p), p.means.dtype)
    cloud = em.cloud(key, p, NUM_BLOCKS, NUM_POINTS)
    runs = _screen(starts, cloud, floor)
    runs = _screen(_best(runs, max(NUM_CANDIDATES, len(starts) // 2)), cloud, floor)
    candidates = index(runs, _order(runs)[:NUM_CANDIDATES])
    if starts[0].num_components > 1:
        rng = numpy_rng(key)
        candidates = _perturb(rng, parts.to_numpy(p), cloud, floor, candidates, rounds)
    # The first start is a partition, which no points have misled: in many dimensions it may be the
    # best on all points, if not on few.
    last = _batch([*_unstacked(candidates)[:-1], starts[0]])
    final = em.run_em(last, cloud, floor, FINAL_ITERATIONS, NUM_BLOCKS)
    return _best(_to_numpy(final), NUM_CANDIDATES), cloud


def _screen(starts, cloud, floor):
    """Runs from a list of starts: a batch with NumPy leaves, in which no operation compiles."""
    # A few at a time, repeated where there are fewer, so that all rounds share one compilation.
    num_steps = SCREEN_ITERATIONS_1D if starts[0].dim == 1 else SCREEN_ITERATIONS
    runs = []
    for first in range(0, len(starts), NUM_CANDIDATES):
        some = starts[first : first + NUM_CANDIDATES]
        batch = (some * NUM_CANDIDATES)[:NUM_CANDIDATES]
        runs.append(em.run_em(_batch(batch), cloud, floor, num_steps, SCREEN_BLOCKS))
    return _concatenate(*runs)


def _perturb(rng, p: Parts, cloud, floor, candidates, rounds):
    """Change the candidates until it brings nothing for some rounds."""
    idle = 0
    max_idle = MAX_IDLE_ROUNDS_1D if p.means.shape[1] == 1 else MAX_IDLE_ROUNDS
    try:
        for _ in rounds:
            before = np.min(_losses(candidates))
            candidates = _changed(rng, p, cloud, floor, candidates)
            gained = np.min(_losses(candidates)) < (1 - MIN_GAIN) * before
            idle = 0 if gained else idle + 1
            if idle == max_idle:
                break
    except KeyboardInterrupt:
        if isinstance(rounds, range):  # no bar, and nobody who has seen enough
            raise
        warnings.warn("reduce_mixture: interrupted; this is the best so far", stacklevel=2)
    return candidates


def _changed(rng, p: Parts, cloud, floor, candidates):
    """Try two changes of each candidate and keep the best of the three: they stay distinct."""
    found = _unstacked(candidates)
    replaced = [changes.replace(rng, p, g) for g in found]
    relocated = [changes.relocate(rng, cloud, g) for g in found]
    runs = _concatenate(candidates, _screen(replaced + relocated, cloud, floor))
    best = np.argmin(_losses(runs).reshape(3, NUM_CANDIDATES), axis=0)
    return index(runs, NUM_CANDIDATES * best + np.arange(NUM_CANDIDATES))


def _losses(runs):
    return np.where(np.isfinite(runs.loss), runs.loss, np.inf)


def _order(runs):
    return np.argsort(_losses(runs))


def _best(runs, count):
    return [index(runs.gmm, i) for i in _order(runs)[:count]]


def _batch(several):
    return jax.tree.map(_stack, *several)


def _unstacked(candidates):
    return [index(candidates.gmm, i) for i in range(NUM_CANDIDATES)]


def _concatenate(*runs):
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *runs)


def _stack(*leaves):
    return np.stack([np.asarray(leaf) for leaf in leaves])


def _to_numpy(tree):
    return jax.tree.map(np.asarray, tree)


def _smallest_variance(p):
    """Of any component along any direction."""
    scale = np.asarray(p.scale, np.float64)
    if scale.ndim == 3:
        return np.min(np.linalg.svd(np.tril(scale), compute_uv=False)) ** 2
    return np.min(scale**2)
