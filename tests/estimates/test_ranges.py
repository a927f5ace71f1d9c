"""No stated error exceeds the range of what is estimated, on real data too."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import cast, random_mixture
from sklearn.datasets import load_digits
from sklearn.mixture import GaussianMixture

import gmmjax
from gmmjax._sampling import spikes


@functools.cache
def digit(label):
    """A model of one class of scikit-learn's digits: 64 pixels, of which some are constant."""
    rows, labels = load_digits(return_X_y=True)
    model = GaussianMixture(3, covariance_type="diag", random_state=0)
    return gmmjax.interop.from_sklearn(model.fit(rows[labels == label]))


def over_keys(divergence, count, *args):
    """Values and errors of an estimate for many keys."""
    keys = jax.random.split(jax.random.key(1), count)
    run = jax.jit(lambda keys: jax.lax.map(lambda key: divergence(key, *args), keys))
    return [np.asarray(leaf) for leaf in run(keys)]


def test_js_of_digits():
    """Classes 1 and 2 hardly overlap: JS is log 2 to more digits than an estimate has."""
    js = functools.partial(gmmjax.js_divergence, num_samples=2048)
    value, stderr = over_keys(js, 200, digit(1), digit(2))
    assert (stderr <= 0.01).all()
    assert (np.abs(value - np.log(2)) <= 2 * stderr).mean() > 0.92


def test_js_of_digits_without_the_mass_of_spikes(monkeypatch):
    """What a spike can add is what this is about: log-ratios at its centre alone say thousands."""
    monkeypatch.setattr(spikes, "_joined", lambda masses: jnp.inf * jnp.ones(6))
    monkeypatch.setattr(
        gmmjax._estimates.log_ratios, "conclude", lambda found, *_, bound: found[::2]
    )
    js = gmmjax._estimates.log_ratios._estimate.__wrapped__
    monkeypatch.setattr(gmmjax._estimates.log_ratios, "_estimate", js)
    found = gmmjax.js_divergence(jax.random.key(0), digit(1), digit(2), num_samples=1024)
    assert found.stderr > 1e4


def test_generalised_js_of_digits():
    value, stderr = gmmjax.generalised_js_divergence(
        jax.random.key(0), [digit(label) for label in (1, 2, 3, 4)], num_samples=4096
    )
    assert stderr <= 0.01
    np.testing.assert_allclose(value, np.log(4), atol=2 * stderr)


RANGES = {
    "js": (gmmjax.js_divergence, np.log(2)),
    "skew": (functools.partial(gmmjax.skew_kl_divergence, alpha=0.3), -np.log(0.7)),
    "total variation": (gmmjax.total_variation, 1.0),
    "hellinger": (gmmjax.squared_hellinger, 1.0),
    "information": (lambda key, p, q, **k: gmmjax.mutual_information(key, p, **k), np.log(3)),
}


@pytest.mark.parametrize("name", RANGES)
def test_errors_stay_within_the_range(name):
    """Two points in two replicates, of mixtures with spikes: errors as wild as they come."""
    divergence, largest = RANGES[name]
    p, q = random_mixture(0, 3, 4), random_mixture(1, 3, 4, spread=1.0)
    q = q._replace(scale=q.scale * jnp.array([1e-4, 1.0, 1e3])[:, None, None])
    call = functools.partial(divergence, num_samples=2, num_replicates=2)
    _, stderr = over_keys(call, 50, p, q)
    assert (stderr <= largest * (1 + 1e-6)).all()
    assert stderr.max() > 0.01 * largest


def enclosing(p, q):
    """Bounds of −log ∫ √(pq) from closed forms of all pairs of components, in double precision."""
    table = np.array(
        [
            [
                0.5 * (np.log(v) + np.log(w)) - gmmjax.gaussian_bhattacharyya(one(p, i), one(q, j))
                for j, v in enumerate(gmmjax.weights(q))
            ]
            for i, w in enumerate(gmmjax.weights(p))
        ]
    )
    return -np.logaddexp.reduce(table.ravel()), -table.max()


def one(g, k):
    return jax.tree.map(lambda leaf: leaf[k : k + 1], g)


def test_bhattacharyya_where_the_affinity_underflows():
    """Digits in single precision, where its logarithm is all that is left."""
    p, q = (cast(digit(label), jnp.float32) for label in (1, 2))
    call = lambda p, q: gmmjax.bhattacharyya_distance(jax.random.key(0), p, q)
    (value, stderr), gradients = jax.value_and_grad(call, argnums=(0, 1), has_aux=True)(p, q)
    low, high = enclosing(*(cast(g, jnp.float64) for g in (p, q)))
    np.testing.assert_allclose(value, 0.5 * (low + high), rtol=1e-5)
    np.testing.assert_allclose(stderr, 0.5 * (high - low), rtol=0.01, atol=1e-3)
    # Whatever the points, of which a few carry the sum: for most keys they gave 55 ± ∞.
    others, _ = over_keys(gmmjax.bhattacharyya_distance, 8, p, q)
    np.testing.assert_allclose(others, value, rtol=1e-6)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    assert np.exp(np.float32(-2 * value)) < np.finfo(np.float32).tiny  # its square underflows


def test_bhattacharyya_of_single_gaussians_is_exact():
    p, q = one(random_mixture(0, 3, 2), 0), one(random_mixture(1, 3, 2), 0)
    value, stderr = gmmjax.bhattacharyya_distance(jax.random.key(0), p, q, num_samples=64)
    np.testing.assert_allclose(value, gmmjax.gaussian_bhattacharyya(p, q), rtol=1e-12)
    assert stderr < 1e-12


@pytest.mark.parametrize("logit", [-60.0, -69.0])
def test_an_integral_beyond_single_precision_is_infinite_and_says_so(logit):
    """A component so rare that rounding its rate times a weight is 0: that gave NaN."""
    p = gmmjax.GMM(jnp.array([logit, 0]), jnp.array([[20.0], [0]]), jnp.ones(2))
    p, q = cast((p, one(p, 1)), jnp.float32)
    value, stderr = gmmjax.renyi_divergence(jax.random.key(0), p, q, 2.0)
    assert np.isposinf(value)
    assert np.isposinf(stderr)


def test_closed_forms_enclose_what_points_can_measure():
    p, q = random_mixture(0, 3, 2), random_mixture(1, 3, 2)
    value, stderr = gmmjax.bhattacharyya_distance(jax.random.key(0), p, q)
    low, high = enclosing(p, q)
    assert low + 10 * stderr < value < high - 10 * stderr
