"""Matching a mixture: natural gradients against Adam, in every unit, and from random starts.

Run with `python -m pytest -s -n 0 tests/benchmarks/test_matching.py`. Its output is in
`matching.md`. All fits are of double precision, which the tests set, and of 300 steps at most.
"""

import functools

import jax
import numpy as np
import optax
import pytest
from measure import seconds, setting
from pairs import random_mixture

import gmmjax

NUM_STEPS = 300
NUM_SAMPLES = 2048
PAIRS = 6
SIZES = {"K = 3, D = 2": (3, 2), "K = 5, D = 10": (5, 10)}
OPTIMIZERS = {
    "Adam, rate 0.02": optax.adam(0.02),
    "Adam, rate 0.1": optax.adam(0.1),
    "natural gradient": gmmjax.natural_gradient(),
}
UNITS = (1.0, 100.0, 1e4, 1e-3)


def forward(key, q, p):
    return gmmjax.kl_divergence(key, p, q, num_samples=NUM_SAMPLES)


def reverse(key, q, p):
    return gmmjax.kl_divergence(key, q, p, num_samples=NUM_SAMPLES)


def js(key, q, p):
    return gmmjax.js_divergence(key, p, q, num_samples=NUM_SAMPLES)


def ise(key, q, p):
    return gmmjax.ise(p, q)


def normalised_ise(key, q, p):
    return gmmjax.normalised_ise(p, q)


# What is minimised, and what is shown of the result: the integral of squares has units.
LOSSES = {
    "KL(p‖q)": (forward, forward),
    "KL(q‖p)": (reverse, reverse),
    "JS": (js, js),
    "ISE": (ise, normalised_ise),
}


def mixture(seed, num_components, dim):
    rng = np.random.default_rng(seed)
    return gmmjax.from_covariances(*random_mixture(rng, num_components, dim, 2.0))


def pairs(num_components, dim):
    """Targets, and starts that know nothing of them."""
    targets = [mixture(2 * i, num_components, dim) for i in range(PAIRS)]
    starts = [mixture(2 * i + 1, num_components, dim) for i in range(PAIRS)]
    return gmmjax.stack(targets), gmmjax.stack(starts)


@functools.partial(jax.jit, static_argnums=(0, 1, 4))
def match(loss, measure, ps, qs, optimizer=None):
    """Fit each start to its target, one after another, and measure what is left."""
    options = {} if optimizer is None else {"optimizer": optimizer, "hold_weights": None}

    def one(pair):
        p, q = pair
        key = jax.random.key(0)
        result = gmmjax.fit(key, loss, q, args=(p,), num_steps=NUM_STEPS, **options)
        left = measure(jax.random.key(1), result.gmm, p)
        return getattr(left, "value", left), result.num_steps

    return jax.lax.map(one, (ps, qs))


def numbers(values):
    return " ".join(f"{value:8.1e}" for value in np.sort(values))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("loss", LOSSES)
def test_optimizers(loss, size):
    """What each optimiser leaves of a divergence, pair by pair in increasing order."""
    print(f"\n\n{loss}, {size}; {setting('jax', 'optax')}")
    ps, qs = pairs(*SIZES[size])
    for name, optimizer in OPTIMIZERS.items():
        chosen = None if name == "natural gradient" else optimizer
        time, (left, steps) = seconds(lambda o=chosen: match(*LOSSES[loss], ps, qs, o))
        print(f"{name:18s} {numbers(left)}   {np.mean(steps):4.0f} steps {time:6.1f} s", flush=True)


@pytest.mark.parametrize("size", SIZES)
def test_units(size):
    """The same fits in four units, with all defaults but the number of steps."""
    print(f"\n\nKL(p‖q) in units of x, {size}; {setting('jax', 'optax')}")
    ps, qs = pairs(*SIZES[size])
    left = {}
    for unit in UNITS:
        scaled = jax.vmap(lambda g, unit=unit: gmmjax.affine(g, unit))
        left[unit], _ = match(forward, forward, scaled(ps), scaled(qs))
        print(f"times {unit:<8g} {' '.join(f'{value:9.2e}' for value in left[unit])}", flush=True)
    for unit in UNITS[1:]:
        np.testing.assert_allclose(left[unit], left[1.0], rtol=0.01, atol=2e-5)


@pytest.mark.parametrize("dim", [2, 5])
def test_random_starts(dim):
    """Twenty random starts, each for a target of its own."""
    print(f"\n\nrandom starts, K = 3, D = {dim}; {setting('jax', 'optax')}")
    targets = [mixture(100 + i, 3, dim) for i in range(20)]
    keys = jax.random.split(jax.random.key(3), 20)
    starts = [gmmjax.random_start(k, p, 3) for k, p in zip(keys, targets, strict=True)]
    ps, qs = gmmjax.stack(targets), gmmjax.stack(starts)
    for name, optimizer in OPTIMIZERS.items():
        chosen = None if name == "natural gradient" else optimizer
        left, _ = match(forward, forward, ps, qs, chosen)
        print(f"{name:18s} {np.sum(left < 1e-3)} of 20 below 1e-3; {numbers(left)}", flush=True)
