"""Opposite points share a product, and estimate the same."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from cases import random_mixture

import gmmjax
from gmmjax._mixture import density


def test_opposite_points_are_what_they_are_by_themselves(key):
    located, moved = jax.random.normal(key, (18, 2)), jax.random.normal(key, (18, 2, 3))
    for scale in (None, jnp.ones((2, 18))):
        g = random_mixture(0, 2, 18)
        prepared = density.prepare(g if scale is None else g._replace(scale=scale)).density
        found = density.opposite_distances(prepared, located, moved)
        both = jnp.concatenate([located[:, :, None] + moved, located[:, :, None] - moved], axis=2)
        expected = density.squared_distances(prepared, both.reshape(18, -1))
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@functools.partial(jax.jit, static_argnums=(2, 3))
def values_and_gradients(keys, pair, points, stick):
    """KL in D = 16, where Sobol points come in opposite pairs, and its gradient in both."""

    def kl(pair, key):
        options = {"points": points, "num_samples": 256, "stick_the_landing": stick}
        return gmmjax.kl_divergence(key, *pair, **options).value

    differentiate = jax.value_and_grad(kl)
    value, gradient = jax.lax.map(functools.partial(differentiate, pair), keys)
    return jnp.concatenate([value[:, None], ravelled(gradient)], axis=1)


def ravelled(gradient):
    leaves = jax.tree.leaves(gradient)
    return jnp.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)


def test_opposite_points_are_unbiased(key):
    pair = random_mixture(0, 2, 16), random_mixture(1, 3, 16)
    keys = jax.random.split(key, 200)
    sets = [values_and_gradients(keys, pair, points, True) for points in (gmmjax.sobol, gmmjax.iid)]
    means = [found.mean(axis=0) for found in sets]
    errors = [found.std(axis=0, ddof=1) / 200**0.5 for found in sets]
    error = jnp.hypot(*errors)
    score = (means[0] - means[1]) / jnp.where(error > 0, error, 1.0)
    assert jnp.max(jnp.abs(score)) < 6
    assert 0.2 < jnp.mean(score[error > 0] ** 2) < 3  # they go together: 1 on average
