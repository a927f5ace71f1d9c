"""Weights, means and covariances: from a mixture and back, in NumPy as under JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import KINDS, random_mixture

import gmmjax
from gmmjax._reduction import parts


@pytest.mark.parametrize("kind", KINDS)
def test_parts_are_weights_means_and_covariances(kind):
    g = random_mixture(3, 4, 2, kind=kind)
    expected = gmmjax.weights(g), g.means, gmmjax.covariances(g)
    for ours, theirs in zip(parts.to_numpy(g), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize("kind", ["full", "diagonal", "spherical"])
def test_the_way_back_keeps_structure_and_values(kind):
    g = random_mixture(3, 4, 2, kind=kind)
    back = parts.to_structure(g, parts.to_numpy(g))
    assert back.scale.shape == g.scale.shape
    np.testing.assert_allclose(gmmjax.weights(back), gmmjax.weights(g))
    np.testing.assert_allclose(gmmjax.covariances(back), gmmjax.covariances(g))


def test_parts_are_of_double_precision():
    """In single precision the covariances of so flat a mixture would not be positive definite."""
    turn = jnp.array([[[1.0, 0.0], [1.0, 1e-5]]])
    g = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 2)), turn)
    g = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), g)
    c = parts.to_numpy(g)
    np.testing.assert_allclose(parts.factors(g, c.covariances), g.scale, rtol=1e-5)


def test_the_pool_has_the_moments_of_the_mixture():
    g = random_mixture(3, 4, 2)
    whole = parts.pool(parts.to_numpy(g))
    np.testing.assert_allclose(whole.means[0], gmmjax.mean(g))
    np.testing.assert_allclose(whole.covariances[0], gmmjax.covariance(g))


@pytest.mark.parametrize("kind", ["full", "diagonal", "spherical", "tied"])
def test_a_frame_is_left_as_it_was_entered(kind):
    g = random_mixture(3, 4, 2, kind=kind)
    frame = parts.frame(g)
    back = parts.out_of(frame, parts.into(frame, g))
    np.testing.assert_allclose(back.means, g.means)
    np.testing.assert_allclose(back.scale, g.scale, atol=1e-15)


def test_in_its_frame_a_mixture_has_mean_0_and_covariance_1():
    g = random_mixture(3, 4, 2)
    white = parts.into(parts.frame(g), g)
    np.testing.assert_allclose(gmmjax.mean(white), 0, atol=1e-14)
    np.testing.assert_allclose(gmmjax.covariance(white), np.eye(2), atol=1e-14)
