# ruff: noqa: T201
"""Time × variance of estimates against the usual recipe: 10⁵ draws with scikit-learn.

Both run in turns in one process. What is compared is the cost of a given accuracy: an estimate of
variance v in time t takes t·v/e² to reach the error e. The recipe runs with one BLAS thread where
that is faster, and draws as many points of q where it needs any. Run with `python -m pytest -n 0 -s
-o timeout=900 tests/benchmarks/test_recipe.py`, with `-k "kl and float32"` for KL in the default
dtype alone. Nothing is asserted about time.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import pytest
from measure import as_gmm, as_sklearn, best_blas_threads, seconds, setting, spread
from pairs import study
from threadpoolctl import threadpool_limits

import gmmjax

DRAWS = 100_000
POINTS = 65_536
REPETITIONS = 3  # turns of the two methods
CALLS = 5  # of ours in each turn, each with a key of its own
REST = 0.2  # seconds between methods: threads of BLAS keep a core busy for a while after their work


class Job(NamedTuple):
    """Ours, `(key, p, q, num_samples=…)`, and the recipe, `(p, q) -> (value, variance)`."""

    ours: Callable
    recipe: Callable


class Result(NamedTuple):
    """Measurements on one pair; times and gains have one entry per repetition."""

    recipe_times: np.ndarray
    recipe_value: float
    recipe_variance: float  # of one estimate
    times: np.ndarray
    values: np.ndarray  # one per key
    variance: float  # of one estimate, the mean of stderr²

    @property
    def gains(self):
        """How many times cheaper ours is at equal accuracy."""
        return self.recipe_times * self.recipe_variance / (self.times * self.variance)


def mean(terms):
    """Of draws, and the variance of it."""
    return terms.mean(), terms.var(ddof=1) / len(terms)


def kl(p, q):
    """Mean over draws of log p − log q."""
    x, _ = p.sample(DRAWS)
    return mean(p.score_samples(x) - q.score_samples(x))


def entropy(p, _):
    """Mean over draws of −log p."""
    x, _ = p.sample(DRAWS)
    return mean(-p.score_samples(x))


def js(p, q):
    """Half the means of log p − log m and of log q − log m over draws of either."""
    sides = []
    for sampled in (p, q):
        x, _ = sampled.sample(DRAWS)
        logs = p.score_samples(x), q.score_samples(x)
        own = logs[sampled is q]
        sides.append(mean(own - np.logaddexp(*logs) + np.log(2)))
    values, variances = np.array(sides).T
    return values.mean(), variances.sum() / 4


def renyi_half(p, q):
    """−2 log of the mean over draws of √(q/p); of mixtures far apart it knows nothing."""
    x, _ = p.sample(DRAWS)
    value, variance = mean(np.exp(0.5 * (q.score_samples(x) - p.score_samples(x))))
    return -2 * np.log(value), 4 * variance / value**2


JOBS = {
    "kl": Job(gmmjax.kl_divergence, kl),
    "js": Job(gmmjax.js_divergence, js),
    "entropy": Job(lambda key, p, _, **options: gmmjax.entropy(key, p, **options), entropy),
    "renyi_half": Job(
        lambda key, p, q, **options: gmmjax.renyi_divergence(key, p, q, 0.5, **options), renyi_half
    ),
}


def measure(job, pair):
    """Both methods on one pair, in turns."""
    p, q = as_gmm(pair.p), as_gmm(pair.q)
    theirs = as_sklearn(pair.p), as_sklearn(pair.q)
    ours = lambda seed: job.ours(jax.random.key(seed), p, q, num_samples=POINTS)  # noqa: E731
    seconds(lambda: ours(0))  # compile
    threads = best_blas_threads(lambda: job.recipe(*theirs))
    recipe_runs, our_runs = [], []
    for turn in range(REPETITIONS):
        time.sleep(REST)
        with threadpool_limits(threads):
            recipe_runs.append(seconds(lambda: job.recipe(*theirs)))
        time.sleep(REST)
        seeds = range(turn * CALLS, turn * CALLS + CALLS)
        our_runs.append([seconds(lambda seed=seed: ours(seed)) for seed in seeds])
    estimates = [estimate for runs in our_runs for _, estimate in runs]
    return Result(
        recipe_times=np.array([t for t, _ in recipe_runs]),
        recipe_value=float(np.mean([value for _, (value, _) in recipe_runs])),
        recipe_variance=float(np.mean([variance for _, (_, variance) in recipe_runs])),
        times=np.array([np.median([t for t, _ in runs]) for runs in our_runs]),
        values=np.array([float(e.value) for e in estimates]),
        variance=float(np.mean([float(e.stderr) ** 2 for e in estimates])),
    )


def check(name, pair, result, exact):
    """Both methods agree within their errors, and with quadrature where there is one."""
    value = result.values.mean()
    error = np.sqrt(result.recipe_variance / REPETITIONS + result.variance)
    assert abs(value - result.recipe_value) < 6 * error, name
    if exact is not None:
        assert abs(value - exact) < 6 * np.sqrt(result.variance) + 1e-9 * max(1, exact), name


def row(name, pair, result):
    """One line of the table."""
    recipe_ms, ours_ms = 1e3 * np.median(result.recipe_times), 1e3 * np.median(result.times)
    left = f"{name:29s} {pair.dim:3d} {pair.counts:>6s} {result.values.mean():10.5f}"
    errors = result.recipe_variance**0.5, result.variance**0.5
    middle = f"{recipe_ms:8.1f} {errors[0]:9.2e} {ours_ms:8.2f} {errors[1]:9.2e}"
    return f"{left} {middle}  {spread(result.gains)}"


def summary(pairs, results):
    """Geometric means and the worst pair; the spread is over repetitions."""
    gains = np.array([result.gains for result in results.values()])  # (pairs, repetitions)
    high = np.array([pair.dim >= 3 for pair in pairs.values()])
    means = lambda table: np.exp(np.log(table).mean(axis=0))  # noqa: E731
    worst = int(np.argmin(np.median(gains, axis=1)))
    return [
        f"geometric mean, {len(gains)} pairs: {spread(means(gains))}",
        f"geometric mean, {high.sum()} pairs of D >= 3: {spread(means(gains[high]))}",
        f"worst: {spread(gains[worst])} ({list(results)[worst]})",
    ]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", JOBS)
def test_recipe(name, dtype):
    """Print the table in one dtype of ours; the recipe is float64 in both."""
    job, pairs = JOBS[name], study()
    with jax.enable_x64(dtype == "float64"):
        print(f"\n\n{name}, {dtype}, {POINTS} points, against scikit-learn's {DRAWS} draws")
        print(setting("jax", "scikit-learn"))
        print(
            f"ratio: time × variance of the recipe over ours, median [min–max] of {REPETITIONS} "
            "repetitions"
        )
        print(f"{'pair':29s}   D    K/L      value   recipe ms    SE     ours ms    SE     ratio")
        results = {}
        for pair_name, pair in pairs.items():
            results[pair_name] = measure(job, pair)
            print(row(pair_name, pair, results[pair_name]), flush=True)
    print("\n".join(summary(pairs, results)))
    # Of rare large ratios the recipe for Rényi's divergence sees none, nor its own error.
    for pair_name, pair in pairs.items() if name != "renyi_half" else ():
        check(pair_name, pair, results[pair_name], pair.exact if name == "kl" else None)
