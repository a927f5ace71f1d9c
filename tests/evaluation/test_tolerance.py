"""Estimates to a requested accuracy, and gradients with standard errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import LEAVES, REFERENCE, alike, random_mixture

import gmmjax
from gmmjax._evaluation import batches


def coverage(name, num_keys=200, **options):
    """Share of keys whose interval of ± 2 errors holds the truth, and the samples of each."""
    p, q = alike(name)
    run = jax.jit(lambda key: gmmjax.estimate_to(gmmjax.kl_divergence, key, p, q, **options))
    found = jax.lax.map(run, jax.random.split(jax.random.key(3), num_keys))
    truth = REFERENCE[name]["exact"]["kl_pq"]
    assert found.converged.all()
    assert (found.stderr <= options["rtol"] * jnp.abs(found.value)).all()
    covered = np.abs(found.value - truth) <= 2 * found.stderr
    return np.mean(covered), np.asarray(found.num_samples)


def test_coverage_survives_stopping():
    options = {"rtol": 1e-2, "batch_samples": 64, "max_samples": 1 << 12}
    share, num_samples = coverage("planar_3_to_2", **options)
    assert 0.92 <= share <= 0.985
    assert (num_samples > 9 * 64).any()  # batches have grown
    options |= {"points": gmmjax.iid, "control_variate": False}
    share, num_samples = coverage("rare_mode", **options)
    assert 0.91 <= share <= 0.985
    assert len(np.unique(num_samples)) > 9  # on both sides of the growth


def test_batches_grow_where_many_would_be_wanted(monkeypatch):
    """One large Sobol set has a far smaller error than the average of small ones."""
    key = jax.random.key(1)
    options = {"rtol": 1e-4, "batch_samples": 1024, "max_samples": 1 << 19}
    assert estimate_planar(key, **options).converged
    monkeypatch.setattr(batches, "GROWTH", 1 << 20)
    batches.run_level.clear_cache()
    with pytest.warns(UserWarning, match="estimate_to: the standard error is .* was wanted"):
        found = estimate_planar(key, **options)
    batches.run_level.clear_cache()
    assert found.stderr > 1.5e-4 * found.value


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


def test_the_limit_ends_it_and_says_so(key):
    with pytest.warns(UserWarning, match="after 4,096 samples, and .* was wanted"):
        found = estimate_planar(key, rtol=1e-9, max_samples=4096, batch_samples=1024)
    assert not found.converged
    assert found.num_samples == 4096
    assert found.stderr > 1e-9 * found.value
    assert str(found).endswith(", 4,096 samples, not converged")


def test_what_is_easy_takes_the_pilot_and_one_batch(key):
    found = estimate_planar(key, rtol=0.0, atol=0.5, batch_samples=1024)
    assert found.converged
    assert found.num_samples == 2048


def test_estimates_of_one_mixture(key):
    single = random_mixture(0, 1, 2)
    assert gmmjax.estimate_to(gmmjax.entropy, key, single, rtol=1e-3, batch_samples=1024).converged


def test_one_batch_is_too_few(key):
    words = "max_samples: expected at least two batches of 1024, got 1024"
    with pytest.raises(ValueError, match=words):
        estimate_planar(key, max_samples=1024, batch_samples=1024)


def test_the_key_is_missing():
    with pytest.raises(TypeError, match="the key comes after the divergence, got GMM"):
        gmmjax.estimate_to(gmmjax.kl_divergence, *alike("planar_3_to_2"))


def estimate_planar(key, **options):
    return gmmjax.estimate_to(gmmjax.kl_divergence, key, *alike("planar_3_to_2"), **options)


@pytest.mark.parametrize("quantity", ["kl_pq", "js"])
def test_gradient_error_is_calibrated(quantity):
    divergence = gmmjax.kl_divergence if quantity == "kl_pq" else gmmjax.js_divergence
    p, q = alike("two_by_two")
    exact = REFERENCE["two_by_two"]["grad"][quantity]

    @jax.jit
    def run(key):
        return gmmjax.gradient(divergence, key, p, q, argnums=(0, 1), num_samples=2048)

    value, stderr = jax.lax.map(run, jax.random.split(jax.random.key(0), 60))
    covered = []
    for side, found, error in zip("pq", value, stderr, strict=True):
        for leaf in LEAVES:
            truth = np.asarray(exact[side][leaf])
            present = slice(len(truth))  # the rest is padding
            gap = np.asarray(getattr(found, leaf))[:, present] - truth
            width = 2 * np.asarray(getattr(error, leaf))[:, present]
            covered.append(np.ravel(np.abs(gap) <= width + 1e-9))
    assert 0.90 <= np.concatenate(covered).mean() <= 0.99


def test_gradient_is_that_of_autodiff(key):
    # without noise: both must agree to rounding
    p, q = random_mixture(0, 1, 3), random_mixture(1, 1, 3)
    found = gmmjax.gradient(
        gmmjax.kl_divergence, key, p, q, argnums=1, num_samples=256, stick_the_landing=False
    )
    wanted = jax.grad(lambda q: gmmjax.kl_divergence(key, p, q, num_samples=256).value)(q)
    for leaf, expected in zip(found.value, wanted, strict=True):
        np.testing.assert_allclose(leaf, expected, rtol=1e-9, atol=1e-10)


def test_keywords_may_be_arrays(key):
    """A number that is an array was refused: programs take constants alone as static."""
    p, q = random_mixture(0, 2, 2), random_mixture(1, 2, 2)
    options = {"num_samples": 512, "alpha": 0.3}
    slope = gmmjax.gradient(gmmjax.skew_kl_divergence, key, p, q, **options)
    same = gmmjax.gradient(
        gmmjax.skew_kl_divergence, key, p, q, **options | {"alpha": jnp.asarray(0.3)}
    )
    np.testing.assert_allclose(same.value.means, slope.value.means, rtol=1e-9)
    options = {"rtol": 0.1, "batch_samples": 512, "max_samples": 2048}
    found = gmmjax.estimate_to(
        gmmjax.skew_kl_divergence, key, p, q, alpha=jnp.asarray(0.3), **options
    )
    alone = gmmjax.estimate_to(gmmjax.skew_kl_divergence, key, p, q, alpha=0.3, **options)
    np.testing.assert_allclose(found.value, alone.value, rtol=1e-9)


def test_points_are_counted_as_they_are_drawn(key):
    options = {"rtol": 1.0, "batch_samples": 100, "max_samples": 256}
    assert estimate_planar(key, **options).num_samples == 256


def test_one_replicate_says_nothing_of_its_error(key):
    p, q = random_mixture(0, 1, 3), random_mixture(1, 1, 3)
    found = gmmjax.gradient(gmmjax.kl_divergence, key, p, q, num_samples=1)
    assert all(np.isinf(leaf).all() for leaf in found.stderr)
