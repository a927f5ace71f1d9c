"""Conditional mixtures: joint density over marginal density, also 40 standard deviations out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import KINDS, cast, densified, random_mixture
from gradients import check_gradients
from scipy import special, stats

import gmmjax

X = np.random.default_rng(0).normal(size=(5, 2))
NEAR, FAR = np.array([0.3, -0.7]), np.array([40.0, -25.0])
kinds = pytest.mark.parametrize("kind", KINDS)


@jax.jit
def given(g, values):
    return gmmjax.condition(g, [2, 0], values)


def component_logs(g, x, dims):
    """Log w_k N(x) of some coordinates by scipy, `(n, K)`."""
    means, covariances = np.asarray(g.means)[:, dims], np.asarray(gmmjax.covariances(g))
    return special.log_softmax(g.logits) + np.stack(
        [
            stats.multivariate_normal(m, c[np.ix_(dims, dims)]).logpdf(x)
            for m, c in zip(means, covariances, strict=True)
        ],
        axis=-1,
    )


def expected_log_prob(g, values):
    """Log p(x₁, x₃ | x₂, x₀) at `X`, by scipy."""
    whole = np.stack([np.full(5, values[1]), X[:, 0], np.full(5, values[0]), X[:, 1]], axis=1)
    joint = special.logsumexp(component_logs(g, whole, [0, 1, 2, 3]), axis=-1)
    return joint - special.logsumexp(component_logs(g, values, [2, 0]))


@kinds
@pytest.mark.parametrize("values", [NEAR, FAR], ids=["near", "far"])
def test_it_is_the_joint_density_over_the_marginal_one(kind, values):
    g = random_mixture(0, 3, 4, kind=kind)
    g = g._replace(scale=-g.scale)
    expected = expected_log_prob(g, values)
    found = given(g, values)
    assert (found.scale.ndim, len(found.scale)) == (g.scale.ndim, len(g.scale))
    np.testing.assert_allclose(gmmjax.log_prob(found, X), expected, rtol=1e-10)
    np.testing.assert_allclose(gmmjax.weights(found).sum(), 1, rtol=1e-12)
    # the marginal of the other coordinates is another density
    assert np.abs(gmmjax.log_prob(gmmjax.marginal(g, [1, 3]), X) - expected).max() > 0.01


@kinds
def test_weights_are_right_in_single_precision_where_far_components_compete(kind):
    """Exponents are of size 800, and logits make up for what they differ by."""
    g = random_mixture(0, 3, 4, kind=kind)
    g = g._replace(logits=g.logits - given(g, FAR).logits)
    single, values = cast((g, FAR), jnp.float32)
    double, at = cast((single, values), jnp.float64)
    logs = component_logs(double, np.asarray(at), [2, 0])
    np.testing.assert_allclose(
        gmmjax.weights(given(single, values)), special.softmax(logs), atol=1e-6
    )
    # which is more than plain sums of single precision know
    assert np.abs(special.softmax(logs.astype(np.float32)) - special.softmax(logs)).max() > 1e-6


def test_weights_are_right_in_single_precision_for_any_of_many_far_values():
    """Rounding goes wrong for some, and by 1e-5, where the compiler joins products and
    sums.
    """
    g = random_mixture(0, 3, 4)
    directions = np.random.default_rng(1).normal(size=(200, 2))
    values = 40 * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    single, values = cast((g, values), jnp.float32)
    double, at = cast((single, values), jnp.float64)
    worst, largest = 0.0, []
    # one at a time, and compiled as it is for users: the suite's settings join no instructions
    usual = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}
    given_single = given.lower(single, values[0]).compile(compiler_options=usual)
    for value, exact in zip(values, at, strict=True):
        # logits make up for what the exponents differ by, as well as single precision can
        logits = cast(-given(double, exact).logits, jnp.float32)
        expected = gmmjax.weights(given(double._replace(logits=cast(logits, jnp.float64)), exact))
        found = gmmjax.weights(given_single(single._replace(logits=logits), value))
        worst = max(worst, np.abs(found - expected).max())
        largest.append(expected.max())
    assert worst < 1e-6
    assert np.median(largest) < 0.5  # all three compete


@pytest.mark.parametrize("values", [NEAR, FAR], ids=["near", "far"])
def test_gradients_are_those_of_the_values(values):
    for kind in ("full", "spherical"):
        g = random_mixture(0, 3, 4, kind=kind)
        # far out one component takes all
        g = g._replace(logits=g.logits - given(g, values).logits)

        def outcome(g, values):
            found = given(g, values)
            return gmmjax.weights(found), found.means, gmmjax.covariances(found)

        check_gradients(outcome, (g, values), rtol=1e-5, atol=1e-5)


def test_absent_components_stay_absent():
    g = random_mixture(0, 3, 4)
    absent = g._replace(logits=g.logits.at[1].set(-jnp.inf))
    fewer = jax.tree.map(lambda leaf: leaf[np.array([0, 2])], g)
    np.testing.assert_allclose(
        gmmjax.log_prob(given(absent, NEAR), X), gmmjax.log_prob(given(fewer, NEAR), X), rtol=1e-12
    )
    gradient = jax.grad(lambda g: gmmjax.log_prob(given(g, NEAR), X).sum())(absent)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert not np.any(gradient.means[1])
    assert np.any(gradient.means[0])


def test_coordinates_that_come_first_are_not_factorised_anew():
    g = random_mixture(0, 3, 4)
    first = gmmjax.condition(g, [0, 1], NEAR)
    np.testing.assert_array_equal(first.scale, g.scale[:, 2:, 2:])
    one = [gmmjax.condition(g, [0], value) for value in (0.3, [0.3])]
    np.testing.assert_array_equal(one[0].means, one[1].means)
    np.testing.assert_allclose(
        gmmjax.log_prob(gmmjax.condition(g, [1, 0], NEAR[::-1]), X),
        gmmjax.log_prob(first, X),
        rtol=1e-12,
    )


def test_a_batch_of_values():
    g = densified(random_mixture(0, 3, 4))
    values = np.stack([NEAR, FAR])
    batch = jax.vmap(given, in_axes=(None, 0))(g, values)
    for i in range(2):
        alone = given(g, values[i])
        np.testing.assert_allclose(batch.means[i], alone.means, rtol=1e-12)


@pytest.mark.parametrize(
    ("dims", "values", "message"),
    [
        ([0, 1, 2, 3], np.zeros(4), "dims: all 4 coordinates are known"),
        ([0, 0], np.zeros(2), "dims: names a coordinate twice"),
        ([7], np.zeros(1), r"dims: .* got \[7\]"),
        ([0], np.zeros(2), r"values: expected shape \(1,\), one for each of dims, got \(2,\)"),
        ([0], [np.nan], "values: expected finite numbers, got .nan"),
    ],
)
def test_bad_input(dims, values, message):
    with pytest.raises(ValueError, match=message):
        gmmjax.condition(random_mixture(0, 2, 4), dims, values)
