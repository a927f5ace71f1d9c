# ruff: noqa: T201
"""Reduction of 2,000 to 100,000 components in 3-D: KL of each step, seconds, memory.

Run with `python tests/benchmarks/reduction_scale.py`, or with a number of rows. Each row is a
process; `dense` is `greedy_start`, which compares all pairs, where that can be run.
"""

import resource
import subprocess
import sys
import time

import jax
import numpy as np

import gmmjax
from gmmjax._reduction.parts import Parts

SIZES = [(2_000, 100), (2_000, 500), (10_000, 100), (100_000, 1_000)]
MAX_DENSE = 2_000
NUM_SAMPLES = 1 << 16
MAX_ISE = 10_000  # of p with itself: all pairs


def scene(rng, count):
    """Small components along thirty sheets."""
    sheet = rng.integers(30, size=count)
    axes = rng.normal(size=(30, 3, 3)) * np.array([1.0, 0.6, 0.1])
    along = np.einsum("kij,kj->ki", axes[sheet], rng.normal(size=(count, 3)))
    centres = 3 * rng.normal(size=(30, 3))
    a = 0.15 * rng.normal(size=(count, 3, 3))
    weights = rng.dirichlet(np.full(count, 2.0))
    return Parts(weights, centres[sheet] + along, a @ a.mT + 0.002 * np.eye(3))


def row(count, kept):
    """Print a row: what a first call takes in a process of its own, with its compilation."""
    c = scene(np.random.default_rng(0), count)
    p = gmmjax.from_covariances(*c)
    key = jax.random.key(0)
    begun, worked = time.perf_counter(), time.process_time()
    result = jax.block_until_ready(gmmjax.reduce_mixture(key, p, kept))
    seconds = f"{time.perf_counter() - begun:8.1f} {time.process_time() - worked:10.1f}"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    found = [gmmjax.greedy_start(key, p, kept)] if count <= MAX_DENSE else []
    found.append(result.gmm)
    # One set of points for both, enough to tell them apart.
    kls = [gmmjax.kl_divergence(key, p, q, num_samples=NUM_SAMPLES) for q in found]
    dense = float(kls[0].value) if len(kls) == 2 else np.nan
    ours, error = float(kls[-1].value), float(kls[-1].stderr)
    kls = f"{dense:9.4f}{ours:9.4f} ± {error:.4f}"
    ise = float(gmmjax.ise(p, result.gmm)) if count <= MAX_ISE else np.nan
    print(f"{count:7d} → {kept:5d}{kls} {ise:10.2e} {seconds} {peak:8d}")


def main(sizes):
    """Print a row for each size."""
    print("components         dense     ours               ISE  seconds  processor  peak MB")
    for size in sizes:
        subprocess.run([sys.executable, __file__, *map(str, size)], check=True)


if __name__ == "__main__":
    numbers = [int(number) for number in sys.argv[1:]]
    if len(numbers) == 2:
        row(*numbers)
    else:
        main(SIZES[: numbers[0]] if numbers else SIZES)
