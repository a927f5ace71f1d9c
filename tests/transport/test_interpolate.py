"""Interpolations and maps against POT, geodesics and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import KINDS, cast, densified, random_mixture
from gradients import check_gradients
from jax.test_util import check_grads

import gmmjax
from gmmjax._transport.coupling import coupling
from gmmjax._transport.polar import polar

X = np.random.default_rng(0).normal(size=(6, 2))
between, carry, distance, couple = (
    jax.jit(f) for f in (gmmjax.mw2_interpolate, gmmjax.mw2_map, gmmjax.mw2_squared, coupling)
)
kinds = pytest.mark.parametrize("kind", KINDS)


def pair(kind):
    p, q = random_mixture(0, 3, 2, kind=kind), random_mixture(1, 2, 2, kind=kind)
    return p._replace(scale=-p.scale), q


@kinds
def test_the_ends_are_the_mixtures(kind):
    p, q = pair(kind)
    for t, end in ((0.0, p), (1.0, q)):
        found = between(p, q, t)
        assert (found.scale.ndim, len(found.scale) == 1) == (p.scale.ndim, len(p.scale) == 1)
        expected = gmmjax.log_prob(end, X)
        np.testing.assert_allclose(gmmjax.log_prob(found, X), expected, rtol=1e-10)


@pytest.mark.parametrize("kind", ["full", "diagonal", "tied spherical"])
def test_it_is_a_geodesic(kind):
    p, q = pair(kind)
    whole = np.sqrt(distance(p, q))
    for t in (0.25, 0.6):
        middle = between(p, q, t)
        np.testing.assert_allclose(np.sqrt(distance(p, middle)), t * whole, rtol=1e-7)
        np.testing.assert_allclose(np.sqrt(distance(middle, q)), (1 - t) * whole, rtol=1e-7)
    # the plain mixture of both is not on the way
    mixed = gmmjax.mix([p, q], [0.4, 0.6])
    assert np.sqrt(distance(p, mixed)) + np.sqrt(distance(mixed, q)) > 1.05 * whole


def test_components_between_single_gaussians_and_in_single_precision():
    p, q = random_mixture(0, 1, 2), random_mixture(1, 1, 2)
    found = between(*cast((p, q), jnp.float32), np.float32(0.3))
    expected = between(p, q, 0.3)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == jnp.float32
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@kinds
def test_maps_are_those_of_pot(kind):
    gmm = pytest.importorskip("ot.gmm")
    p, q = pair(kind)
    means = np.asarray(p.means), np.asarray(q.means)
    covariances = np.asarray(gmmjax.covariances(p)), np.asarray(gmmjax.covariances(q))
    weights = np.asarray(gmmjax.weights(p)), np.asarray(gmmjax.weights(q))
    expected = gmm.gmm_ot_apply_map(X, *means, *covariances, *weights)
    np.testing.assert_allclose(carry(p, q, X), expected, rtol=1e-7, atol=1e-9)
    assert np.abs(expected - X).max() > 0.1


@kinds
def test_the_map_of_one_gaussian_has_the_other_as_its_image(kind):
    p, q = random_mixture(0, 1, 2, kind=kind), random_mixture(1, 1, 2, kind=kind)
    slope = jax.vmap(jax.jacobian(lambda x: carry(p, q, x)))(X)
    np.testing.assert_allclose(slope, slope.swapaxes(1, 2), atol=1e-12)
    image = slope @ gmmjax.covariances(p)[0] @ slope
    np.testing.assert_allclose(image, [gmmjax.covariances(q)[0]] * 6, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(carry(p, q, p.means), q.means, rtol=1e-12)


def test_mixed_structures_are_their_dense_forms():
    p, q = random_mixture(0, 3, 2, kind="spherical"), random_mixture(1, 2, 2, kind="tied")
    dense = densified(p), densified(q)
    np.testing.assert_allclose(carry(p, q, X), carry(*dense, X), rtol=1e-10)
    found, expected = between(p, q, 0.4), between(*dense, 0.4)
    np.testing.assert_allclose(gmmjax.covariances(found), gmmjax.covariances(expected), rtol=1e-10)


@pytest.mark.parametrize("kind", ["full", "diagonal"])
def test_gradients_are_those_of_the_values(kind):
    p, q = pair(kind)

    def outcome(p, q, t, x):
        found = gmmjax.mw2_interpolate(p, q, t)
        moved = gmmjax.mw2_map(p, q, x)
        # Absent ones may hold anything, and have no gradient.
        present = found.logits > -jnp.inf
        spread = gmmjax.covariances(found) * present[:, None, None]
        return gmmjax.weights(found), found.means * present[:, None], spread, moved

    check_gradients(outcome, (p, q, 0.3, X))


def test_the_plan_follows_the_weights():
    """As the plan itself does, in a direction that keeps both sums equal."""
    rng = np.random.default_rng(0)
    cost, supply, demand = rng.normal(size=(4, 3)), rng.dirichlet(np.ones(4)), np.ones(3) / 3
    d_supply, d_demand = (a - a.mean() for a in (rng.normal(size=4), rng.normal(size=3)))

    def along(h):
        return np.asarray(couple(cost, supply + h * d_supply, demand + h * d_demand))

    _, found = jax.jvp(couple, (cost, supply, demand), (0 * cost, d_supply, d_demand))
    np.testing.assert_allclose(found, (along(1e-4) - along(-1e-4)) / 2e-4, atol=1e-9)
    assert np.abs(found).max() > 0.1


def test_a_plan_in_parts_has_a_finite_derivative():
    """Equal weights: each part is one pair, and half of either side's change goes through it."""
    cost, even = 1 - np.eye(3), np.full(3, 1 / 3)
    change = np.array([1.0, -1.0, 0.0])
    _, found = jax.jvp(couple, (cost, even, even), (0 * cost, change, 0 * change))
    np.testing.assert_allclose(found, np.diag(change / 2), atol=1e-12)
    _, found = jax.jvp(couple, (cost, even, even), (0 * cost, change, change))
    np.testing.assert_allclose(found, np.diag(change), atol=1e-12)


def test_polar_factors_turn_as_they_should():
    matrix = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 3)))

    def turned(matrix):
        return polar(matrix, jnp.linalg.inv(jax.lax.stop_gradient(matrix)))

    check_grads(jax.jit(turned), (matrix,), order=1, rtol=1e-6)


def test_absent_components_do_not_count():
    p, q = pair("full")
    p = p._replace(logits=p.logits.at[0].set(-jnp.inf), means=p.means.at[0].set(100.0))
    fewer = jax.tree.map(lambda leaf: leaf[1:], p)
    np.testing.assert_allclose(carry(p, q, X), carry(fewer, q, X), rtol=1e-10)
    gradient = jax.grad(lambda p: carry(p, q, X).sum() + between(p, q, 0.5).means[2:].sum())(p)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert not np.any(gradient.scale[0])


def test_bad_input():
    p, q = pair("full")
    with pytest.raises(ValueError, match=r"t: expected a number in \[0, 1\], got 1.5"):
        gmmjax.mw2_interpolate(p, q, 1.5)
    with pytest.raises(ValueError, match=r"t: expected a number, got shape \(2,\)"):
        gmmjax.mw2_interpolate(p, q, [0.0, 1.0])
    assert np.isnan(between(p, q, 1.5).means).all()
    with pytest.raises(ValueError, match=r"x: expected points of shape \(…, 2\), got \(3,\)"):
        gmmjax.mw2_map(p, q, np.zeros(3))
