"""Published approximations: their published values, and that they are no bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import REFERENCE, alike, cast, random_mixture

import gmmjax

NAMES = ("kl_variational", "kl_product", "kl_matched", "kl_unscented", "kl_moment_matched")
every = pytest.mark.parametrize("approximation", NAMES)


@every
@pytest.mark.parametrize("name", REFERENCE)
def test_published_values(approximation, name):
    expected = REFERENCE[name]["approximations"][approximation]
    function = getattr(gmmjax, approximation)
    wide, narrow = function(*alike(name)), function(*cast(alike(name), jnp.float32))
    np.testing.assert_allclose(wide, expected, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(narrow, wide, rtol=1e-4, atol=1e-5)


@every
def test_no_bound(approximation):
    """Below the truth on one pair and above it on another."""
    gaps = found_on_all_pairs(approximation) - [r["exact"]["kl_pq"] for r in REFERENCE.values()]
    assert gaps.min() < -1e-4
    assert gaps.max() > 1e-4


@every
def test_some_are_negative_somewhere(approximation):
    negative = {"kl_variational", "kl_matched", "kl_unscented"}
    smallest = found_on_all_pairs(approximation).min()
    assert (smallest < -1e-3) == (approximation in negative)


def found_on_all_pairs(approximation):
    return np.array([getattr(gmmjax, approximation)(*alike(name)) for name in REFERENCE])


def test_all_but_one_are_exact_for_single_gaussians():
    p, q = random_mixture(0, 1, 3), random_mixture(1, 1, 3)
    truth = gmmjax.gaussian_kl(p, q)
    for name in NAMES:
        value = getattr(gmmjax, name)(p, q)
        assert (abs(value - truth) < 1e-12 * truth) == (name != "kl_product")


def test_merging_keeps_the_outer_product_of_the_shifts():
    # N(±2e₁, I) has covariance diag(5, 1); published code adds the inner product to every entry.
    p = gmmjax.GMM(jnp.zeros(2), jnp.array([[2.0, 0.0], [-2.0, 0.0]]), jnp.ones(1))
    q = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 2)), jnp.ones(1))
    np.testing.assert_allclose(
        gmmjax.kl_moment_matched(p, q), 0.5 * (6 - 2 - np.log(5)), rtol=1e-13
    )


def test_unscented_points_are_not_random():
    p, q = random_mixture(0, 2, 3), random_mixture(1, 2, 3)
    w, factors = np.asarray(gmmjax.weights(p)), np.sqrt(3) * np.tril(np.asarray(p.scale))
    steps = np.concatenate([factors, -factors], axis=2).swapaxes(1, 2)
    points = np.asarray(p.means)[:, None] + steps
    expected = w @ (gmmjax.log_prob(p, points) - gmmjax.log_prob(q, points)).mean(axis=1)
    np.testing.assert_allclose(gmmjax.kl_unscented(p, q), expected, rtol=1e-11)


@every
def test_gradients_are_finite_at_the_edges(approximation):
    p, q = random_mixture(0, 3, 2), random_mixture(1, 3, 2)
    both = jax.jit(jax.value_and_grad(getattr(gmmjax, approximation), argnums=(0, 1)))
    absent = p._replace(logits=p.logits.at[0].set(-jnp.inf))
    twice = jax.tree.map(lambda leaf: leaf.at[2].set(leaf[1]), p)
    far = p._replace(means=p.means.at[0].add(1e4))
    for a, b in ((p, p), (absent, q), (q, absent), (twice, q), (far, q), (q, far)):
        value, gradient = both(a, b)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((value, gradient)))
        if a is b and approximation != "kl_matched":
            assert abs(value) < 1e-13
        if a is absent:
            assert gradient[0].logits[0] == 0
            assert np.abs(gradient[0].means[0]).max() == 0


def test_moments_do_not_feel_an_offset():
    at = lambda x: gmmjax.GMM(
        *(jnp.asarray(a, jnp.float32) for a in ([0.0, 1.0], [[x], [x + 1]], [0.5, 0.5]))
    )
    here, far = (
        gmmjax.kl_moment_matched(at(x), at(x)._replace(logits=jnp.zeros(2, jnp.float32)))
        for x in (0.0, 1e6)
    )
    np.testing.assert_allclose(far, here, rtol=1e-5)


def test_moments_of_what_is_far_apart_in_single_precision():
    """The covariance has lost what is across: its Cholesky factor was NaN or noise."""
    far = 3e4 * np.array([[-1.0, -1, -1], [1, 1, 1]])
    p = gmmjax.GMM(jnp.zeros(2), jnp.asarray(far), jnp.ones(2))
    q = p._replace(scale=jnp.full(2, 2.0))
    wide, narrow = (gmmjax.kl_moment_matched(*pair) for pair in ((p, q), cast((p, q), jnp.float32)))
    np.testing.assert_allclose(narrow, wide, rtol=0.02)


@every
def test_many_dimensions_in_float32(approximation):
    function = getattr(gmmjax, approximation)
    p = random_mixture(0, 3, 100, kind="diagonal")
    q = p._replace(means=p.means + 0.1)
    wide, narrow = function(p, q), function(*cast((p, q), jnp.float32))
    assert 0.1 < wide < jnp.inf
    np.testing.assert_allclose(narrow, wide, rtol=1e-4)
