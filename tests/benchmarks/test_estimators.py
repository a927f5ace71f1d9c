# ruff: noqa: T201
"""Variance per draw and time of every estimator of KL, from one dimension to 39, as the table that
`estimates.md` carries. The last columns add one piece after another, up to the default.

Run with `python -m pytest -n 0 -s -o timeout=900 tests/benchmarks/test_estimators.py`.
"""

import contextlib
import functools

import jax
import numpy as np
import pytest
from measure import as_gmm, seconds, setting
from pairs import study

import gmmjax
from gmmjax._estimates import log_ratios
from gmmjax._sampling import blocks

PAIRS = [
    "crouse_10_to_6",
    "random_2d_10_vs_8_sep2",
    "random_3d_10_vs_10_sep3",
    "random_5d_5_vs_5_sep3",
]
PAIRS += [
    "random_10d_10_vs_10_sep0.5",
    "random_10d_10_vs_10_sep2",
    "near_10d_10",
    "random_20d_10_vs_10_sep0.3",
]
PAIRS += ["random_39d_20_vs_20_sep0.3"]
ESTIMATORS = {
    "strata": (gmmjax.iid, False, 1),
    "strata + control": (gmmjax.iid, True, 1),
    "Sobol": (gmmjax.sobol, False, 1),
    "Sobol + control": (gmmjax.sobol, True, 1),
    "Sobol + control + segments": (gmmjax.sobol, True, blocks.MOST_SEGMENTS),
}
NUM_SAMPLES = 16_384
KEYS = 8


@contextlib.contextmanager
def segments(most):
    """Scrambles in so many parts of what the components own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "MOST_SEGMENTS", most)
        log_ratios._estimate.clear_cache()
        yield
    log_ratios._estimate.clear_cache()


def row(p, q):
    """Gain in variance over plain draws at an equal number of them, and milliseconds, for each
    estimator.
    """
    x = gmmjax.sample(jax.random.key(99), p, 100_000)
    plain = float((gmmjax.log_prob(p, x) - gmmjax.log_prob(q, x)).var()) / NUM_SAMPLES
    cells = []
    for points, control, most in ESTIMATORS.values():
        call = lambda seed, points=points, control=control: gmmjax.kl_divergence(
            jax.random.key(seed),
            p,
            q,
            num_samples=NUM_SAMPLES,
            points=points,
            control_variate=control,
        )
        with segments(most):
            call(0)
            runs = [seconds(functools.partial(call, s)) for s in range(KEYS)]
        gain = plain / np.mean([float(estimate.stderr) ** 2 for _, estimate in runs])
        cells.append(f"{float(f'{gain:.2g}'):,g} ({1e3 * np.median([t for t, _ in runs]):.0f})")
    return cells


@pytest.mark.timeout(900)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_table(dtype):
    with jax.enable_x64(dtype == "float64"):
        print(
            f"\n\n{dtype}, {NUM_SAMPLES} draws: gain in variance over plain draws (milliseconds "
            "per call)\n"
        )
        print(f"| pair | D | {' | '.join(ESTIMATORS)} |\n|---|---|{'---|' * len(ESTIMATORS)}")
        for name in PAIRS:
            pair = study()[name]
            print(
                f"| {name} | {pair.dim} | {' | '.join(row(as_gmm(pair.p), as_gmm(pair.q)))} |",
                flush=True,
            )
    print(f"\n{setting('jax', 'gmmjax')}")
