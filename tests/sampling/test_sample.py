"""Draws, point sets, the allocation, and expectations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import KINDS, random_mixture
from scipy import stats
from scipy.stats import qmc

import gmmjax
from gmmjax._sampling import allocation, points


def test_sobol_integers_are_scipys():
    ours = np.asarray(points._reverse(points._sobol_integers(points._directions()[:1024], 192, 64)))
    # scipy walks in Gray-code order: its block 128–191 is block 192–255 of the plain order.
    theirs = qmc.Sobol(1024, scramble=False, bits=32).random(256)[128:192] * 2**32
    np.testing.assert_array_equal(np.sort(ours, axis=1), np.sort(theirs.T, axis=1))


def test_scrambled_points_are_normal_and_even(key):
    z, weight = gmmjax.sobol(key, jnp.arange(64), 0, 256, 3, jnp.float64)
    u = stats.norm.cdf(z / np.sqrt(1 + 2 / 9))
    for coordinate in u:  # one point of each replicate in each of 256 equal intervals
        assert (np.sort(np.floor(coordinate * 256), axis=1) == np.arange(256)).all()
    # a fixed index is uniform over scrambles
    assert stats.kstest(u[:, :, 7].ravel(), "uniform").pvalue > 1e-3
    np.testing.assert_allclose(weight.mean(), 1, atol=1e-3)
    np.testing.assert_allclose((weight * z[0] ** 2).mean(), 1, atol=1e-3)


def test_blocks_of_points_do_not_depend_on_the_cut(key):
    whole = gmmjax.sobol(key, jnp.arange(2), 0, 64, 3, jnp.float64)
    second = gmmjax.sobol(key, jnp.arange(2), 32, 32, 3, jnp.float64)
    np.testing.assert_array_equal(whole[0][:, :, 32:], second[0])


@pytest.mark.parametrize("points", [gmmjax.sobol, gmmjax.iid])
def test_float32_points_are_finite(points, key):
    z, weight = points(key, jnp.arange(64), 0, 65_536, 1, jnp.float32)
    assert np.isfinite(z).all()
    assert np.isfinite(weight).all()


def test_too_many_dimensions_for_sobol(key):
    with pytest.raises(ValueError, match="points=gmmjax.iid"):
        gmmjax.sobol(key, jnp.arange(1), 0, 4, 2000, jnp.float32)


@pytest.mark.parametrize("num_components", [1, 3, 10, 64, 100])
def test_every_component_gets_its_share(num_components):
    g = random_mixture(0, num_components, 1)
    g = g._replace(logits=g.logits.at[0].add(-100.0))  # negligible, but present
    if num_components > 2:
        g = g._replace(logits=g.logits.at[1].set(-jnp.inf))
    shares = allocation.allocate(g, 512)
    counts = allocation.choose(shares, (jnp.arange(512.0) + 0.5) / 512).sum(1)
    share = shares.upper - shares.lower
    np.testing.assert_allclose(share.sum(), 1)
    assert counts.sum() == 512
    assert share[0] > 0
    if num_components > 2:
        assert share[1] == 0
        assert counts[1] == 0
    if allocation.is_dyadic(num_components, 512):
        np.testing.assert_array_equal(counts, share * 512)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_samples", [1, 7, 5000])
def test_sample_shapes(kind, num_samples, key):
    assert gmmjax.sample(key, random_mixture(0, 3, 2, kind=kind), num_samples).shape == (
        num_samples,
        2,
    )


def test_sample_follows_the_density(key):
    g = random_mixture(0, 3, 1)
    x = np.asarray(gmmjax.sample(key, g, 20_000))[:, 0]
    cdf = lambda t: sum(
        w * stats.norm.cdf(t, m, s)
        for w, m, s in zip(gmmjax.weights(g), g.means[:, 0], g.scale[:, 0, 0], strict=True)
    )
    assert stats.kstest(x, cdf).pvalue > 1e-3


def test_sample_has_no_weight_gradient_and_expectation_has(key):
    g = random_mixture(0, 3, 1)
    second = lambda x: x[:, 0] ** 2
    exact = jax.grad(
        lambda g: jnp.sum(gmmjax.weights(g) * (g.means[:, 0] ** 2 + g.scale[:, 0, 0] ** 2))
    )(g)
    through_draws = jax.grad(lambda g: second(gmmjax.sample(key, g, 100_000)).mean())(g)
    assert (through_draws.logits == 0).all()
    assert np.abs(exact.logits).max() > 0.1
    np.testing.assert_allclose(through_draws.means, exact.means, atol=0.05)
    ours = jax.grad(lambda g: gmmjax.expectation(key, second, g).value)(g)
    for name in ("logits", "means", "scale"):
        np.testing.assert_allclose(getattr(ours, name), getattr(exact, name), atol=1e-3)


def test_expectation_of_a_constant_is_exact(key):
    value, stderr = gmmjax.expectation(
        key, lambda x: jnp.full(len(x), 3.0), random_mixture(0, 5, 2)
    )
    np.testing.assert_allclose(value, 3.0, rtol=1e-14)
    assert 0 < stderr < 1e-13


def test_expectation_differentiates_what_fn_closes_over(key):
    g = random_mixture(0, 3, 2)

    def moment(power, index):
        return gmmjax.expectation(
            key, lambda x: jnp.abs(x[:, index]) ** power, g, num_samples=1024
        ).value

    both = jax.jit(jax.value_and_grad(moment))
    difference = (both(2.0 + 1e-5, 1)[0] - both(2.0 - 1e-5, 1)[0]) / 2e-5
    np.testing.assert_allclose(both(2.0, 1)[1], difference, rtol=1e-6)
    many = jax.vmap(moment, (0, None))(jnp.array([1.0, 2.0]), 0)
    np.testing.assert_allclose(many[1], both(2.0, 0)[0], rtol=1e-12)
