"""Which points belong to which component: shares, their order, and what becomes of absent ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gmmjax
from gmmjax._sampling import allocation


def mixture(weights):
    with np.errstate(divide="ignore"):
        logits = np.log(weights)
    count = len(logits)
    return gmmjax.GMM(jnp.asarray(logits), jnp.zeros((count, 1)), jnp.ones(count))


def shares(weights, num_points):
    return np.asarray(allocation.allocate(mixture(weights), num_points).share)


def test_a_quarter_is_given_evenly():
    """Of four components, where no share needs rounding: 3/4 w + 1/4 · 1/4."""
    weights = np.array([7 / 12, 1 / 4, 1 / 12, 1 / 12])
    np.testing.assert_allclose(shares(weights, 1 << 10), [1 / 2, 1 / 4, 1 / 8, 1 / 8])


def test_a_rare_mode_has_an_eighth_of_an_even_share_at_least():
    """Whatever its weight: a quarter of an even share, rounded down to a power of two."""
    found = shares([0.5 - 5e-10, 0.5 - 5e-10, 1e-9], 1 << 10)
    assert found[2] >= 1 / 16
    np.testing.assert_allclose(found.sum(), 1)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13])
@pytest.mark.parametrize("num_points", [4, 32, 1 << 12])
def test_every_point_has_one_owner(count, num_points):
    weights = np.random.default_rng(count).dirichlet(np.ones(count))
    owned = allocation.allocate(mixture(weights), num_points)
    middles = (jnp.arange(num_points) + 0.5) / num_points
    choice = np.asarray(allocation.choose(owned, middles))
    np.testing.assert_array_equal(choice.sum(axis=0), 1)
    np.testing.assert_allclose(owned.share.sum(), 1)
    assert (np.asarray(owned.share) > 0).all()
    # The rate of a component times its share is its weight.
    rates = owned.rates(mixture(weights).logits)
    np.testing.assert_allclose(rates * owned.share, weights)


def test_shares_are_aligned_powers_of_two_where_points_suffice():
    """From large to small, so that each starts at a multiple of its length."""
    owned = allocation.allocate(mixture([0.05, 0.6, 0.2, 0.15]), 1 << 10)
    lower, share = np.asarray(owned.lower), np.asarray(owned.share)
    for start, length in sorted(zip(lower, share, strict=True))[:-1]:
        assert np.log2(length) % 1 == 0
        assert start / length % 1 == 0
    assert list(np.argsort(lower)) == list(np.argsort(-share, kind="stable"))


def test_no_component_loses_more_than_half_of_its_share():
    weights = np.random.default_rng(0).dirichlet(np.ones(6))
    ideal = 0.75 * weights + 0.25 / 6
    owned = allocation.allocate(mixture(weights), 1 << 10)
    found = np.asarray(owned.share)
    assert (found > ideal / 2).all()
    first = np.asarray(owned.upper) < 1  # the last one owns what is left
    assert (found <= 2 * ideal)[first].all()


def test_with_few_points_shares_keep_six_bits():
    weights = np.array([0.5, 0.3, 0.2])
    assert not allocation.is_dyadic(3, 16)
    ideal = 0.75 * weights + 0.25 / 3
    np.testing.assert_allclose(shares(weights, 16), ideal, rtol=1 / 32)


def test_a_small_step_moves_no_point():
    weights = np.array([0.5, 0.3, 0.2])
    for num_points in (16, 1 << 10):
        moved = weights + 1e-7 * np.array([1.0, -2.0, 1.0])
        np.testing.assert_array_equal(shares(weights, num_points), shares(moved, num_points))


def test_absent_components_own_nothing():
    found = allocation.allocate(mixture([0.0, 0.7, 0.0, 0.3]), 1 << 10)
    np.testing.assert_array_equal(np.asarray(found.share)[[0, 2]], 0)
    np.testing.assert_array_equal(found.rates(mixture([0.0, 0.7, 0.0, 0.3]).logits)[::2], 0)
    np.testing.assert_allclose(found.share.sum(), 1)


@pytest.mark.parametrize(
    ("count", "num_points", "length"),
    [(1, 8, 2), (2, 16, 2), (3, 1024, 64), (4, 1024, 64), (5, 1024, 32), (4, 31, 0)],
)
def test_runs_of_one_owner(count, num_points, length):
    assert allocation.run_length(count, num_points) == length


def test_next_power_of_two():
    found = [allocation.next_power_of_two(count) for count in (1, 2, 3, 4, 5, 1023, 1024)]
    assert found == [1, 2, 4, 4, 8, 1024, 1024]


@pytest.mark.parametrize("shape", [(3, 2, 2), (1, 2, 2), (3, 2), (2, 2), (1, 2), (3,), (1,)])
@pytest.mark.parametrize("group", [1, 4])
def test_points_are_placed(shape, group):
    """μ_k + L_k z of each point, by a plain loop."""
    rng, count = np.random.default_rng(0), 2 if shape[0] == 2 else 3
    means, scale = rng.normal(size=(count, 2)), rng.normal(size=shape)
    scale = np.tril(scale) if scale.ndim == 3 else scale
    owners = np.array([0, count - 1, 1, count - 1])
    z = rng.normal(size=(2, 4, group))
    found = allocation.place(jnp.eye(count)[:, owners], jnp.asarray(means), jnp.asarray(scale), z)
    for i, k in enumerate(owners):
        part = scale[k if len(scale) > 1 else 0]
        moved = part @ z[:, i] if part.ndim == 2 else np.reshape(part, (-1, 1)) * z[:, i]
        np.testing.assert_allclose(
            found[:, i * group : (i + 1) * group], means[k][:, None] + moved, rtol=1e-12
        )


def test_no_gradient_passes_through_a_share():
    def share(logits):
        return allocation.allocate(mixture(np.ones(3))._replace(logits=logits), 1 << 10).share[0]

    assert not jax.grad(share)(jnp.array([0.0, 1.0, 2.0])).any()
