"""Matches against scipy's assignment."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import KINDS, cast, random_mixture
from scipy.optimize import linear_sum_assignment

import gmmjax
from gmmjax._transport.wasserstein import pairwise_w2_squared

kinds = pytest.mark.parametrize("kind", KINDS)


def table(p, q, cost):
    """Costs of all pairs, one call each."""
    one = lambda g, k: jax.tree.map(lambda leaf: leaf[k : k + 1] if len(leaf) > 1 else leaf, g)
    pairs = [
        [cost(one(p, a), one(q, b)) for b in range(q.num_components)]
        for a in range(p.num_components)
    ]
    return np.array(pairs)


@pytest.mark.parametrize("counts", [(4, 4), (3, 5)])
@kinds
def test_it_is_the_cheapest_assignment(kind, counts):
    p, q = (random_mixture(i, count, 2, kind=kind) for i, count in enumerate(counts))
    _, expected = linear_sum_assignment(pairwise_w2_squared(p, q))
    np.testing.assert_array_equal(gmmjax.match(p, q), expected)
    _, single = linear_sum_assignment(-pairwise_w2_squared(p, q))
    assert (single != expected).any()


def squared_means(p, q):
    return jnp.sum((p.means - q.means) ** 2)


@pytest.mark.parametrize("cost", [gmmjax.gaussian_kl, gmmjax.gaussian_bhattacharyya, squared_means])
def test_any_cost(cost):
    p, q = random_mixture(0, 3, 2), random_mixture(7, 3, 2, kind="tied")
    _, expected = linear_sum_assignment(table(p, q, jax.jit(cost)))
    np.testing.assert_array_equal(gmmjax.match(p, q, cost=cost), expected)


@kinds
def test_components_that_changed_places_come_back(kind):
    p = random_mixture(0, 5, 2, kind=kind)
    q = gmmjax.reorder(p, [3, 1, 4, 0, 2])
    back = gmmjax.reorder(q, gmmjax.match(*cast((p, q), jnp.float32)))
    for ours, theirs in zip(back, p, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert (q.means != p.means).any()


def test_present_components_are_matched_with_present_ones():
    p = gmmjax.GMM(jnp.array([0.0, -jnp.inf, 0.0]), jnp.array([[0.0], [9.0], [1.0]]), jnp.ones(3))
    q = gmmjax.GMM(jnp.array([0.0, -jnp.inf, 0.0]), jnp.array([[9.0], [0.0], [7.0]]), jnp.ones(3))
    np.testing.assert_array_equal(gmmjax.match(p, q), [2, 1, 0])
    everyone = q._replace(logits=jnp.zeros(3))
    np.testing.assert_array_equal(
        gmmjax.match(p._replace(logits=jnp.zeros(3)), everyone), [1, 0, 2]
    )


def forbids(p, q):
    distance = jnp.sum((p.means - q.means) ** 2)
    return jnp.where(distance < 4, jnp.inf, distance)


def test_infinite_costs_forbid_a_pair():
    p = gmmjax.GMM(jnp.zeros(2), jnp.array([[0.0], [5.0]]), jnp.ones(2))
    np.testing.assert_array_equal(gmmjax.match(p, p), [0, 1])
    np.testing.assert_array_equal(gmmjax.match(p, p, cost=forbids), [1, 0])


def test_batches():
    p = gmmjax.stack([random_mixture(0, 3, 2), random_mixture(1, 3, 2)])
    q = gmmjax.stack([random_mixture(2, 3, 2), random_mixture(3, 3, 2)])
    order = jax.vmap(gmmjax.match)(p, q)
    matched = jax.vmap(gmmjax.reorder)(q, order)
    for i in range(2):
        alone = [jax.tree.map(lambda leaf, i=i: leaf[i], batch) for batch in (p, q)]
        np.testing.assert_array_equal(order[i], gmmjax.match(*alone))
        np.testing.assert_array_equal(matched.means[i], alone[1].means[order[i]])


def test_bad_input():
    p, q = random_mixture(0, 3, 2), random_mixture(1, 2, 2)
    with pytest.raises(ValueError, match="q: has 2 components, fewer than the 3 of p"):
        gmmjax.match(p, q)
    with pytest.raises(TypeError, match="cost: expected a function, got 'w2'"):
        gmmjax.match(q, p, cost="w2")
    with pytest.raises(
        ValueError, match=r"cost: expected a scalar for two Gaussians, got .*\(2,\)"
    ):
        gmmjax.match(q, p, cost=lambda a, b: (a.means - b.means)[0])
    bad = p._replace(means=p.means.at[1].set(jnp.nan))
    with pytest.raises(ValueError, match="q.means: expected finite values, got .* for component 1"):
        gmmjax.match(q, bad)
    with pytest.raises(ValueError, match="cost: is NaN between component 0 of p and component 0"):
        gmmjax.match(q, p, cost=lambda a, b: jnp.nan * a.means[0, 0])
    np.testing.assert_array_equal(jax.jit(gmmjax.match)(q, bad), [-1, -1])
    for order, message in (
        ([0.5], "order: expected .* of float64"),
        ([-1], "order: expected indices 0 … 2, got -1"),
        ([3], "got 3"),
        ([], r"order: .*shape \(0,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            gmmjax.reorder(p, order)
    assert np.isnan(jax.jit(gmmjax.reorder)(p, jnp.array([0, 5])).logits).all()
