"""Distribution functions and quantiles against scipy, in tails that are all but empty."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import KINDS, cast, random_mixture
from gradients import check_gradients
from scipy import optimize, special, stats

import gmmjax

U = np.array([1e-300, 1e-100, 1e-12, 1e-6, 0.1, 0.5, 0.9, 1 - 1e-6, 1 - 1e-12])
kinds = pytest.mark.parametrize("kind", KINDS)
both = pytest.mark.parametrize(("dtype", "rtol"), [(jnp.float64, 1e-10), (jnp.float32, 1e-5)])
cumulate, invert = jax.jit(gmmjax.cdf), jax.jit(gmmjax.quantile)


def on_a_line(kind):
    g = random_mixture(0, 3, 1, kind=kind)
    return g._replace(scale=-g.scale)


def parts(g):
    """Weights, means and deviations in doubles."""
    variances = np.asarray(gmmjax.covariances(cast(g, jnp.float64)))[:, 0, 0]
    w = special.softmax(np.asarray(g.logits, np.float64))
    return w, np.asarray(g.means, np.float64)[:, 0], np.sqrt(variances)


def by_scipy(g, u):
    """The root of log F(x) = log u, or of the same with the other tail."""
    w, means, deviations = parts(g)

    def excess(x):
        z = (x - means) / deviations
        if u < 0.5:
            return special.logsumexp(stats.norm.logcdf(z), b=w) - np.log(u)
        return np.log1p(-u) - special.logsumexp(stats.norm.logsf(z), b=w)

    return optimize.brentq(excess, -500, 500, xtol=1e-14, rtol=1e-14)


@kinds
@both
def test_cdf_is_that_of_scipy(kind, dtype, rtol):
    g = cast(on_a_line(kind), dtype)
    low = -9.0 if dtype == jnp.float32 else -20.0
    x = np.linspace(low, 12, 50).astype(dtype).reshape(5, 10)
    w, means, deviations = parts(g)
    expected = stats.norm.cdf((x.astype(np.float64)[..., None] - means) / deviations) @ w
    found = cumulate(g, x)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=rtol)


def test_ends_of_the_line():
    g = on_a_line("full")
    ends = np.array([-np.inf, np.inf, np.nan])
    np.testing.assert_array_equal(cumulate(g, ends), [0, 1, np.nan])
    np.testing.assert_array_equal(invert(g, np.array([0.0, 1.0, -0.1])), [-np.inf, np.inf, np.nan])
    gradient = jax.grad(lambda g: jnp.sum(cumulate(g, ends[:2])))(g)
    gradient_of_ends = jax.grad(lambda g: invert(g, np.array([0.0, 0.5]))[1])(g)
    for leaf in jax.tree.leaves((gradient, gradient_of_ends)):
        assert np.isfinite(leaf).all()


@kinds
def test_quantiles_are_those_of_scipy(kind):
    g = on_a_line(kind)
    np.testing.assert_allclose(invert(g, U), [by_scipy(g, u) for u in U], rtol=1e-10)


def test_quantiles_in_single_precision():
    g = cast(on_a_line("full"), jnp.float32)
    u = np.array([1e-37, 1e-12, 1e-6, 0.1, 0.5, 0.9, 0.999999], np.float32)
    found = invert(g, u)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, [by_scipy(g, float(v)) for v in u], rtol=1e-5)


def test_quantiles_in_a_gap_and_under_a_rare_component():
    """The flat part of F, and a level that only a component of weight 1e-9 reaches."""
    g = gmmjax.from_covariances([0.5 - 1e-9, 0.5, 1e-9], [[-40.0], [40.0], [300.0]], [1.0, 0.01, 4])
    for u in (0.4999, 0.5001, 1 - 1e-10):
        np.testing.assert_allclose(invert(g, np.array([u])), by_scipy(g, u), rtol=1e-9)


@pytest.mark.parametrize(
    ("logits", "means", "deviations", "levels"),
    [
        ([0.0, 0], [0.0, 0], [1e-4, 1e4], [0.3, 0.6]),
        ([0.0, 0, 0], [0, 1e4, -1e4], [1e-4, 1, 1], [0.4, 0.6]),
        ([0.0, -69], [0, 1e4], [1e-4, 1], [0.1, 0.5]),
    ],
    ids=["wide", "far", "rare"],
)
def test_quantiles_have_the_digits_of_the_component_they_lie_in(logits, means, deviations, levels):
    """The widest and the farthest one had set the accuracy of all: some fell with their level."""
    leaves = logits, np.reshape(means, (-1, 1)), deviations
    g = gmmjax.GMM(*(jnp.asarray(leaf, jnp.float32) for leaf in leaves))
    x = gmmjax.quantile(g, jnp.asarray(levels, jnp.float32))
    np.testing.assert_allclose(gmmjax.cdf(g, x), levels, atol=1e-6)


def test_cdf_of_a_quantile_is_the_level():
    g = on_a_line("full")
    np.testing.assert_allclose(cumulate(g, invert(g, U[1:])), U[1:], rtol=1e-9)
    assert not np.allclose(cumulate(g, invert(g, U[1:]) + 1e-6), U[1:], rtol=1e-9)


@pytest.mark.parametrize("u", [1e-12, 0.3, 1 - 1e-10])
def test_gradients_are_those_of_the_values(u):
    g = on_a_line("diagonal")
    check_gradients(lambda g: invert(g, u), (g,), rtol=1e-6, atol=1e-8)
    at = float(invert(g, u))
    check_gradients(cumulate, (g, at), rtol=1e-6, atol=1e-8)
    slope = np.exp(-gmmjax.log_prob(g, [at]))
    np.testing.assert_allclose(jax.grad(invert, argnums=1)(g, u), slope, rtol=1e-9)


def test_absent_components_do_not_count():
    g = on_a_line("full")
    far = g._replace(
        logits=g.logits.at[0].set(-jnp.inf), means=g.means.at[0].set(-1e3), scale=g.scale
    )
    fewer = jax.tree.map(lambda leaf: leaf[1:], g)
    np.testing.assert_allclose(invert(far, U[2:]), invert(fewer, U[2:]), rtol=1e-12)
    gradient = jax.grad(lambda g: jnp.sum(invert(g, U[2:6])))(far)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_bad_input():
    with pytest.raises(ValueError, match="g: expected a mixture in one dimension, got 2"):
        gmmjax.cdf(random_mixture(0, 2, 2), 0.0)
    with pytest.raises(ValueError, match=r"u: expected probabilities in \[0, 1\], got 1.5"):
        gmmjax.quantile(on_a_line("full"), [0.5, 1.5])
    bad = on_a_line("full")
    bad = bad._replace(means=bad.means.at[0].set(jnp.nan))
    assert np.isnan(invert(bad, 0.5))
