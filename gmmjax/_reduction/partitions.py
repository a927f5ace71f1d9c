"""Where a reduction begins: greedy merging, better partitions of p, and scattered components."""

import jax
import numpy as np

from gmmjax._mixture.gmm import GMM
from gmmjax._mixture.join import drop_absent
from gmmjax._reduction import changes, clusters, costs, greedy, lloyd, merge, parts

# Beyond, components are merged with near neighbours first: tables of all pairs grow too large.
MAX_DENSE = 1024
# Of these, components times those that are kept, beyond which points say less of p than its
# components do: a search from 2,000 to 100 found nothing better than shared clusters, and from
# 10,000 to 100 it ended above them, fitted to its points.
MAX_SEARCHED = 1 << 17
# Components times clusters, beyond which partitions are improved in sweeps, not one by one, and
# beyond which the best are not perturbed.
MAX_IMPROVED = 65_536
MAX_WANDERED = 4096
# How many of the best are, and for how many steps. In many dimensions their bounds are so close
# that the least is not the best: with two walks KL was 1 % higher on half of the targets in 10-D.
NUM_WALKS = 5
STEPS_PER_RESTART = 3


def is_large(p: GMM) -> bool:
    """Whether there are too many components for tables of all pairs."""
    return p.num_components > MAX_DENSE


def is_searched(p: GMM, count: int) -> bool:
    """Whether points are of use."""
    return not is_large(p) or p.num_components * count <= MAX_SEARCHED


def starts(key, p: GMM, count: int, cost, init, num_restarts: int) -> tuple[GMM, list[GMM]]:
    """The greedy reduction, and what to search from: partitions of `p`, or what the user wants.

    Given a mixture of JAX arrays; those that are found are of NumPy's.
    """
    count = min(count, p.num_components)
    c = parts.to_numpy(p)
    labels = _greedy_labels(p, c, count, cost)
    merged = parts.to_structure(p, clusters.merge(c, labels, count))
    if init is None:
        rng = numpy_rng(key)
        if len(labels) * count <= MAX_IMPROVED:
            found = _several(rng, c, labels, count, num_restarts)
        else:
            found = _swept(c, labels, count)
            if is_searched(p, count):
                found += [changes.scatter(rng, c, count) for _ in range(len(found), num_restarts)]
    elif isinstance(init, GMM):
        found = [parts.to_numpy(init)]
    else:
        found = [parts.to_numpy(init(k, p, count)) for k in jax.random.split(key, num_restarts)]
    return merged, [parts.to_structure(p, start) for start in found]


def merged(p: GMM, count: int) -> GMM:
    """What greedy merging by Runnalls' cost leaves, of NumPy arrays in the structure of `p`."""
    frame = parts.frame(p)
    white = drop_absent(parts.into(frame, p))
    c, count = parts.to_numpy(white), min(count, white.num_components)
    labels = _greedy_labels(white, c, count, costs.runnalls)
    return parts.out_of(frame, parts.to_structure(white, clusters.merge(c, labels, count)))


def numpy_rng(key) -> np.random.Generator:
    """NumPy's generator from a JAX key."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))


def _greedy_labels(p, c, count, cost):
    if is_large(p):
        first = greedy.labels_among_neighbours(c, max(count, MAX_DENSE // 2))
        fewer = clusters.merge(c, first, first.max() + 1)
        return _dense_labels(parts.to_structure(p, fewer), fewer, count, cost)[first]
    return _dense_labels(p, c, count, cost)


def _dense_labels(p, c, count, cost):
    if cost is costs.runnalls:
        return greedy.labels(c, count)
    return np.asarray(_compiled_labels(p, p.num_components - count, cost))


@jax.jit(static_argnums=(1, 2))
def _compiled_labels(p, num_merges, cost):
    return merge.greedy(p, num_merges, cost)


def _several(rng, c, labels, count, num_restarts):
    """The best partition that was found first, then scattered components and other partitions.

    Partitions of the components serve where these are far apart. Where they overlap, the best
    mixture may cut right through them, and only starts from single points lead there.
    """
    scattered = []
    sets = clusters.Sets(c)
    partitions = [clusters.improve(sets, labels, count)]
    for i in range(1, num_restarts):
        if i % 3 == 0:
            seeds = changes.seed(rng, c.weights, c.means, count)
            partitions.append(clusters.improve(sets, seeds, count))
        else:
            scattered.append(changes.scatter(rng, c, count))
    partitions.sort(key=lambda these: _value(sets, these, count))
    if len(labels) * count <= MAX_WANDERED:
        partitions = _wandered(rng, sets, partitions, count, STEPS_PER_RESTART * num_restarts)
    return [*(clusters.merge(c, these, count) for these in partitions), *scattered]


def _wandered(rng, sets, partitions, count, num_steps):
    """Where walks from the better ones end, in place of these, the best first.

    What walks share is kept once: the others stay distinct.
    """
    walked = partitions[:NUM_WALKS]
    ends = [_wander(rng, sets, these, count, num_steps) for these in walked]
    by_value = {round(_value(sets, these, count), 9): these for these in [*walked, *ends]}
    best = [by_value[value] for value in sorted(by_value)]
    return [*best[: len(walked)], *partitions[len(walked) :]]


def _swept(c, labels, count):
    """Sharp clusters, and shared ones."""
    sharp = clusters.merge(c, lloyd.improve(c, labels, count), count)
    return [sharp, lloyd.share(c, sharp)]


def _wander(rng, sets, labels, count, num_steps):
    """Perturb a partition and improve it, again and again, and go on from the best."""
    best = _value(sets, labels, count)
    for _ in range(num_steps if 1 < count < len(labels) else 0):
        trial = clusters.improve(sets, _perturbed(rng, sets, labels, count), count)
        value = _value(sets, trial, count)
        if value < best - clusters.MIN_CHANGE:
            best, labels = value, trial
    return labels


def _value(sets, labels, count):
    return clusters.state_of(sets, labels, count).bounds.sum()


def _perturbed(rng, sets, labels, count):
    """Merge two clusters that cost little, and begin a new one with a component that costs much.

    It leads out of a local minimum of the bound in few moves.
    """
    state = clusters.state_of(sets, labels, count)
    kept, gone = clusters.cheap_pair(rng, state.sums)
    state.labels[state.labels == gone] = kept
    state.settle([kept])
    gain = state.bounds[state.labels] - state.without() - clusters.bound(sets.moments)
    chance = np.where(state.alone(), 0.0, np.maximum(gain, 1e-12))
    state.labels[rng.choice(len(labels), p=chance / chance.sum())] = gone
    return state.labels
