"""How the time of `gmmjax.kl_divergence` grows with points, components and dimensions, and what
memory it takes.

Every row is a process of its own, so that peak memory is its own. Run with
`python -m pytest -s tests/benchmarks/test_scaling.py`, which takes some minutes; `SCALING_MOST`
caps the number of points (10⁸ by default), and `SCALING_SVG` names a file for a plot. Nothing is
asserted about time. The exponents are those of processor time, between the two ends of a row: fixed
costs make them smaller than the asymptotic ones.
"""

import functools
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from measure import as_gmm, clocks, setting

import gmmjax

MOST = int(float(os.environ.get("SCALING_MOST", "1e8")))
LIMIT = 580  # seconds for one row
CALLS = 3  # after the first, if that is short; the shortest counts


class Case(NamedTuple):
    """One row: float32, p and q of the same size."""

    kind: str
    num_components: int
    dim: int
    num_samples: int
    call: str = "KL"


class Result(NamedTuple):
    """Seconds of the first call, the best later ones, and peak memory above that before the first,
    in MB.
    """

    first: float
    wall: float
    time: float  # of all processors, which other work on the machine disturbs less
    memory: float
    value: float
    stderr: float


# 1.3e5 … 1.3e8
POINTS = [Case("full", 10, 10, 32 << m) for m in (12, 15, 18, 22) if m < 16 or 32 << (m - 1) < MOST]
COMPONENTS = [Case("full", count, 8, 1 << 16) for count in (10, 100, 1000)]
DIMENSIONS = [Case("full", 8, dim, 1 << 16) for dim in (16, 64, 256)]
DIAGONAL = [Case("diagonal", 64, dim, 1 << 16) for dim in (16, 64, 256)]
# a map of the plane or of space, where mixtures have as many components as they need
MANY = [
    Case("map", count, 3, 1 << 14, call)
    for call, largest in (
        ("KL", 100_000),
        ("KL, gradients", 100_000),
        ("ISE", 10_000),
        ("ISE, gradients", 10_000),
        ("Cauchy-Schwarz", 10_000),
        ("MMD", 10_000),
    )
    for count in (1000, 10_000, 100_000)
    if count <= largest
]
SERIES = {"N": POINTS, "K": COMPONENTS, "D, full": DIMENSIONS, "D, diagonal": DIAGONAL}


def mixture(case, seed):
    """Overlapping components, so that the value stays of the order of 1 … 100 nats."""
    rng = np.random.default_rng(seed)
    shape = (case.num_components, case.dim)
    weights, means = rng.dirichlet(np.full(shape[0], 2.0)), rng.normal(size=shape)
    if case.kind == "map":
        # Components are as far apart as they are wide, whatever their number.
        a = 0.3 * rng.normal(size=(*shape, case.dim))
        means = rng.uniform(size=shape) * case.num_components ** (1 / case.dim)
        return weights, means, a @ a.swapaxes(1, 2) + 0.2 * np.eye(case.dim)
    if case.kind == "diagonal":
        return weights, means, np.exp(0.3 * rng.normal(size=shape))
    a = rng.normal(size=(*shape, case.dim)) / np.sqrt(case.dim)
    return weights, means, 0.7 * a @ a.swapaxes(1, 2) + 0.3 * np.eye(case.dim)


