"""A matrix of divergences against a loop over scikit-learn, and what calls cost before and beside
the value.

Run with `python -m pytest -s tests/benchmarks/test_matrix.py`. Runs to be compared are taken in
turns, so that a busy machine slows both, and processor time is printed beside wall time, for it
suffers less from other work; ratios are medians with their range. Nothing is asserted about time.
"""

import functools
import subprocess
import sys

import jax
import numpy as np
from measure import as_gmm, as_sklearn, clocks, setting, spread
from pairs import random_mixture, random_pair
from threadpoolctl import threadpool_limits

import gmmjax

MODELS = 200
SUBSET = 6  # pairs of the loop in each turn
ROWS = 4  # of our matrix in each turn
POINTS = 4_096
REPETITIONS = 3


def loop_pair(p, q):
    """The recipe: 4,096 draws of p, mean and variance of log p − log q."""
    x, _ = p.sample(POINTS)
    terms = p.score_samples(x) - q.score_samples(x)
    return terms.mean(), terms.var(ddof=1) / POINTS


@jax.enable_x64(False)
def test_matrix():
    """KL between all pairs of 200 models, K = D = 10: a few rows of ours and a few pairs of the
    loop, both scaled.
    """
    models = [random_mixture(np.random.default_rng(seed), 10, 10, 1.0) for seed in range(MODELS)]
    qs = gmmjax.stack([as_gmm(model) for model in models])
    theirs = [as_sklearn(model, seed) for seed, model in enumerate(models)]
    kl = functools.partial(gmmjax.kl_divergence, num_samples=POINTS)

    def ours(turn):
        rows = slice(turn * ROWS, turn * ROWS + ROWS)
        return gmmjax.pairwise(
            kl, jax.random.key(turn), jax.tree.map(lambda leaf: leaf[rows], qs), qs
        )

    def loop(turn):
        return [loop_pair(theirs[turn * ROWS], theirs[MODELS - 1 - j]) for j in range(SUBSET)]

    first, _ = clocks(lambda: ours(0))
    our_times, loop_times, variances = [], [], []
    for turn in range(REPETITIONS):
        with threadpool_limits(1):  # products are too small for more
            elapsed, pairs = clocks(lambda turn=turn: loop(turn))
        loop_times.append(elapsed * MODELS * (MODELS - 1) / SUBSET)
        elapsed, table = clocks(lambda turn=turn: ours(turn))
        our_times.append(elapsed * MODELS / ROWS)
        value, stderr = (np.asarray(leaf)[0, MODELS - 1 - np.arange(SUBSET)] for leaf in table)
        mean, variance = np.transpose(pairs)
        variances.append(np.mean(variance) / np.mean(stderr**2))
        assert np.all(np.abs(value - mean) < 6 * np.sqrt(stderr**2 + variance))
    print(
        f"\n\nKL matrix of {MODELS} models, K = D = 10, {POINTS} points; "
        f"{setting('jax', 'scikit-learn')}"
    )
    print(f"ours: gmmjax.pairwise, float32, scaled from {ROWS} rows (first call {first[0]:.1f} s)")
    print(
        f"loop: scikit-learn, float64, one BLAS thread, scaled from {SUBSET} pairs; "
        f"variance over ours at as many points: {spread(variances)}"
    )
    for clock, ours_s, loop_s in zip(
        ("wall", "processor"), np.transpose(our_times), np.transpose(loop_times), strict=True
    ):
        ratio = loop_s / ours_s
        print(
            f"{clock:10s} loop {spread(loop_s)} s, ours {spread(ours_s)} s, "
            f"ratio {spread(ratio)}, at equal standard error {spread(ratio * variances)}"
        )


@jax.enable_x64(False)
def test_gradient():
    """Value-and-gradient against the value, in turns: with respect to q, and to both."""
    print(f"\n\nvalue and gradient over value, K = D = 10, float32; {setting('jax')}")
    p, q = (as_gmm(mixture) for mixture in random_pair(1010, 10, 10, 10, 1.0)[:2])
    for points in (16_384, 131_072):
        value = functools.partial(gmmjax.kl_divergence, num_samples=points)
        calls = [value] + [
            jax.jit(jax.value_and_grad(value, argnums=n, has_aux=True)) for n in (2, (1, 2))
        ]
        for call in calls:
            clocks(lambda call=call: call(jax.random.key(0), p, q))
        seeds = range(1, 12)
        times = [
            [clocks(lambda c=call, s=seed: c(jax.random.key(s), p, q))[0] for call in calls]
            for seed in seeds
        ]
        for clock, (alone, one, both) in zip(
            ("wall", "processor"), np.transpose(times), strict=True
        ):
            print(
                f"{points} points, {clock:9s}: value {spread(1e3 * alone)} ms; "
                f"ratio for q {spread(one / alone)}, for p and q {spread(both / alone)}"
            )


FIRST = """
import sys, time, jax, jax.numpy as jnp, gmmjax
dim, count = int(sys.argv[1]), int(sys.argv[2])
def mixture(seed):
    a, b = jax.random.split(jax.random.key(seed))
    scale = jnp.eye(dim) + 0.1 * jax.random.normal(a, (count, dim, dim))
    return jax.block_until_ready(gmmjax.GMM(jnp.zeros(count), jax.random.normal(b, (count, dim)),
    scale))
p, q, key = mixture(0), mixture(1), jax.random.key(0)
start = time.perf_counter(), time.process_time()
jax.block_until_ready(gmmjax.kl_divergence(key, p, q))
middle = time.perf_counter(), time.process_time()
jax.block_until_ready(gmmjax.kl_divergence(key, q, p))
after = time.perf_counter(), time.process_time()
print(*(f"{b - a:.4f}" for a, b in zip(start + middle, middle + after)))
"""


def test_first_call():
    """The first call in a new process: tracing, compiling and running, 16,384 points; wall and
    processor time.
    """
    print(f"\n\nfirst kl_divergence of a process, float32, 16,384 points; {setting('jax')}")
    print("  D   K   first, wall s        first, processor s   second, wall s")
    for dim, count in ((10, 10), (10, 64), (64, 10), (64, 64)):
        command = [sys.executable, "-c", FIRST, str(dim), str(count)]
        runs = np.array([_numbers(command) for _ in range(REPETITIONS)])
        print(
            f"{dim:3d} {count:3d}   {spread(runs[:, 0]):20s} {spread(runs[:, 1]):20s} "
            f"{spread(runs[:, 2])}",
            flush=True,
        )


def test_import():
    """`import gmmjax` over `import jax`, in the same process, so that the load of the machine is in
    both.
    """
    clock = "from time import process_time as t"
    code = f"{clock}; a = t(); import jax; b = t(); import gmmjax; print(b - a, t() - b)"
    runs = np.array([_numbers([sys.executable, "-c", code]) for _ in range(5)])
    print(
        f"\n\nprocessor seconds: import jax {spread(runs[:, 0])}, then import gmmjax "
        f"{spread(runs[:, 1])}"
    )


def _numbers(command):
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return [float(word) for word in ended.stdout.split()]
