"""Slopes of control variates come from few enough points, in groups that fit into memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_mixture

import gmmjax
from gmmjax._sampling import control_variates


def quartic(factor, x):
    """A function of one feature."""
    features = jnp.sum(x**4, axis=0)[None]
    return double(factor, (features,)), (features,)


def double(factor, features):
    return 2 * factor * features[0][0]


def noise(factor, features):
    """A function whose slope says nothing about it."""
    return factor * jnp.ones_like(features[0][0])


@pytest.mark.parametrize("numbers", [1 << 24, 300])  # in one group, and in many
def test_baselines_in_groups(monkeypatch, numbers):
    monkeypatch.setattr(control_variates, "NUMBERS", numbers)
    groups, pairs = control_variates._groups(3, 2, control_variates.NUM_POINTS // 2)
    assert groups == (1 if numbers > 300 else 4)
    assert groups * pairs == control_variates.NUM_POINTS // 2
    p = random_mixture(0, 3, 2)
    at_means = quartic(1.7, p.means.T)
    expected = jnp.arange(3.0)[:, None]

    def found(factor, function, fixed):
        control = control_variates.Control((expected,), function)
        return control_variates.baseline(
            p, quartic, control, factor, quartic(factor, p.means.T), 1 << 14, fixed
        )

    linear = found(1.7, double, False)
    np.testing.assert_allclose(linear.slopes[0], 3.4, rtol=1e-12)
    # which then is its mean, exactly
    np.testing.assert_allclose(linear.mean, 3.4 * expected[:, 0], rtol=1e-12)
    np.testing.assert_allclose(linear.constant, 0, atol=1e-12)
    flat = found(1.7, noise, False)
    np.testing.assert_array_equal(flat.slopes[0], 0)
    np.testing.assert_array_equal(flat.mean, at_means[0])
    moved = lambda fixed: jax.grad(lambda factor: jnp.sum(found(factor, double, fixed).mean))(1.7)
    np.testing.assert_allclose(moved(False), 2 * jnp.sum(expected), rtol=1e-12)
    # with its slope a constant
    np.testing.assert_allclose(moved(True), 2 * jnp.sum(at_means[1][0]), rtol=1e-12)


@pytest.mark.parametrize(("slope", "kept"), [(3.0, 1.0), (1.0, 1.0), (0.4, 0.4), (-2.0, 0.0)])
def test_no_more_than_the_whole_control_is_subtracted(slope, kept):
    """Where both are flat the ratio of their covariance is noise, which may be huge."""
    table = jnp.array([[[1.0, 2.0, 4.0, 7.0]]])
    found, left = control_variates._regress(slope * table[0], [table], [jnp.ones((1, 1, 1))])
    np.testing.assert_allclose(found[0], [[[kept]]])
    np.testing.assert_allclose(left, [[21.0 * (slope - kept) ** 2]], atol=1e-12)


def test_a_noisy_ratio_would_do_harm(key, monkeypatch):
    """Of features that hardly vary under a component: the slope beyond 1 is that of their noise."""
    controls = 1e-6 * jax.random.normal(key, (1, 1, 64))
    values = jax.random.normal(jax.random.fold_in(key, 1), (1, 64))
    found, _ = control_variates._regress(values, [controls], [jnp.ones((1, 1, 1))])
    assert abs(found[0][0, 0, 0]) <= 1
    monkeypatch.setattr(jnp, "clip", lambda x, *_: x)
    found, _ = control_variates._regress(values, [controls], [jnp.ones((1, 1, 1))])
    assert abs(found[0][0, 0, 0]) > 1e3


@pytest.mark.parametrize("size", [1e-12, 1e-30, 0.0])
def test_controls_that_hardly_vary_have_a_gradient(size):
    """Their squares underflow, and those of these in the gradient were infinite: it was NaN."""
    table = jnp.array([[[1.0, 2.0, 4.0, 7.0]]], jnp.float32)

    def left(values, controls):
        slopes = [jnp.ones((1, 1, 1), jnp.float32)]
        return control_variates._regress(values, [controls], slopes)[0][0].sum()

    gradients = jax.grad(left, argnums=(0, 1))(0.4 * size * table[0], size * table)
    assert all(np.isfinite(leaf).all() for leaf in gradients)
    expected = 0.4 if size else 1.0
    np.testing.assert_allclose(left(0.4 * size * table[0], size * table), expected, rtol=1e-5)


def test_narrow_components_do_not_disturb_the_control(key):
    """On average over points near a narrow component the slopes are useless, at the mean distances
    they are not.
    """
    rng = np.random.default_rng(208)
    widths = np.exp([1.5 * rng.normal(size=(5, 1, 1)), 0.75 * rng.normal(size=(5, 1, 1))])
    p, q = (random_mixture(s, 5, 2, spread=1.0) for s in (0, 1))
    p, q = (g._replace(scale=g.scale * w) for g, w in zip((p, q), widths, strict=True))
    errors = [
        gmmjax.kl_divergence(
            key, p, q, num_samples=4096, points=gmmjax.iid, control_variate=control
        ).stderr
        for control in (True, False)
    ]
    assert errors[0] < 0.5 * errors[1]


def test_memory_with_many_components():
    def temporary(count, **options):
        p = jax.eval_shape(
            lambda: gmmjax.GMM(jnp.zeros(count), jnp.zeros((count, 4)), jnp.ones((count, 4)))
        )
        kl = jax.jit(lambda p, q: gmmjax.kl_divergence(jax.random.key(0), p, q, **options))
        return kl.lower(p, p).compile().memory_analysis().temp_size_in_bytes

    # one (K, K, D) table in float64; points around all means would be 65 of them
    table = 8 * 512 * 512 * 4
    assert temporary(512) < 40 * table
    assert temporary(64) < 30 * table
