"""Estimates to a requested accuracy, and gradients with standard errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import LEAVES, REFERENCE, alike, random_mixture

import gmmjax


def coverage(name, **options):
    p, q = alike(name)
    run = jax.jit(lambda key: gmmjax.estimate_to(gmmjax.kl_divergence, key, p, q, **options))
    found = jax.lax.map(run, jax.random.split(jax.random.key(3), 200))
    truth = REFERENCE[name]["exact"]["kl_pq"]
    assert found.converged.all()
    assert (found.stderr <= options["rtol"] * jnp.abs(found.value)).all()
    return np.mean(np.abs(found.value - truth) <= 2 * found.stderr)


def test_coverage_survives_stopping():
    assert 0.92 <= coverage("planar_3_to_2", rtol=5e-3, batch_samples=256) <= 0.985
    rare = {"rtol": 1e-2, "batch_samples": 64, "points": gmmjax.iid, "control_variate": False}
    assert 0.91 <= coverage("rare_mode", **rare) <= 0.985


def test_plain_stopping_loses_coverage():
    """The test above can fail: ordinary draws that stop on their own standard error are far too
    confident.
    """
    p, q = alike("rare_mode")
    truth = REFERENCE["rare_mode"]["exact"]["kl_pq"]

    def stopped(key):
        x = gmmjax.sample(key, p, 20_000)
        values = gmmjax.log_prob(p, x) - gmmjax.log_prob(q, x)
        count = jnp.arange(1, 20_001)
        mean = jnp.cumsum(values) / count
        stderr = jnp.sqrt(jnp.maximum(jnp.cumsum(values**2) / count - mean**2, 0) / count)
        stop = jnp.argmax((stderr <= 1e-2 * truth) & (count >= 64))
        return jnp.abs(mean[stop] - truth) <= 2 * stderr[stop]

    assert np.mean(jax.lax.map(jax.jit(stopped), jax.random.split(jax.random.key(3), 100))) < 0.5


def test_what_ended_it_is_said(key):
    p, q = alike("planar_3_to_2")
    short = gmmjax.estimate_to(
        gmmjax.kl_divergence, key, p, q, rtol=1e-9, max_samples=4096, batch_samples=1024
    )
    assert not short.converged
    assert short.num_samples == 4096
    assert short.stderr > 1e-9 * short.value
    loose = gmmjax.estimate_to(
        gmmjax.kl_divergence, key, p, q, rtol=0.0, atol=0.5, batch_samples=1024
    )
    assert loose.converged
    assert loose.num_samples == 2048
    single = random_mixture(0, 1, 2)
    assert gmmjax.estimate_to(gmmjax.entropy, key, single, rtol=1e-3, batch_samples=1024).converged
    with pytest.raises(
        ValueError, match="max_samples: expected at least two batches of 1024, got 1024"
    ):
        gmmjax.estimate_to(gmmjax.kl_divergence, key, p, q, max_samples=1024, batch_samples=1024)
    with pytest.raises(TypeError, match="key: expected"):
        gmmjax.estimate_to(gmmjax.kl_divergence, p, q)


@pytest.mark.parametrize("quantity", ["kl_pq", "js"])
def test_gradient_error_is_calibrated(quantity):
    name = "two_by_two"
    divergence = gmmjax.kl_divergence if quantity == "kl_pq" else gmmjax.js_divergence
    p, q = alike(name)
    run = lambda key: gmmjax.gradient(divergence, key, p, q, argnums=(0, 1), num_samples=2048)
    found = jax.lax.map(jax.jit(run), jax.random.split(jax.random.key(0), 60))
    covered = []
    for i, side in enumerate("pq"):
        for leaf in LEAVES:
            truth = np.asarray(REFERENCE[name]["grad"][quantity][side][leaf])
            value, stderr = (np.asarray(getattr(part[i], leaf))[:, : len(truth)] for part in found)
            covered.append(np.abs(value - truth) <= 2 * stderr + 1e-9)
    share = np.concatenate([c.ravel() for c in covered]).mean()
    assert 0.90 <= share <= 0.99


def test_gradient_is_that_of_autodiff(key):
    # without noise: both must agree to rounding
    p, q = random_mixture(0, 1, 3), random_mixture(1, 1, 3)
    found = gmmjax.gradient(
        gmmjax.kl_divergence, key, p, q, argnums=1, num_samples=256, stick_the_landing=False
    )
    wanted = jax.grad(lambda q: gmmjax.kl_divergence(key, p, q, num_samples=256).value)(q)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10), found.value, wanted
    )
    one = gmmjax.gradient(gmmjax.kl_divergence, key, p, q, num_samples=1)
    assert all(np.isinf(leaf).all() for leaf in one.stderr)
