# ruff: noqa: T201
"""How often the intervals of `bootstrap` hold the divergence of the populations.

Run with `python -m pytest -s -n 0 tests/benchmarks/test_coverage.py`; `-k apart_1d` for one of the
settings, each of which takes one to four minutes on one core. Two hundred pairs of data sets are
drawn from two mixtures, fitted from the mixtures they come from (the maximum that a good start
leads to) and refitted 200 times each, KL and JS with 1,024 points. The truth has 262,144.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from measure import seconds, setting

import gmmjax
from gmmjax._populations.bootstrap import Side, estimate, fit_and_refit

NUM_PAIRS = 200
NUM_RESAMPLES = 200
FEW = {"num_samples": 1024, "num_replicates": 8}
DIVERGENCES = {"KL": gmmjax.kl_divergence, "JS": gmmjax.js_divergence}


class Setting(NamedTuple):
    """Two populations, and how many rows of each there are."""

    num_components: int
    dim: int
    gap: float  # between the nearest means, whose components have a size of about 1
    num_rows: tuple[int, int]
    shift: float  # of each coordinate of the means of q; 0 makes q the same as p
    stretch: float = 0.2  # of the logarithms of its factors


SETTINGS = {
    "apart_1d": Setting(2, 1, 4.0, (300, 300), 0.7),
    "close_1d": Setting(3, 1, 2.0, (1000, 1000), 0.5),
    "apart_2d": Setting(3, 2, 4.0, (500, 500), 1.0),
    "overlapping_2d": Setting(2, 2, 1.8, (500, 300), 0.6),
    "four_2d": Setting(4, 2, 4.0, (3000, 1000), 0.5),
    "uneven_3d": Setting(2, 3, 3.0, (1000, 400), 0.5, 0.1),
    "apart_5d": Setting(2, 5, 3.0, (600, 600), 0.6),
    "equal_1d": Setting(3, 1, 2.5, (400, 600), 0.0),
    "equal_2d": Setting(2, 2, 3.0, (500, 500), 0.0),
    "equal_4d": Setting(2, 4, 3.0, (600, 600), 0.0),
}


def populations(name):
    """The mixtures p and q of a setting."""
    case = SETTINGS[name]
    rng = np.random.default_rng(list(SETTINGS).index(name))
    p = mixture(rng, case)
    if case.shift == 0:
        return p, p
    factors = np.exp(case.stretch * rng.normal(size=(case.num_components, 1, 1)))
    return p, gmmjax.GMM(
        p.logits + 0.4 * rng.normal(size=p.logits.shape),
        p.means + case.shift * rng.normal(size=p.means.shape),
        p.scale * factors,
    )


def mixture(rng, case):
    """Components with random covariances, whose nearest means are as far apart as wanted."""
    count, dim = case.num_components, case.dim
    means = rng.normal(size=(count, dim))
    apart = np.linalg.norm(means[:, None] - means[None], axis=2) + 9.0 * np.eye(count)
    draws = rng.normal(size=(count, dim, dim + 6))
    covariances = draws @ draws.swapaxes(1, 2) / (dim + 6) + 0.2 * np.eye(dim)
    weights = rng.dirichlet(np.full(count, 8.0))
    return gmmjax.from_covariances(weights, means * case.gap / apart.min(), covariances)


@functools.partial(jax.jit, static_argnums=3)
def simulate(keys, p, q, num_rows):
    """What `bootstrap` says of pairs of data sets, for each divergence: the same refits for all."""

    def pair(key):
        draws, fits, common = jax.random.split(key, 3)
        batches = []
        for i, (g, count) in enumerate(zip((p, q), num_rows, strict=True)):
            x = gmmjax.sample(jax.random.fold_in(draws, i), g, count)
            key_of_side = jax.random.fold_in(fits, i)
            batches.append(fit_and_refit(key_of_side, Side(g, x), NUM_RESAMPLES)[0])
        return {
            name: estimate(functools.partial(function, **FEW), common, batches, 0.95)
            for name, function in DIVERGENCES.items()
        }

    return jax.lax.map(pair, keys)


@pytest.mark.parametrize("name", SETTINGS)
def test_coverage(name):
    """Print one row for each divergence."""
    with jax.enable_x64(True):
        p, q = populations(name)
        keys = jax.random.split(jax.random.key(list(SETTINGS).index(name)), NUM_PAIRS)
        time, found = seconds(lambda: simulate(keys, p, q, SETTINGS[name].num_rows))
        print(f"\n{setting('jax')}; {time:.0f} s with compilation")
        for divergence, function in DIVERGENCES.items():
            truth = function(jax.random.key(1), p, q, num_samples=1 << 18).value
            print(row(name, divergence, found[divergence], truth), flush=True)


def row(name, divergence, found, truth):
    """One line of the table."""
    case = SETTINGS[name]
    plugged = jnp.mean(found.value + found.bias) - truth
    sides = f"{case.num_components} | {case.dim} | {case.num_rows[0]}, {case.num_rows[1]}"
    bias = f"{truth:.4f} | {plugged:+.4f} | {jnp.mean(found.value) - truth:+.4f}"
    spread = f"{jnp.std(found.value):.4f} | {jnp.mean(found.stderr):.4f}"
    if case.shift == 0:
        low = 100 * jnp.mean(found.lower <= 0.01)
        return f"| {name} | {sides} | {divergence} | {bias} | {spread} | {low:.1f} | |"
    above, below = (100 * jnp.mean(m) for m in (found.lower > truth, found.upper < truth))
    hold = 100 - above - below
    return (
        f"| {name} | {sides} | {divergence} | {bias} | {spread} | {hold:.1f} "
        f"| {above:.1f}, {below:.1f} |"
    )
