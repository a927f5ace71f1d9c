"""Coefficients of control variates come from few enough points, in groups that fit into memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_mixture

import gmmjax
from gmmjax import _controls


def integrand(factor, x):
    """With itself for a feature."""
    values = factor * jnp.sum(x**4, axis=0)
    return values, values[None]


def squares(factor, x):
    """With a feature that never varies, and so is of no use."""
    return factor * jnp.sum(x * x, axis=0), jnp.zeros((1, x.shape[1]))


TWICE = _controls.Control(jnp.zeros(3), jnp.full((3, 1), 2.0))


@pytest.mark.parametrize("numbers", [1 << 24, 300])  # in one group, and in many
def test_baselines_in_groups(monkeypatch, numbers):
    monkeypatch.setattr(_controls, "NUMBERS", numbers)
    groups, pairs = _controls._groups(3, 2)
    assert groups == (1 if numbers > 300 else 4)
    assert groups * pairs == _controls.NUM_POINTS // 2
    p = random_mixture(0, 3, 2)
    found = _controls.baseline(p, integrand, TWICE, 1.7, fixed=False)
    np.testing.assert_allclose(found.slopes, 1, rtol=1e-12)  # half of it is the integrand, and nothing is left
    np.testing.assert_allclose(found.level, 0, atol=1e-10)
    moved = jax.grad(lambda factor: jnp.sum(_controls.baseline(p, squares, TWICE, factor, fixed=True).level))(1.7)
    np.testing.assert_allclose(moved, np.sum(np.asarray(p.means) ** 2), rtol=1e-12)


def test_memory_with_many_components():
    def temporary(count, **options):
        p = jax.eval_shape(lambda: gmmjax.GMM(jnp.zeros(count), jnp.zeros((count, 4)), jnp.ones((count, 4))))
        kl = jax.jit(lambda p, q: gmmjax.kl_divergence(jax.random.key(0), p, q, **options))
        return kl.lower(p, p).compile().memory_analysis().temp_size_in_bytes

    table = 8 * 512 * 512 * 4  # one (K, K, D) table in float64; points around all means would be 65 of them
    assert temporary(512) < 40 * table
    assert temporary(64) < 30 * table
