"""Barycentres against POT, the two-mixture geodesic, and their own definition."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import KINDS, cast, random_mixture
from gradients import check_gradients

import gmmjax

X = np.random.default_rng(0).normal(size=(6, 2))
barycenter = jax.jit(gmmjax.mw2_barycenter, static_argnames="num_components")
distance = jax.jit(gmmjax.mw2_squared)
LAMBDA = np.array([0.5, 0.2, 0.3])


def even(g):
    """With equal weights."""
    return g._replace(logits=jnp.zeros(g.num_components))


def three(kind="full"):
    return [random_mixture(seed, 2, 2, kind=kind) for seed in range(3)]


def spread(g, mixtures, weights):
    return sum(w * float(distance(g, p)) for w, p in zip(weights, mixtures, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_one_gaussian_each_gives_the_bures_barycentre(kind):
    gaussian = pytest.importorskip("ot.gaussian")
    mixtures = [random_mixture(seed, 1, 2, kind=kind) for seed in range(3)]
    found = barycenter(mixtures, LAMBDA)
    means = np.concatenate([g.means for g in mixtures])
    covariances = np.concatenate([gmmjax.covariances(g) for g in mixtures])
    mean, covariance = gaussian.bures_wasserstein_barycenter(
        means, covariances, LAMBDA, num_iter=500, eps=1e-14
    )
    np.testing.assert_allclose(found.means[0], mean, rtol=1e-10)
    np.testing.assert_allclose(gmmjax.covariances(found)[0], covariance, rtol=1e-9, atol=1e-12)
    assert found.scale.ndim == mixtures[0].scale.ndim
    # the mean of covariances is not it
    assert np.abs(np.tensordot(LAMBDA, covariances, 1) - covariance).max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_two_mixtures_give_a_point_of_the_geodesic(kind):
    p, q = random_mixture(0, 3, 2, kind=kind), random_mixture(1, 2, 2, kind=kind)
    found = barycenter([p, q], np.array([0.7, 0.3]))
    assert found.num_components == 4
    assert (found.scale.ndim, len(found.scale) == 1) == (p.scale.ndim, len(p.scale) == 1)
    expected = gmmjax.log_prob(gmmjax.mw2_interpolate(p, q, 0.3), X)
    np.testing.assert_allclose(gmmjax.log_prob(found, X), expected, rtol=1e-8)


def test_the_barycentre_of_one_mixture_is_that_mixture():
    p = random_mixture(0, 2, 2)
    for weights in (LAMBDA, np.array([0.0, 1.0, 0.0])):
        found = barycenter([p, p, p], weights)
        np.testing.assert_allclose(gmmjax.log_prob(found, X), gmmjax.log_prob(p, X), rtol=1e-8)


def test_it_is_a_fixed_point_of_pot_and_no_worse():
    gmm = pytest.importorskip("ot.gmm")
    mixtures = [even(g) for g in three()]
    found = barycenter(mixtures, LAMBDA, num_components=2)
    parts = [
        [np.asarray(a) for a in (g.means, gmmjax.covariances(g), gmmjax.weights(g))]
        for g in mixtures
    ]
    run = functools.partial(gmm.gmm_barycenter_fixed_point, *map(list, zip(*parts, strict=True)))
    means, covariances = np.array(found.means), np.array(gmmjax.covariances(found))
    again, covariances_again = run(means.copy(), covariances.copy(), LAMBDA, iterations=1)
    np.testing.assert_allclose(again, means, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(covariances_again, covariances, rtol=1e-5, atol=1e-7)
    theirs = run(parts[0][0].copy(), parts[0][1].copy(), LAMBDA, iterations=20)
    other = gmmjax.from_covariances(np.ones(2), *theirs)
    assert spread(found, mixtures, LAMBDA) <= spread(other, mixtures, LAMBDA) * (1 + 1e-6)


def test_no_mixture_nearby_is_closer():
    mixtures = three()
    found = barycenter(mixtures, LAMBDA)
    least = spread(found, mixtures, LAMBDA)
    gradient = jax.grad(
        lambda g: sum(w * distance(g, p) for w, p in zip(LAMBDA, mixtures, strict=True))
    )(found)
    assert np.abs(gradient.means).max() < 1e-8
    assert np.abs(gradient.scale).max() < 1e-8
    for other in mixtures:
        assert spread(other, mixtures, LAMBDA) > least + 0.01


def test_few_components_are_kept_on_request():
    mixtures = three()
    found = barycenter(mixtures, LAMBDA, num_components=2)
    assert found.num_components == 2
    np.testing.assert_allclose(gmmjax.weights(found).sum(), 1)
    everything = barycenter(mixtures, LAMBDA)
    assert spread(found, mixtures, LAMBDA) > spread(everything, mixtures, LAMBDA) + 0.01


@pytest.mark.parametrize("kind", ["full", "diagonal"])
def test_gradients_are_those_of_the_values(kind):
    mixtures = three(kind)

    def outcome(mixtures, weights):
        found = gmmjax.mw2_barycenter(mixtures, weights)
        return gmmjax.weights(found), found.means[:3], gmmjax.covariances(found)[:3]

    check_gradients(outcome, (mixtures, LAMBDA), step=1e-5)


def test_single_precision_and_batches():
    mixtures = three()
    single = cast(mixtures, jnp.float32)
    batch = jax.vmap(barycenter, in_axes=(None, 0))(single, np.stack([LAMBDA, [0.2, 0.2, 0.6]]))
    assert batch.means.dtype == jnp.float32
    expected = barycenter(mixtures, LAMBDA)
    alone = jax.tree.map(lambda leaf: leaf[0], batch)
    np.testing.assert_allclose(gmmjax.log_prob(alone, X), gmmjax.log_prob(expected, X), rtol=1e-4)


def test_a_mass_that_is_lost_beside_others_moves_with_the_rest():
    """Its share of the plan is 0, as that of an absent one: it went to the origin, or was NaN."""

    def at(x):
        p = gmmjax.GMM(
            jnp.array([-69.0, 1, 0]),
            jnp.array([[x, x], [x, x], [x + 5, x]]),
            jnp.array([1, 0.7, 1]),
        )
        factors = jnp.array([[[5.0, 0], [0, 3]], [[0.3, 0], [0, 0.3]]])
        q = gmmjax.GMM(jnp.array([-1.0, 0]), jnp.full((2, 2), x), factors)
        return gmmjax.mw2_barycenter([p, q])

    here, far = at(0.0), at(999.0)
    assert np.exp(here.logits).min(where=here.logits > -np.inf, initial=1) < 1e-29
    np.testing.assert_allclose(far.logits, here.logits, rtol=1e-9)
    np.testing.assert_allclose(far.means, here.means + 999, rtol=1e-9)


def test_bad_input():
    p, q = random_mixture(0, 2, 2), random_mixture(1, 2, 2)
    for weights, message in (
        ([1.0], r"weights: expected shape \(2,\), one per mixture"),
        ([1.0, -1.0], "weights: expected finite and non-negative values, got -1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            gmmjax.mw2_barycenter([p, q], weights)
    with pytest.raises(ValueError, match="mixtures: expected at least one GMM"):
        gmmjax.mw2_barycenter([])
    with pytest.raises(ValueError, match="num_components: expected at least 1, got 0"):
        gmmjax.mw2_barycenter([p, q], num_components=0)
    assert np.isnan(barycenter([p, q], np.array([1.0, -1.0])).means).all()
