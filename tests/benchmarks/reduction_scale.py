# ruff: noqa: T201
"""Reduction of 2,000 to 100,000 components in 3-D: KL of each step, seconds, memory.

Run with `python tests/benchmarks/reduction_scale.py`, or with a number of rows. Each row is a
process; `dense` is greedy merging of all pairs, where that can be run.
"""

import resource
import subprocess
import sys
import time

import jax
import numpy as np

import gmmjax
from gmmjax._reduction import clusters, greedy, parts
from gmmjax._reduction.parts import Parts

SIZES = [(2_000, 100), (2_000, 500), (10_000, 100), (100_000, 1_000)]
MAX_DENSE = 2_000


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
    begun = time.perf_counter()
    result = jax.block_until_ready(gmmjax.reduce_mixture(key, p, kept))
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    dense = np.nan
    if count <= MAX_DENSE:
        merged = parts.to_structure(p, clusters.merge(c, greedy.labels(c, kept), kept))
        dense = gmmjax.kl_divergence(key, p, merged).value
    error = float(result.loss.stderr)
    kls = "".join(f"{float(kl):10.4f}" for kl in (dense, result.start.value, result.loss.value))
    ise = float(gmmjax.ise(p, result.gmm))
    print(f"{count:7d} → {kept:5d}{kls} ± {error:.4f} {ise:10.2e} {seconds:8.1f} {peak:8d}")


def main(sizes):
    """Print a row for each size."""
    print("components          dense    greedy      ours               ISE  seconds  peak MB")
    for size in sizes:
        subprocess.run([sys.executable, __file__, *map(str, size)], check=True)


if __name__ == "__main__":
    numbers = [int(number) for number in sys.argv[1:]]
    if len(numbers) == 2:
        row(*numbers)
    else:
        main(SIZES[: numbers[0]] if numbers else SIZES)
