# ruff: noqa: T201
"""Mixture reduction against greedy merging, against EM on draws, and against twenty long restarts.

Run with `python -m pytest -s -n 0 tests/benchmarks/test_reduction.py`; `-k crouse` for one family.
KL(p‖q) of all methods is estimated on common points. The time of the first reduction of a shape
holds compilation (marked with *).
"""

import time

import jax
import numpy as np
import pytest
from measure import setting
from pairs import random_mixture, study

import gmmjax
from gmmjax._mixture.gmm import index
from gmmjax._reduction import cloud, em, parts

DRAWS = 50_000  # for EM, with 5 starts
LONG = 20  # restarts
QUICK = 4  # restarts
FAMILIES = {
    "crouse": [(study()["crouse_10_to_6"].p, n) for n in (5, 5, 4, 3)],
    "1d_20_to_6": [(random_mixture(np.random.default_rng(s), 20, 1, 2.0), 6) for s in range(4)],
    "2d_40_to_8": [(random_mixture(np.random.default_rng(s), 40, 2, 2.0), 8) for s in range(4)],
    "3d_30_to_6": [(random_mixture(np.random.default_rng(s), 30, 3, 2.0), 6) for s in range(4)],
    "4d_40_to_8": [(random_mixture(np.random.default_rng(s), 40, 4, 2.0), 8) for s in range(4)],
    "10d_50_to_10": [(random_mixture(np.random.default_rng(s), 50, 10, 2.0), 10) for s in range(4)],
}


def clock(call):
    """Seconds, and the result once it is ready."""
    start = time.perf_counter()
    result = jax.block_until_ready(call())
    return time.perf_counter() - start, result


def by_em(seed, p, count):
    """Draws of p and scikit-learn's EM: the strongest plain rival."""
    from sklearn.mixture import GaussianMixture

    x = np.asarray(gmmjax.sample(jax.random.key(seed), p, DRAWS))
    found = GaussianMixture(count, n_init=5, random_state=seed, max_iter=300).fit(x)
    return gmmjax.interop.from_sklearn(found)


def by_long_restarts(seed, p, count):
    """The best of many starts of each kind, all iterated to the end on other and more points."""
    frame = parts.frame(p)
    white = parts.into(frame, p)
    keys = jax.random.split(jax.random.key(1000 + seed), LONG)
    starts = [gmmjax.kmeans_start(key, white, count) for key in keys[::2]]
    starts += [gmmjax.random_start(key, white, count) for key in keys[1::2]]
    blocks = cloud.draw(keys[0], white, 16, 2048)
    batch = jax.tree.map(lambda *leaves: np.stack(leaves), *starts)
    for _ in range(2):
        runs = em.run_em(batch, blocks, 1e-6, 200)
        batch = runs.gmm
    return parts.out_of(frame, index(batch, int(np.nanargmin(runs.loss))))


@pytest.mark.parametrize("family", FAMILIES)
def test_reduction(family):
    """Print one row per target."""
    with jax.enable_x64(True):
        print(f"\n\n{setting('jax', 'scikit-learn')}")
        names = "".join(f"{name:>10s}" for name in METHODS)
        print(f"{'KL(p||q) of':14s}{names}   ± of ours   seconds: EM, quick, ours")
        worse = []
        for i, (mixture, count) in enumerate(FAMILIES[family]):
            worse += row(family, i, gmmjax.from_covariances(*mixture), count)
        assert not worse, worse


METHODS = ("Runnalls", "Williams", "West", "EM", "long", "quick", "ours")


def row(family, i, p, count):
    """Measure one target, print it, and say by which methods ours is beaten."""
    key = jax.random.key(i)
    found = [
        gmmjax.greedy_start(key, p, count, cost=c)
        for c in (gmmjax.runnalls, gmmjax.williams, gmmjax.west)
    ]
    em_seconds, by_draws = clock(lambda: by_em(i, p, count))
    long = by_long_restarts(i, p, count)
    our_seconds, ours = clock(lambda: gmmjax.reduce_mixture(key, p, count))
    quick_seconds, quick = clock(lambda: gmmjax.reduce_mixture(key, p, count, num_restarts=QUICK))
    found += [by_draws, long, quick.gmm, ours.gmm]
    # One set of points for all, enough to tell them apart.
    fresh = jax.random.key(10_000 + i)
    kls = [gmmjax.kl_divergence(fresh, p, q, num_samples=1 << 18) for q in found]

    def gap(q):
        def log_ratio(x):
            return gmmjax.log_prob(q, x) - gmmjax.log_prob(ours.gmm, x)

        return gmmjax.expectation(fresh, log_ratio, p, num_samples=1 << 18)

    cold = "*" if i == 0 else " "
    values = "".join(f"{float(kl.value):10.6f}" for kl in kls)
    print(
        f"{family:14s}{values}   {float(kls[-1].stderr):.1e}   "
        f"{em_seconds:9.2f} {quick_seconds:6.2f} {our_seconds:6.2f}{cold}",
        flush=True,
    )
    worse = [f"{family} {i}: quick is worse than EM"] if kls[5].value > kls[3].value else []
    for name, q, kl in zip(METHODS[:5], found, kls, strict=False):
        # E_p[log q − log ours], which is to be no larger than 0, or 5 % for the long restarts
        difference = gap(q)
        slack = 0.05 * kl.value if name == "long" else 0.0
        if difference.value > slack + 4 * difference.stderr:
            worse.append(f"{family} {i}: {name} is better by {float(difference.value):.2g}")
    return worse
