"""Where fits begin: greedy merging, and starts that are drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_mixture

import gmmjax

COSTS = (gmmjax.runnalls, gmmjax.salmond, gmmjax.west, gmmjax.williams)
DRAWN = (gmmjax.kmeans_start, gmmjax.moment_start, gmmjax.random_start)
each_start = pytest.mark.parametrize(
    "start", [gmmjax.greedy_start, *DRAWN], ids=lambda f: f.__name__
)


@pytest.fixture(scope="module")
def planar():
    return random_mixture(3, 10, 2)


def kl(p, q):
    return gmmjax.kl_divergence(jax.random.key(99), p, q).value


@pytest.mark.parametrize("cost", COSTS, ids=lambda f: f.__name__)
def test_greedy_merging_keeps_the_moments(cost, key, planar):
    q = gmmjax.greedy_start(key, planar, 5, cost=cost)
    assert q.num_components == 5
    np.testing.assert_allclose(gmmjax.mean(q), gmmjax.mean(planar), atol=1e-12)
    np.testing.assert_allclose(gmmjax.covariance(q), gmmjax.covariance(planar), atol=1e-12)


@pytest.mark.parametrize("cost", COSTS, ids=lambda f: f.__name__)
def test_greedy_merging_stays_near(cost, key, planar):
    assert 0 < kl(planar, gmmjax.greedy_start(key, planar, 5, cost=cost)) < 1


def test_a_merge_has_the_right_covariance(key):
    p = gmmjax.GMM(jnp.zeros(2), jnp.array([[2.0, 0.0], [-2.0, 0.0]]), jnp.ones(2))
    q = gmmjax.greedy_start(key, p, 1)
    np.testing.assert_allclose(gmmjax.covariances(q)[0], [[5.0, 0.0], [0.0, 1.0]], atol=1e-12)


def test_absent_components_merge_for_nothing(key, planar):
    padded = gmmjax.stack([planar, random_mixture(0, 12, 2)])
    padded = jax.tree.map(lambda leaf: leaf[0], padded)
    same = gmmjax.greedy_start(key, padded, 5)
    other = gmmjax.greedy_start(key, planar, 5)
    assert abs(kl(same, other)) < 1e-6


@each_start
def test_a_start_is_a_full_mixture_that_sees_p(start, key, planar):
    q = start(key, planar, 5)
    assert q.scale.shape == (5, 2, 2)
    assert np.isfinite(kl(planar, q))


@each_start
def test_a_start_moves_with_p(start, key, planar):
    q = start(key, planar, 5)
    moved = start(key, planar._replace(means=planar.means + 100), 5)
    np.testing.assert_allclose(moved.means, q.means + 100, atol=1e-6)


@pytest.mark.parametrize("start", DRAWN, ids=lambda f: f.__name__)
def test_another_key_gives_another_start(start, key, planar):
    q, other = start(key, planar, 5), start(jax.random.key(1), planar, 5)
    assert not np.array_equal(other.means, q.means)


def test_greedy_merging_has_no_use_for_its_key(key, planar):
    q, other = (gmmjax.greedy_start(k, planar, 5) for k in (key, jax.random.key(1)))
    np.testing.assert_array_equal(other.means, q.means)
