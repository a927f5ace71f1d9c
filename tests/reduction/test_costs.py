"""What merges cost: each formula against the definition it stands for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_mixture

import gmmjax

COSTS = (gmmjax.runnalls, gmmjax.salmond, gmmjax.west, gmmjax.williams)
FIRST, SECOND = 2, 7  # the components that are merged


@pytest.fixture(scope="module")
def planar():
    return random_mixture(3, 10, 2)


@pytest.fixture(scope="module")
def pair(planar):
    """The two components as a mixture of their own."""
    return jax.tree.map(lambda leaf: leaf[jnp.array([FIRST, SECOND])], planar)


@pytest.fixture(scope="module")
def w(planar):
    """Their weights in the whole mixture."""
    return np.asarray(gmmjax.weights(planar)[jnp.array([FIRST, SECOND])])


def log_det(matrix):
    return np.linalg.slogdet(np.asarray(matrix))[1]


def test_runnalls_is_the_change_of_the_log_determinants(planar, pair, w):
    apart = w @ log_det(gmmjax.covariances(pair))
    together = w.sum() * log_det(gmmjax.covariance(pair))
    expected = 0.5 * (together - apart)
    np.testing.assert_allclose(gmmjax.runnalls(planar, FIRST)[SECOND], expected, rtol=1e-9)


def test_salmond_is_the_variance_moved_inside(planar, w):
    apart = planar.means[FIRST] - planar.means[SECOND]
    squared = apart @ np.linalg.solve(gmmjax.covariance(planar), apart)
    expected = w[0] * w[1] / w.sum() * squared
    np.testing.assert_allclose(gmmjax.salmond(planar, FIRST)[SECOND], expected, rtol=1e-9)


def test_williams_is_the_integrated_square_error(planar, pair, w):
    """By brute force on a grid."""
    axis = np.linspace(-14, 14, 350)
    x = np.stack(np.meshgrid(axis, axis), axis=-1)
    covariance = gmmjax.covariance(pair)[None]
    merged = gmmjax.from_covariances([1.0], gmmjax.mean(pair)[None], covariance)
    gap = jnp.exp(gmmjax.log_prob(pair, x)) - jnp.exp(gmmjax.log_prob(merged, x))
    expected = w.sum() ** 2 * jnp.sum(gap**2) * (axis[1] - axis[0]) ** 2
    np.testing.assert_allclose(gmmjax.williams(planar, FIRST)[SECOND], expected, rtol=1e-6)


def test_west_takes_the_lighter_first(planar, w):
    assert gmmjax.west(planar, FIRST)[0][SECOND] == w.min()


@pytest.fixture(scope="module", params=COSTS, ids=lambda f: f.__name__)
def table(request):
    """All costs of a mixture, as a function of it; of West's order the distances."""

    def row(g, i):
        return jax.tree.leaves(request.param(g, i))[-1]

    rows = jax.jit(jax.vmap(row, in_axes=(None, 0)))
    return lambda g: np.asarray(rows(g, jnp.arange(g.num_components)))


def test_costs_are_symmetric(table, planar):
    costs = table(planar)
    off = ~np.eye(10, dtype=bool)
    np.testing.assert_allclose(costs[off], costs.T[off], rtol=1e-8)


def test_an_affine_map_scales_all_costs_alike(table, planar):
    """Only that of Williams is scaled at all, as a square error is."""
    a = jnp.array([[2.0, 0.0], [0.7, 0.5]])
    moved = planar._replace(means=planar.means @ a.T + 3.0, scale=a[None] @ planar.scale)
    off = ~np.eye(10, dtype=bool)
    ratio = table(moved)[off] / table(planar)[off]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)
