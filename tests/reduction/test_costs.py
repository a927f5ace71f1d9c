"""What merges cost: each formula against the definition it stands for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import cast, random_mixture

import gmmjax
from gmmjax._pairs import as_one
from gmmjax._reduction import merge

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


def merged_by_hand(cost, g, num_merges):
    """Labels of merging the cheapest of all pairs, which are looked at anew each time."""
    count = g.num_components
    labels, left = np.arange(count), list(range(count))
    rows = jax.vmap(lambda g, i: jax.tree.leaves(cost(g, i)), (None, 0))
    tables = jax.jit(lambda g: rows(g, jnp.arange(count)))
    joined = jax.jit(as_one.joined)
    for _ in range(num_merges):
        costs = np.stack([np.round(table, 12) for table in tables(g)], axis=-1)
        pairs = [(*costs[i, j], i, j) for i in left for j in left if i < j]
        *_, i, j = min(pairs)
        g = joined(g, i, j)
        labels[labels == j] = i
        left.remove(j)
    return np.searchsorted(left, labels)


@pytest.mark.parametrize("cost", [gmmjax.runnalls, gmmjax.west], ids=lambda f: f.__name__)
@pytest.mark.parametrize("alike", [True, False])
def test_greedy_merges_are_those_of_all_pairs(cost, alike, planar):
    """Where weights are alike, West's order is decided by the distances."""
    g = planar._replace(logits=jnp.zeros(10)) if alike else planar
    found = jax.jit(merge.greedy, static_argnums=(1, 2))(g, 6, cost)
    np.testing.assert_array_equal(found, merged_by_hand(cost, g, 6))


def test_two_absent_components_merge_into_their_midpoint():
    g = gmmjax.GMM(
        jnp.array([-jnp.inf, -jnp.inf, 0.0]),
        jnp.array([[0.0, 0.0], [2.0, 0.0], [9.0, 9.0]]),
        jnp.stack([jnp.eye(2)] * 3),
    )
    both = as_one.joined(g, 0, 1)
    np.testing.assert_allclose(both.means[0], [1.0, 0.0])
    np.testing.assert_allclose(both.scale[0] @ both.scale[0].T, np.diag([2.0, 1.0]), rtol=1e-12)
    assert (both.logits == g.logits).all()


def clusters_far_apart(spread):
    """Six places in single precision, with two components each, side by side."""
    rng = np.random.default_rng(0)
    places = spread * rng.normal(size=(6, 3))
    means = np.repeat(places, 2, axis=0) + 0.5 * rng.normal(size=(12, 3))
    factors = np.tril(np.eye(3) + 0.2 * rng.normal(size=(12, 3, 3)))
    leaves = np.zeros(12), means, factors
    return gmmjax.GMM(*(jnp.asarray(leaf, jnp.float32) for leaf in leaves))


@pytest.mark.parametrize("cost", COSTS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("spread", [1e2, 1e5])
def test_what_is_far_apart_is_merged_last_in_single_precision(spread, cost):
    labels = jax.jit(merge.greedy, static_argnums=(1, 2))(clusters_far_apart(spread), 6, cost)
    np.testing.assert_array_equal(labels, np.repeat(np.arange(6), 2))


@pytest.mark.parametrize("cost", [gmmjax.runnalls, gmmjax.salmond], ids=lambda f: f.__name__)
def test_costs_of_what_is_far_apart_keep_their_digits(cost):
    g = clusters_far_apart(1e5)
    exact = cost(cast(g, jnp.float64), 0)
    np.testing.assert_allclose(cost(g, 0)[1:], exact[1:], rtol=1e-2, atol=1e-6)


def test_covariances_of_both_have_no_digit_there():
    """What costs would be made of if the covariance of two components were formed."""
    g = clusters_far_apart(1e5)
    pair = jax.tree.map(lambda leaf: leaf[jnp.array([0, 4])], g)
    exact = log_det(gmmjax.covariance(cast(pair, jnp.float64)))
    assert abs(log_det(np.asarray(gmmjax.covariance(pair), np.float64)) - exact) > 0.5
