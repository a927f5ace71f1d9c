"""Coefficients of control variates come from few enough points, in groups that fit into memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_mixture

import gmmjax
from gmmjax import _controls, _linalg


def integrand(factor, x):
    """A control that is twice the integrand, so that its slope is ½ and nothing is left at the means."""
    values = factor * jnp.sum(x**4, axis=0)
    return values, jnp.broadcast_to(2 * values[None], (3, x.shape[1]))


def squares(factor, x):
    """With a control that never varies, and so is of no use."""
    return factor * jnp.sum(x * x, axis=0), jnp.zeros((3, x.shape[1]))


@pytest.mark.parametrize("numbers", [1 << 24, 300])  # in one group, and in many
def test_levels_in_groups(monkeypatch, numbers):
    monkeypatch.setattr(_controls, "NUMBERS", numbers)
    groups, pairs = _controls._groups(3, 2)
    assert groups == (1 if numbers > 300 else 4)
    assert groups * pairs == _controls.NUM_POINTS // 2
    p = random_mixture(0, 3, 2)
    level, slope = _controls.levels(p, integrand, True, 1.7, fixed=False)
    np.testing.assert_allclose(slope, 0.5, rtol=1e-12)
    np.testing.assert_allclose(level, 0, atol=1e-10)
    moved = jax.grad(lambda factor: jnp.sum(_controls.levels(p, squares, True, factor, fixed=True)[0]))(1.7)
    np.testing.assert_allclose(moved, np.sum(np.asarray(p.means) ** 2), rtol=1e-12)


@pytest.mark.parametrize("kind", ["full", "diagonal", "spherical", "tied"])
def test_points_around_components_are_placed_like_others(kind):
    p = random_mixture(1, 3, 2, kind=kind)
    z = np.random.default_rng(0).normal(size=(2, 5))
    x = _linalg.colour(p.scale, p.means, jnp.asarray(z))
    for k in range(3):
        chosen = jnp.zeros((3, 5)).at[k].set(1)
        np.testing.assert_allclose(x[:, k], _linalg.place(chosen, p.means, p.scale, jnp.asarray(z)), rtol=1e-12)


def test_memory_with_many_components():
    def temporary(count, **options):
        p = jax.eval_shape(lambda: gmmjax.GMM(jnp.zeros(count), jnp.zeros((count, 4)), jnp.ones((count, 4))))
        kl = jax.jit(lambda p, q: gmmjax.kl_divergence(jax.random.key(0), p, q, **options))
        return kl.lower(p, p).compile().memory_analysis().temp_size_in_bytes

    table = 8 * 512 * 512 * 4  # one (K, K, D) table in float64; points around all means would be 65 of them
    assert temporary(512) < 40 * table
    assert temporary(64) < 30 * table
