"""What merges cost: each formula against the definition it stands for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_mixture

import gmmjax
from gmmjax._mixture.gmm import index
from gmmjax._reduction import merge, parts

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
    c, count = parts.from_gmm(g), g.num_components
    labels, left = np.arange(count), list(range(count))
    rows = jax.vmap(lambda c, i: jax.tree.leaves(cost(parts.to_gmm(c), i)), (None, 0))
    tables = jax.jit(lambda c: rows(c, jnp.arange(count)))
    join = jax.jit(lambda c, i, j: index(merge.merged(c, i), j))
    for _ in range(num_merges):
        costs = np.stack([np.round(table, 12) for table in tables(c)], axis=-1)
        pairs = [(*costs[i, j], i, j) for i in left for j in left if i < j]
        *_, i, j = min(pairs)
        c = jax.tree.map(lambda leaf, new, i=i: leaf.at[i].set(new), c, join(c, i, j))
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
    c = parts.Parts(jnp.zeros(2), jnp.array([[0.0, 0.0], [2.0, 0.0]]), jnp.stack([jnp.eye(2)] * 2))
    both = index(merge.merged(c, 0), 1)
    np.testing.assert_allclose(both.means, [1.0, 0.0])
    np.testing.assert_allclose(both.covariances, np.diag([2.0, 1.0]))
