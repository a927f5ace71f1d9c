"""The model: construction, moments, stacks, free parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import KINDS, random_mixture

import gmmjax


@pytest.mark.parametrize("kind", KINDS)
def test_moments_are_those_of_draws(kind, key):
    g = random_mixture(0, 4, 3, kind=kind)
    x = np.asarray(gmmjax.sample(key, g, 200_000))
    stderr = np.sqrt(np.diag(gmmjax.covariance(g)) / len(x))
    assert (np.abs(x.mean(0) - gmmjax.mean(g)) < 5 * stderr).all()
    np.testing.assert_allclose(
        np.cov(x.T), gmmjax.covariance(g), atol=0.05 * np.trace(gmmjax.covariance(g))
    )


@pytest.mark.parametrize("kind", KINDS)
def test_free_parameters_round_trip(kind):
    g = random_mixture(0, 4, 3, kind=kind)
    back = gmmjax.constrain(gmmjax.unconstrain(g))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-13), g, back)


def test_sign_of_the_diagonal_and_upper_entries_do_not_matter(key):
    g = random_mixture(0, 3, 3)
    flipped = g._replace(
        scale=g.scale * jnp.array([1.0, -1.0, 1.0])[None, None] + jnp.triu(jnp.ones((1, 3, 3)), 1)
    )
    np.testing.assert_allclose(gmmjax.covariances(flipped), gmmjax.covariances(g), rtol=1e-13)
    np.testing.assert_allclose(
        gmmjax.log_prob(flipped, g.means), gmmjax.log_prob(g, g.means), rtol=1e-12
    )
    back = gmmjax.constrain(gmmjax.unconstrain(flipped))
    np.testing.assert_allclose(back.scale, g.scale, rtol=1e-13)
    slope = jax.grad(lambda p: gmmjax.kl_divergence(key, p, g).value)(flipped).scale
    assert (np.triu(slope, 1) == 0).all()
    assert np.abs(np.tril(slope)).max() >= 0


def test_stack_keeps_every_density():
    mixtures = [
        random_mixture(k, k, 2, kind=kind) for k, kind in zip((1, 2, 3, 4), KINDS, strict=False)
    ]
    x = jnp.linspace(-3, 3, 14).reshape(7, 2)
    batch = gmmjax.stack(mixtures)
    assert batch.scale.shape == (4, 4, 2, 2)
    for row, g in zip(jax.vmap(gmmjax.log_prob, (0, None))(batch, x), mixtures, strict=True):
        np.testing.assert_allclose(row, gmmjax.log_prob(g, x), rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_stack_of_one_kind_is_not_densified(kind):
    g = random_mixture(0, 3, 2, kind=kind)
    assert gmmjax.stack([g, g]).scale.shape == (2, *g.scale.shape)


def test_arithmetic_on_an_estimate_is_refused(key):
    p, q = random_mixture(0, 2, 1), random_mixture(1, 2, 1)
    estimate = gmmjax.kl_divergence(key, p, q)
    for attempt in (
        lambda: estimate + estimate,
        lambda: 2 * estimate,
        lambda: estimate * 2,
        lambda: sum([estimate]),
    ):
        with pytest.raises(TypeError, match=r"use \.value"):
            attempt()
    (value, stderr), gradient = jax.value_and_grad(gmmjax.kl_divergence, argnums=2, has_aux=True)(
        key, p, q
    )
    assert value == estimate.value
    assert stderr == estimate.stderr
    assert isinstance(gradient, gmmjax.GMM)


def test_shapes_are_right_for_batches():
    batch = gmmjax.stack([random_mixture(0, 3, 2), random_mixture(1, 3, 2)])
    assert (batch.num_components, batch.dim) == (3, 2)
