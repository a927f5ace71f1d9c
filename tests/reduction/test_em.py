"""The iteration of forward KL: its moments, and what an iteration does to the loss."""

import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_mixture

from gmmjax._populations import moments
from gmmjax._reduction import changes, cloud, em, parts

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
def task():
    p = parts.to_numpy(random_mixture(3, 10, 2))
    rng = np.random.default_rng(0)
    points = cloud.draw(rng, p, 2048)
    points = points._replace(log_prob=em.log_prob(p, points, 3))
    return p, points, em.batch([changes.scatter(rng, p, 3)])


def run(task, num_steps):
    _, points, start = task
    return em.run(start, points, 3, 1e-6, em.Stop(num_steps, 0.0))


def test_points_have_the_moments_of_the_mixture(task):
    p, points, _ = task
    whole = parts.pool(p)
    gap = points.x - whole.means
    np.testing.assert_allclose(points.weight @ gap, 0, atol=1e-12)
    spread = np.einsum("n,ni,nj->ij", points.weight, gap, gap)
    np.testing.assert_allclose(spread, whole.covariances[0], rtol=1e-9)
    plain = cloud.sample(np.random.default_rng(0), p, 2048)
    assert np.abs(plain.mean(axis=0) - whole.means[0]).max() > 1e-3  # what draws would give


def test_iterations_lower_the_loss(task):
    losses = run(task, 32).losses[:, 0]
    assert (np.diff(losses) <= 0).all()
    assert losses[-1] < losses[0]


def test_an_iteration_gives_the_mixture_the_mean_of_the_points(task):
    p, points, start = task
    sums, _ = em.expect(start, points, 3)
    found = em.maximise(start, sums, 3, 0.0)
    mean = np.einsum("ck,cki->ci", found.weights, found.means)
    np.testing.assert_allclose(mean, parts.pool(p).means, atol=1e-12)


def test_a_step_of_components_is_that_of_their_points(task):
    """Where components of p are points: their own features are then exact."""
    p, _, start = task
    narrow = p._replace(covariances=1e-12 * p.covariances)
    ours = em.expect(start, cloud.whole(narrow), 3)
    theirs = em.expect(start, cloud.Cloud(p.means, p.weights, 0 * p.weights), 3)
    np.testing.assert_allclose(ours[0], theirs[0], atol=1e-9)
    wide = em.expect(start, cloud.whole(p), 3)
    assert np.abs(wide[0] - theirs[0]).max() > 1e-3
