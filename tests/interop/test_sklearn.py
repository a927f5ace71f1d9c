"""scikit-learn's mixtures on real data, both ways."""

import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_expit
from sklearn.datasets import load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.preprocessing import StandardScaler

import gmmjax

TYPES = ("full", "tied", "diag", "spherical")


def _classes(name):
    """Two classes of real data: digits 3 and 8 in 8 principal components, or two cultivars of wine
    in 4.
    """
    if name == "digits":
        data, target = load_digits(return_X_y=True)
        count, chosen = 8, (3, 8)
    else:
        data, target = load_wine(return_X_y=True)
        data = StandardScaler().fit_transform(data)
        count, chosen = 4, (0, 1)
    data = PCA(count, random_state=0).fit_transform(data)
    return [data[target == label] for label in chosen]


def _fitted(data, kind="full", count=3):
    options = {"random_state": 0, "reg_covar": 1e-3, "max_iter": 500}
    return GaussianMixture(count, covariance_type=kind, **options).fit(data)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("name", ["digits", "wine"])
def test_round_trip_keeps_the_density(name, kind):
    data, others = _classes(name)
    model = _fitted(data, kind)
    g = gmmjax.interop.from_sklearn(model)
    back = gmmjax.interop.to_sklearn(g)
    assert back.covariance_type == kind
    assert back.n_features_in_ == data.shape[1]
    for x in (data, others):
        expected = model.score_samples(x)
        np.testing.assert_allclose(gmmjax.log_prob(g, x), expected, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(back.score_samples(x), expected, rtol=1e-10, atol=1e-10)
    for attribute in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"):
        np.testing.assert_allclose(
            getattr(back, attribute), getattr(model, attribute), rtol=1e-9, atol=1e-9
        )
    np.testing.assert_array_equal(back.predict(data), model.predict(data))
    assert back.sample(10)[0].shape == (10, data.shape[1])


def test_tied_stays_tied():
    g = gmmjax.interop.from_sklearn(_fitted(_classes("wine")[0], "tied", count=2))
    assert g.scale.shape == (1, 4, 4)
    assert gmmjax.interop.to_sklearn(g).covariances_.shape == (4, 4)


@pytest.mark.parametrize("shape", [(1, 2), (1,)])
def test_shared_diagonals_are_repeated(shape):
    g = gmmjax.GMM(jnp.zeros(3), jnp.arange(6.0).reshape(3, 2), jnp.full(shape, -0.5))
    model = gmmjax.interop.to_sklearn(g)
    assert model.covariances_.shape == (3, *shape[1:])
    x = np.random.default_rng(0).normal(size=(20, 2))
    np.testing.assert_allclose(model.score_samples(x), gmmjax.log_prob(g, x), rtol=1e-10)


@pytest.mark.parametrize("shape", [(3, 2, 2), (1, 2, 2), (3, 2), (1, 2), (3,), (1,)])
def test_absent_components_are_dropped(shape):
    scale = jnp.broadcast_to(-jnp.eye(2), shape) if len(shape) == 3 else jnp.ones(shape)
    g = gmmjax.GMM(jnp.array([0.0, -jnp.inf, 1.0]), jnp.arange(6.0).reshape(3, 2), scale)
    model = gmmjax.interop.to_sklearn(g)
    assert model.n_components == len(model.weights_) == len(model.means_) == 2
    x = np.random.default_rng(0).normal(size=(20, 2))
    np.testing.assert_allclose(model.score_samples(x), gmmjax.log_prob(g, x), rtol=1e-10)


def test_bayesian_mixture_gives_its_plug_in_density():
    data, _ = _classes("wine")
    model = BayesianGaussianMixture(n_components=2, random_state=0, max_iter=500).fit(data)
    g = gmmjax.interop.from_sklearn(model)
    np.testing.assert_allclose(gmmjax.weights(g), model.weights_ / model.weights_.sum(), rtol=1e-12)
    np.testing.assert_allclose(gmmjax.covariances(g), model.covariances_, rtol=1e-10, atol=1e-12)
    assert np.abs(gmmjax.log_prob(g, data) - model.score_samples(data)).max() > 1e-3


def test_from_sklearn_needs_no_sklearn(monkeypatch):
    model = types.SimpleNamespace(
        covariance_type="spherical",
        weights_=[0.5, 0.5],
        means_=[[0.0], [1.0]],
        covariances_=[1.0, 4.0],
    )
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.mixture", None)
    np.testing.assert_allclose(gmmjax.interop.from_sklearn(model).scale, [1.0, 2.0])
    with pytest.raises(ImportError, match=r"pip install gmmjax\[sklearn\]"):
        gmmjax.interop.to_sklearn(gmmjax.interop.from_sklearn(model))


@pytest.mark.parametrize("wrong", [GaussianMixture, PCA(2), None, np.zeros(3)])
def test_other_objects_are_refused(wrong):
    words = "model: expected a fitted sklearn.mixture.GaussianMixture"
    with pytest.raises(TypeError, match=words):
        gmmjax.interop.from_sklearn(wrong)


def test_a_model_without_data_is_refused():
    with pytest.raises(ValueError, match="model: is not fitted"):
        gmmjax.interop.from_sklearn(GaussianMixture(2))


def test_covariances_of_another_type_are_refused():
    model = _fitted(_classes("wine")[0])
    model.covariance_type = "diag"
    with pytest.raises(ValueError, match="model: covariances: expected shape"):
        gmmjax.interop.from_sklearn(model)


def test_only_mixtures_are_written():
    with pytest.raises(TypeError, match="g: expected a gmmjax.GMM"):
        gmmjax.interop.to_sklearn(GaussianMixture(2))


@pytest.mark.parametrize(("name", "count"), [("digits", 2), ("wine", 2)])
def test_divergences_agree_with_the_recipe_on_real_data(name, count):
    models = [_fitted(data, count=count) for data in _classes(name)]
    p, q = map(gmmjax.interop.from_sklearn, models)
    ratios = [_recipe(a, b, 1_000_000) for a, b in (models, models[::-1])]
    halves = [np.log(2) + log_expit(r) for r in ratios]
    keys = jax.random.split(jax.random.key(0), 3)
    js = np.mean([h.mean() for h in halves]), 0.5 * np.hypot(*map(_standard_error, halves))
    _agree(gmmjax.js_divergence(keys[0], p, q), *js)
    _agree(gmmjax.kl_divergence(keys[1], p, q), ratios[0].mean(), _standard_error(ratios[0]))
    _agree(gmmjax.kl_divergence(keys[2], q, p), ratios[1].mean(), _standard_error(ratios[1]))


def _recipe(model, other, count):
    model.random_state = 1
    x = model.sample(count)[0]
    return model.score_samples(x) - other.score_samples(x)


def _standard_error(values):
    return values.std(ddof=1) / len(values) ** 0.5


def _agree(estimate, value, stderr):
    assert abs(estimate.value - value) < 4 * np.hypot(estimate.stderr, stderr)
    assert stderr < 0.05 * abs(value)  # or agreement would mean nothing
    assert estimate.stderr < 0.05 * abs(value)
