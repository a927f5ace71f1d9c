"""Weighted samples: their sums, and the gradient that plain draws do not have."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_mixture

import gmmjax


def moment(g):
    """E[x₀² + x₀ x₁] in closed form."""
    second = gmmjax.covariance(g) + gmmjax.mean(g)[:, None] * gmmjax.mean(g)[None]
    return second[0, 0] + second[0, 1]


def function(x):
    return x[:, 0] ** 2 + x[:, 0] * x[:, 1]


def by_weights(points, count, key, g):
    x, weight = gmmjax.weighted_sample(key, g, count, points=points)
    return weight @ function(x)


def by_draws(key, g):
    return jnp.mean(function(gmmjax.sample(key, g, 512)))


@functools.partial(jax.jit, static_argnums=0)
def gradients(estimate, g, keys):
    return jax.lax.map(lambda key: jax.value_and_grad(estimate, argnums=1)(key, g), keys)


def off_by(estimate, g, key):
    """Errors of the mean value and gradient over many keys, in standard errors, leaf by leaf."""
    found = gradients(estimate, g, jax.random.split(key, 400))
    expected = jax.value_and_grad(moment)(g)

    def error(draws, truth):
        spread = np.asarray(draws).std(axis=0) / 20 + 1e-9
        return float(np.max(np.abs(np.asarray(draws).mean(axis=0) - truth) / spread))

    return jax.tree.map(error, found, expected)


@pytest.mark.parametrize(
    ("points", "count"), [(gmmjax.sobol, 512), (gmmjax.sobol, 300), (gmmjax.iid, 11)]
)
def test_value_and_all_gradients_are_unbiased(points, count, key):
    g = random_mixture(0, 3, 2)
    value, gradient = off_by(functools.partial(by_weights, points, count), g, key)
    assert value < 4.5
    assert max(gradient) < 4.5


def test_plain_draws_have_no_weight_gradient(key):
    """The twin, which fails in the logits and nowhere else."""
    value, gradient = off_by(by_draws, random_mixture(0, 3, 2), key)
    assert max(value, gradient.means, gradient.scale) < 4.5
    assert gradient.logits > 100


@pytest.mark.parametrize("count", [1, 7, 1024, 20_000])
def test_shapes_and_sums(count, key):
    g = random_mixture(0, 3, 2, kind="diagonal")
    x, weight = gmmjax.weighted_sample(key, g, count, points=gmmjax.iid)
    assert (x.shape, weight.shape) == ((count, 2), (count,))
    assert (np.asarray(weight) >= 0).all()
    if count == 1024:
        np.testing.assert_allclose(weight.sum(), 1, rtol=1e-12)


def test_absent_components_get_no_points(key):
    g = random_mixture(0, 3, 2)
    g = g._replace(logits=g.logits.at[1].set(-jnp.inf), means=g.means.at[1].set(1e3))
    x, weight = gmmjax.weighted_sample(key, g, 256)
    assert np.abs(x).max() < 500
    gradient = jax.grad(lambda g: by_weights(gmmjax.sobol, 256, key, g))(g)
    assert not any(np.any(leaf[1]) for leaf in gradient)
    assert all(np.isfinite(leaf).all() for leaf in gradient)


def test_bad_input(key):
    g = random_mixture(0, 3, 2)
    with pytest.raises(ValueError, match="num_samples: expected at least 1, got 0"):
        gmmjax.weighted_sample(key, g, 0)
    with pytest.raises(TypeError, match="points: expected a function, got 'sobol'"):
        gmmjax.weighted_sample(key, g, 8, points="sobol")
    with pytest.raises(TypeError, match="key: expected a JAX key"):
        gmmjax.weighted_sample(0, g, 8)
