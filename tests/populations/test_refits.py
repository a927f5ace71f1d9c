"""Refits to resampled rows: their spread, their labels, and what is said of those that fail."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_mixture

import gmmjax
from gmmjax._mixture.gmm import index
from gmmjax._populations import refits as internals


@pytest.fixture(scope="module")
def x():
    return gmmjax.sample(jax.random.key(0), random_mixture(0, 2, 2, spread=5.0), 400)


@pytest.fixture(scope="module")
def g(x):
    return gmmjax.em(x, random_mixture(0, 2, 2, spread=5.0)).gmm


@pytest.fixture(scope="module")
def batch(x, g):
    return gmmjax.refits(jax.random.key(1), g, x)


def test_a_batch_of_the_same_structure(g, batch):
    expected = jax.tree.map(lambda leaf: (200, *leaf.shape), g)
    assert jax.tree.map(jnp.shape, batch) == expected


def test_means_spread_as_theory_says(g, batch):
    """Where components are apart: by the root of variance over rows of the component."""
    spread = np.std(batch.means, axis=0)
    variances = np.diagonal(gmmjax.covariances(g), axis1=1, axis2=2)
    theory = np.sqrt(variances / (400 * np.asarray(gmmjax.weights(g))[:, None]))
    np.testing.assert_allclose(spread, theory, rtol=0.25)


def test_a_refit_is_the_fit_of_its_rows(x, g):
    """Here to the counts that its key gives; one step from where it is would not be enough."""
    key = jax.random.split(jax.random.key(1), 200)[7]
    counts = internals._resample(key, len(x), x.dtype)
    assert int(counts.sum()) == len(x)
    found = index(gmmjax.refits(jax.random.key(1), g, x), 7)
    expected = gmmjax.em(np.repeat(x, counts.astype(int), axis=0), g).gmm
    np.testing.assert_allclose(found.means, expected.means, atol=1e-3)
    assert np.abs(found.means - g.means).max() > 0.01


def test_components_keep_their_places(g, batch):
    """Each mean is nearest to the one that it has moved from."""
    gaps = np.linalg.norm(batch.means[:, :, None] - g.means[None, None], axis=-1)
    np.testing.assert_array_equal(gaps.argmin(axis=2), np.tile(np.arange(2), (200, 1)))


def test_fits_from_anywhere_would_switch_them(x, g):
    """The twin: a start with its components the other way around stays so."""
    switched = other_way_around(g)
    batch = gmmjax.refits(jax.random.key(1), switched, x, num_resamples=8)
    gaps = np.linalg.norm(batch.means[:, :, None] - g.means[None, None], axis=-1)
    np.testing.assert_array_equal(gaps.argmin(axis=2), np.tile([1, 0], (8, 1)))


def other_way_around(g):
    return jax.tree.map(lambda leaf: leaf[::-1], g)


def test_a_function_of_a_mixture_has_a_spread(x, batch):
    """The mean of a mixture moves as the mean of its rows."""
    means = jax.vmap(gmmjax.mean)(batch)
    np.testing.assert_allclose(np.std(means, axis=0), np.std(x, axis=0) / 20, rtol=0.25)


def test_collapsed_components_are_told(x, g):
    """A third component on one row, which half of the resamples leave out or hold twice."""
    more = gmmjax.GMM(
        jnp.append(g.logits, -5.0),
        jnp.concatenate([g.means, x[:1]]),
        jnp.concatenate([g.scale, 1e-3 * jnp.eye(2)[None]]),
    )
    with pytest.warns(UserWarning, match="refits: of g, .* of 40 fits .* collapse"):
        gmmjax.refits(jax.random.key(1), more, x, num_resamples=40)


def test_fits_that_do_not_converge_are_told(x, g, monkeypatch):
    monkeypatch.setattr(internals, "MOST_STEPS", 1)
    with pytest.warns(UserWarning, match="39 of 39 .* not converged after 1 steps"):
        gmmjax.refits(jax.random.key(1), g, x, num_resamples=39)


def test_nothing_is_told_of_sound_fits(x, g):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gmmjax.refits(jax.random.key(2), g, x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_resamples": 0}, "num_resamples: expected at least 1"),
        ({"x": np.zeros((1, 2))}, "x: has too few rows"),
        ({"g": 3}, "g: expected a gmmjax.GMM"),
        ({"key": 3}, "key: expected a JAX key"),
    ],
)
def test_bad_arguments_are_named(x, g, arguments, message):
    given = {"key": jax.random.key(0), "g": g, "x": x, **arguments}
    with pytest.raises((TypeError, ValueError), match=message):
        gmmjax.refits(given.pop("key"), given.pop("g"), given.pop("x"), **given)
