# ruff: noqa: T201
"""Reduction of 2,000 to 100,000 components in 3-D: seconds, memory, KL against dense merging.

Run with `python tests/benchmarks/reduction_scale.py`. Measured are the steps in NumPy; the estimate
of KL that `reduce_mixture` states comes on top.
"""

import resource
import sys
import time

import numpy as np

from gmmjax._reduction import cloud, clusters, em, greedy, lloyd, neighbours, search
from gmmjax._reduction.parts import Parts

SIZES = [(2_000, 100), (2_000, 500), (10_000, 100), (100_000, 1_000)]
NUM_POINTS = 16_384  # of KL
STEPS = em.Stop(30, 1e-6)


def scene(rng, count):
    """Small components along thirty sheets."""
    sheet = rng.integers(30, size=count)
    axes = rng.normal(size=(30, 3, 3)) * np.array([1.0, 0.6, 0.1])
    along = np.einsum("kij,kj->ki", axes[sheet], rng.normal(size=(count, 3)))
    centres = 3 * rng.normal(size=(30, 3))
    a = 0.15 * rng.normal(size=(count, 3, 3))
    weights = rng.dirichlet(np.full(count, 2.0))
    return Parts(weights, centres[sheet] + along, a @ a.mT + 0.002 * np.eye(3))


def main(sizes):
    """Print a row for each size."""
    print("components      dense  neighbours     sweeps         EM   seconds   peak MB")
    for count, kept in sizes:
        print(row(np.random.default_rng(0), count, kept), flush=True)


def row(rng, count, kept):
    """KL of each step, and what all but the dense one took."""
    p = scene(rng, count)
    points = cloud.draw(rng, p, NUM_POINTS)
    log_p = em.log_prob(p, points, 3)

    def kl(q):
        return points.weight @ (log_p - em.log_prob(q, points, 3))

    dense = np.nan
    if count <= 2_000:
        dense = kl(clusters.merge(p, greedy.labels(p, kept), kept))
    begun = time.perf_counter()
    first = neighbours.labels(p, max(kept, 512))
    fewer = clusters.merge(p, first, first.max() + 1)
    labels = greedy.labels(fewer, kept)[first]
    near = clusters.merge(p, labels, kept)
    swept = clusters.merge(p, lloyd.improve(p, labels, kept), kept)
    task = search.task(p, 3)
    run = em.run(em.batch([swept]), cloud.whole(p), 3, task.floor, STEPS)
    seconds = time.perf_counter() - begun
    ended = Parts(*(leaf[0] for leaf in run.parts))
    kls = "".join(f"{value:11.5f}" for value in (dense, kl(near), kl(swept), kl(ended)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return f"{count:6d} → {kept:4d}{kls} {seconds:9.1f} {peak:9d}"


if __name__ == "__main__":
    main(SIZES[: int(sys.argv[1])] if len(sys.argv) > 1 else SIZES)
