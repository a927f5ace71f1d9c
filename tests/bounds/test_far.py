"""Components that are far apart, thin, or long and turned: squares leave no digit of what counts.

Single precision holds seven digits: of a covariance that is 10¹⁰ along one direction it keeps
nothing of the 1 along another.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import cast

import gmmjax
from gmmjax._bounds import by_components
from gmmjax._mixture.moments import checked_covariance, covariance_factor
from gmmjax._pairs.ratios import pairwise_log_integral

COUNT, DIM = 4, 3
# How far apart components and mixtures are, in deviations, and the deviation along one direction of
# each component, where it is 1 along others.
PLACES = {
    "far mixtures": (1.0, 1e5, 1.0),
    "very far mixtures": (1.0, 1e8, 1.0),
    "far components": (1e6, 0.0, 1.0),
    "long": (1.0, 0.0, 1e4),
    "thin and far": (1e3, 1e5, 1e-6),
}


def turned(rng, length):
    """Factors of components that are long or thin along directions of their own."""
    factors = []
    for _ in range(COUNT):
        axes, _ = np.linalg.qr(rng.normal(size=(DIM, DIM)))
        rows = axes * np.array([1.0, 1.0, length])
        lower = np.linalg.qr(rows.T)[1].T
        factors.append(lower * np.sign(np.diag(lower))[None])
    return np.stack(factors)


def pair(place, seed):
    spread, gap, length = PLACES[place]
    rng = np.random.default_rng(seed)
    shifts = np.zeros(DIM), gap * np.linalg.qr(rng.normal(size=(DIM, DIM)))[0][0]
    mixtures = [
        gmmjax.GMM(
            rng.normal(size=COUNT),
            spread * rng.normal(size=(COUNT, DIM)) + shift,
            turned(rng, length),
        )
        for shift in shifts
    ]
    return [gmmjax.GMM(*(jnp.asarray(leaf, jnp.float32) for leaf in g)) for g in mixtures]


@jax.jit
def every_bound(p, q):
    kl, js = by_components.kl_by_components(p, q), by_components.js_by_components(p, q)
    return kl, js, by_components.entropy_by_components(p)


@pytest.mark.parametrize("place", PLACES)
def test_bounds_hold_in_single_precision(place):
    for seed in range(3):
        p, q = pair(place, seed)
        exact = every_bound(cast(p, jnp.float64), cast(q, jnp.float64))
        for (lower, upper), (low, high) in zip(every_bound(p, q), exact, strict=True):
            rounding = 1e-4 * abs(high) + 1e-5
            assert low - rounding <= upper
            assert lower <= high + rounding
            assert lower <= upper < jnp.inf


@pytest.mark.parametrize("place", PLACES)
def test_the_factor_of_a_covariance_is_never_lost(place):
    p, _ = pair(place, 0)
    factor, rounding = covariance_factor(p)
    exact = np.linalg.cholesky(gmmjax.covariance(cast(p, jnp.float64)))
    assert (jnp.diagonal(factor) >= rounding).all()
    # What is below the rounding of the largest entries is lost either way.
    error = np.abs(np.diagonal(factor) - np.diagonal(exact))
    assert (error < 20 * rounding + 1e-4 * np.diagonal(exact)).all()


def test_its_square_is_lost_where_mixtures_are_far_apart():
    both = gmmjax.mix(pair("far mixtures", 0), jnp.ones(2))
    exact = np.linalg.eigvalsh(gmmjax.covariance(cast(both, jnp.float64)))
    squared = np.linalg.eigvalsh(np.asarray(checked_covariance(both), np.float64))
    factor, _ = covariance_factor(both)
    assert np.abs(squared - exact)[:2].max() > exact[1]
    np.testing.assert_allclose(np.linalg.svd(factor)[1][:0:-1] ** 2, exact[:2], rtol=0.1)


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.3, 0.7)])
def test_integrals_of_long_components_keep_their_digits(alpha, beta):
    p, q = pair("long", 0)
    exact = pairwise_log_integral(cast(p, jnp.float64), cast(q, jnp.float64), alpha, beta)
    single = pairwise_log_integral(p, q, alpha, beta)
    np.testing.assert_allclose(single, exact, rtol=0.02)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_squares_of_their_ratios_would_not(dtype):
    p, q = cast(pair("long", 0), dtype)
    ratio = np.linalg.inv(q.scale)[None] @ np.asarray(p.scale)[:, None]
    smallest = np.linalg.eigvalsh(np.eye(DIM, dtype=dtype) + ratio @ ratio.swapaxes(-1, -2))[..., 0]
    assert (smallest >= 1 - 1e-6).all() == (dtype == jnp.float64)


def test_divergences_in_closed_form_survive_thin_components():
    p, q = pair("thin and far", 1)
    one = jax.tree.map(lambda leaf: leaf[:1], p)
    other = jax.tree.map(lambda leaf: leaf[:1], pair("long", 1)[0])
    exact = gmmjax.gaussian_renyi(*cast((one, other), jnp.float64), alpha=0.5)
    np.testing.assert_allclose(gmmjax.gaussian_renyi(one, other, alpha=0.5), exact, rtol=1e-3)
    assert jnp.isfinite(gmmjax.ise(p, q))
    assert jnp.isfinite(gmmjax.renyi2_entropy(p))
    exact = gmmjax.renyi2_entropy(cast(p, jnp.float64))
    np.testing.assert_allclose(gmmjax.renyi2_entropy(p), exact, rtol=0.01)
