"""The iteration of forward KL: its moments, and what an iteration does to the loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_mixture

import gmmjax
from gmmjax._mixture.gmm import index
from gmmjax._populations import moments
from gmmjax._reduction import em, standardise

WIDTH = 1e-3  # of components that lie about 1 from 0


def narrow(dtype):
    """Means of three narrow components, 50 points around each, and which belong to which."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(3, 2)).astype(dtype)
    x = np.concatenate([m + WIDTH * rng.normal(size=(50, 2)) for m in means]).T.astype(dtype)
    return means, x, np.repeat(np.eye(3), 50, axis=1).astype(dtype)


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_moments_of_narrow_components_keep_their_digits(dtype, full):
    means, x, member = narrow(dtype)
    found = moments.moments(jnp.asarray(member), jnp.asarray(means), jnp.asarray(x), full)
    gaps = x.astype(float) - means[:, :, None].astype(float)
    mean = np.einsum("kn,kin->ki", member, gaps)
    square = np.einsum("kn,kin,kjn->kij", member, gaps, gaps)
    square = square if full else np.diagonal(square, axis1=1, axis2=2)
    mass, first, second = found
    np.testing.assert_allclose(mass, 50)
    np.testing.assert_allclose(first, mean, rtol=1e-4, atol=1e-5 * WIDTH)
    np.testing.assert_allclose(second, square, rtol=1e-4, atol=1e-4 * WIDTH**2)


def test_moments_about_0_would_lose_them_in_single_precision():
    """The reason why there are two ways to the moments."""
    _, x, member = narrow(np.float32)
    mean = np.einsum("kn,in->ki", member, x) / 50
    square = np.einsum("kn,in,jn->kij", member, x, x)
    about = square - 50 * np.einsum("ki,kj->kij", mean, mean)
    assert np.abs(about[:, 0, 0] / (50 * WIDTH**2) - 1).max() > 0.02


@pytest.fixture(scope="module")
def runs():
    """Runs of 1, 4 and 16 iterations from one start, on the points of one cloud."""
    p = random_mixture(3, 10, 2)
    p = standardise.into(standardise.frame(p), p)
    cloud = em.cloud(jax.random.key(0), p, 2, 256)
    starts = gmmjax.stack([gmmjax.random_start(jax.random.key(1), p, 3)])
    floor = jnp.asarray(1e-6)
    return [em.run_em(starts, cloud, floor, num_steps, 2) for num_steps in (1, 4, 16)]


def test_iterations_lower_the_loss(runs):
    losses = [float(run.loss[0]) for run in runs]
    assert losses == sorted(losses, reverse=True)
    assert losses[2] < losses[0]


def test_an_iteration_gives_the_mixture_the_mean_of_the_points(runs):
    """Which is 0 here, up to the error of the points."""
    for run in runs:
        mean = gmmjax.mean(index(run.gmm, 0))
        np.testing.assert_allclose(mean, 0, atol=0.02)