def peak():
    """Of this process so far, in MB."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def measure(case):
    """Runs in a process of its own."""
    p, q = as_gmm(mixture(case, 0)), as_gmm(mixture(case, 1))
    before = peak()
    function = CALLS_BY_NAME[case.call]
    call = lambda seed: function(jax.random.key(seed), p, q, case.num_samples)
    elapsed, (value, stderr) = clocks(lambda: call(0))
    first, times = elapsed[0], [elapsed]
    if first < 30:  # compilation is otherwise small beside it
        calls = CALLS if first < 5 else 1
        times = [clocks(lambda seed=seed: call(seed))[0] for seed in range(1, 1 + calls)]
    return Result(
        first, *np.min(times, axis=0).tolist(), peak() - before, float(value), float(stderr)
    )


def kl(key, p, q, num_samples):
    return gmmjax.kl_divergence(key, p, q, num_samples=num_samples)


@functools.partial(jax.jit, static_argnums=3)
def kl_gradients(key, p, q, num_samples):
    """The estimate; its gradients are computed too."""
    divergence = lambda p, q: kl(key, p, q, num_samples)
    (value, stderr), slopes = jax.value_and_grad(divergence, argnums=(0, 1), has_aux=True)(p, q)
    return value, stderr + 0 * sum(map(jnp.sum, jax.tree.leaves(slopes)))


def without_noise(function):
    """A closed form with an error of 0."""
    return jax.jit(lambda key, p, q, num_samples: (function(p, q), jnp.zeros(())), static_argnums=3)


def ise_gradients(p, q):
    value, slopes = jax.value_and_grad(gmmjax.ise, argnums=(0, 1))(p, q)
    return value + 0 * sum(map(jnp.sum, jax.tree.leaves(slopes)))


CALLS_BY_NAME = {
    "KL": kl,
    "KL, gradients": kl_gradients,
    "ISE": without_noise(gmmjax.ise),
    "ISE, gradients": without_noise(ise_gradients),
    "Cauchy-Schwarz": without_noise(gmmjax.cauchy_schwarz_divergence),
    "MMD": without_noise(lambda p, q: gmmjax.mmd_squared(p, q, 1.0)),
}


def run(case):
    """The same, from outside."""
    command = [sys.executable, __file__, json.dumps(case)]
    flags = {
        "XLA_FLAGS": "",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path]),
    }
    ended = subprocess.run(
        command, env=os.environ | flags, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return Result(*json.loads(ended.stdout.splitlines()[-1]))


def exponent(cases, results, size):
    """Slope of log time over log size, whole and over the last step."""
    x, y = np.log([size(case) for case in cases]), np.log([result.time for result in results])
    return (y[-1] - y[0]) / (x[-1] - x[0]), (y[-1] - y[-2]) / (x[-1] - x[-2])


def plot(path, found):
    """Time against size, one line for each series."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 2.8), layout="constrained")
    for axes, (name, (cases, results)) in zip(
        figure.subplots(1, len(found), sharey=True), found.items(), strict=True
    ):
        sizes = [SIZE[name](case) for case in cases]
        axes.loglog(sizes, [result.time for result in results], "o-")
        axes.set(xlabel=name, ylabel="seconds" if axes.get_subplotspec().is_first_col() else "")
        axes.set_xticks(sizes, [f"{size:,}" if size < 10_000 else f"{size:.0e}" for size in sizes])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.savefig(path)


SIZE = {"N": lambda c: c.num_samples, "K": lambda c: c.num_components}
SIZE |= dict.fromkeys(("D, full", "D, diagonal"), lambda c: c.dim)


def test_scaling():
    """Print the table; memory does not grow with the number of points, and errors fall with it."""
    print(f"\n\ngmmjax.kl_divergence, float32, one process per row; {setting('jax')}")
    print(
        "kind         K    D          N     first s   then s  processor s   ns/(N·K)   peak MB   "
        "      KL        SE"
    )
    found = {}
    for name, cases in SERIES.items():
        results = []
        for case in cases:
            results.append(run(case))
            first, wall, time, memory, value, stderr = results[-1]
            unit = 1e9 * time / case.num_samples / case.num_components
            done = f"{value:10.4f} {stderr:9.1e}"
            left = f"{case.kind:9s} {case.num_components:4d} {case.dim:4d} {case.num_samples:10d}"
            print(
                f"{left} {first:11.2f} {wall:8.3f} {time:12.3f} {unit:10.3f} {memory:9.0f} {done}",
                flush=True,
            )
        found[name] = cases, results
        print("processor time grows as {}^{:.2f} from end to end, ^{:.2f} in the last step".format(
            name[0], *exponent(cases, results, SIZE[name])), flush=True)  # fmt: skip
    if path := os.environ.get("SCALING_SVG"):
        plot(path, found)
    check(found["N"][1])


def test_many_components():
    """Print seconds and peak memory up to 10⁵ components on each side, in three dimensions."""
    print(f"\n\nK against K in 3-D, 16,384 points, float32, one process per row; {setting('jax')}")
    print("call                   K    first s     then s    peak MB        value        SE")
    found = {}
    for case in MANY:
        result = run(case)
        found.setdefault(case.call, []).append((case.num_components, result.wall))
        print(
            f"{case.call:15s} {case.num_components:8d} {result.first:10.2f} {result.wall:10.3f} "
            f"{result.memory:10.0f} {result.value:12.5g} {result.stderr:9.1e}",
            flush=True,
        )
        assert result.memory < 1000
    if path := os.environ.get("COMPONENTS_SVG"):
        plot_many(path, found)


def plot_many(path, found):
    """Seconds against components, one line for each call."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    for name, rows in found.items():
        axes.loglog(*zip(*rows, strict=True), "o-", label=name)
    axes.set(xlabel="components on each side", ylabel="seconds")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path)


def check(by_points):
    """Constant memory, and agreement of the values within their errors."""
    memory = [result.memory for result in by_points]
    assert max(memory) < 1.5 * min(memory) + 50, memory
    for a, b in zip(by_points, by_points[1:], strict=False):
        # float32 sums of many points are good to some units in the last place
        assert abs(a.value - b.value) < 6 * np.hypot(a.stderr, b.stderr) + 1e-5 * abs(a.value)


def test_the_check_can_fail():
    """A memory that grows is found."""
    small, large = Result(1, 1, 1, 100, 1, 0.1), Result(1, 1, 1, 1000, 1, 0.1)
    with pytest.raises(AssertionError, match="1000"):
        check([small, large])


if __name__ == "__main__":
    print(json.dumps(measure(Case(*json.loads(sys.argv[1])))))
