"""Closed forms for single Gaussians against quadrature and against each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import KINDS, cast, densified, random_mixture
from scipy import integrate, stats

import gmmjax

FORMS = {
    "kl": gmmjax.gaussian_kl,
    "renyi": lambda p, q: gmmjax.gaussian_renyi(p, q, 0.3),
    "renyi above 1": lambda p, q: gmmjax.gaussian_renyi(p, q, 1.4),
    "bhattacharyya": gmmjax.gaussian_bhattacharyya,
    "hellinger": gmmjax.gaussian_squared_hellinger,
    "chi2": gmmjax.gaussian_chi2,
}
forms = pytest.mark.parametrize("name", FORMS)


def gaussian(mean, deviation):
    return gmmjax.GMM(jnp.zeros(1), jnp.array([[mean]]), jnp.array([deviation]))


def test_values_by_quadrature():
    p, q = gaussian(0.3, 1.1), gaussian(-0.5, 1.4)
    a, b = stats.norm(0.3, 1.1).logpdf, stats.norm(-0.5, 1.4).logpdf
    integral = lambda f: integrate.quad(f, -25, 25, limit=500, epsabs=1e-13)[0]
    power = lambda alpha: integral(lambda t: np.exp(alpha * a(t) + (1 - alpha) * b(t)))
    expected = {
        "kl": integral(lambda t: np.exp(a(t)) * (a(t) - b(t))),
        "renyi": np.log(power(0.3)) / (0.3 - 1),
        "renyi above 1": np.log(power(1.4)) / (1.4 - 1),
        "bhattacharyya": -np.log(power(0.5)),
        "hellinger": 1 - power(0.5),
        "chi2": power(2) - 1,
    }
    for name, form in FORMS.items():
        np.testing.assert_allclose(form(p, q), expected[name], rtol=1e-9)
        np.testing.assert_allclose(form(*cast((p, q), jnp.float32)), expected[name], rtol=1e-4)


@forms
@pytest.mark.parametrize("kind", KINDS)
def test_structure_is_its_dense_twin(name, kind):
    p, q = random_mixture(0, 1, 3, kind=kind), random_mixture(1, 1, 3, kind=kind)
    q = q._replace(scale=2 * q.scale)
    np.testing.assert_allclose(
        FORMS[name](p, q), FORMS[name](densified(p), densified(q)), rtol=1e-10
    )


@forms
@pytest.mark.parametrize("kind", ["full", "diagonal"])
def test_equality_in_many_dimensions(name, kind):
    for dtype in (jnp.float32, jnp.float64):
        p = cast(random_mixture(0, 1, 20 if kind == "full" else 100, kind=kind), dtype)
        value, gradient = jax.value_and_grad(FORMS[name], argnums=(0, 1))(p, p)
        small = 500 * jnp.finfo(dtype).eps
        assert abs(value) < small
        assert all(np.abs(leaf).max() < small for leaf in jax.tree.leaves(gradient))
        assert FORMS[name](p, p._replace(means=p.means + 0.1)) > 100 * small


@forms
def test_gradients_are_finite_differences(name):
    p, q = random_mixture(0, 1, 3), random_mixture(1, 1, 3)
    q = q._replace(scale=2 * q.scale)
    gradient = jax.grad(FORMS[name], argnums=(0, 1))(p, q)
    direction = jax.tree.map(
        lambda leaf: jax.random.normal(jax.random.key(leaf.size), leaf.shape), (p, q)
    )
    step = lambda h: FORMS[name](*jax.tree.map(lambda leaf, d: leaf + h * d, (p, q), direction))
    slope = sum(
        jnp.vdot(g, d)
        for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
    )
    np.testing.assert_allclose(slope, (step(1e-5) - step(-1e-5)) / 2e-5, rtol=1e-6)


@pytest.mark.parametrize("kind", ["full", "spherical"])
def test_infinite_where_the_integral_is(kind):
    narrow = random_mixture(0, 1, 3, kind=kind)
    wide = narrow._replace(scale=1.5 * narrow.scale)
    for form in (gmmjax.gaussian_chi2, lambda p, q: gmmjax.gaussian_renyi(p, q, 2.0)):
        value, gradient = jax.value_and_grad(form, argnums=(0, 1))(wide, narrow)
        assert value == jnp.inf
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
        assert np.isfinite(form(narrow, wide))
        assert np.isnan(form(narrow, wide._replace(means=jnp.full((1, 3), jnp.nan))))
        assert np.isnan(form(narrow, wide._replace(scale=wide.scale * jnp.nan)))


def test_overflow_is_infinite_and_its_logarithm_is_not():
    p = gaussian(0.0, 1.0)
    far = gaussian(50.0, 1.0)
    value, gradient = jax.value_and_grad(gmmjax.gaussian_chi2)(p, far)
    assert value == jnp.inf
    assert np.isfinite(gradient.means).all()
    np.testing.assert_allclose(gmmjax.gaussian_renyi(p, far, 2), 2500.0)


def test_renyi_rises_with_its_order_to_kl():
    p, q = random_mixture(0, 1, 3), random_mixture(1, 1, 3)
    values = [gmmjax.gaussian_renyi(p, q, alpha) for alpha in (0.2, 0.5, 0.9, 1 - 1e-6)]
    assert sorted(values) == values
    np.testing.assert_allclose(values[-1], gmmjax.gaussian_kl(p, q), rtol=1e-5)
    np.testing.assert_allclose(values[1], 2 * gmmjax.gaussian_bhattacharyya(p, q), rtol=1e-12)


def test_several_components_are_refused():
    one, two = random_mixture(0, 1, 2), random_mixture(0, 2, 2)
    with pytest.raises(ValueError, match="q: has 2 components"):
        gmmjax.gaussian_kl(one, two)
    with pytest.raises(ValueError, match="p: has 2 components"):
        gmmjax.gaussian_chi2(two, one)
    for alpha in (0, 1, -2.0, np.inf, np.nan, np.ones(2)):
        with pytest.raises(ValueError, match="alpha: expected a positive number other than 1"):
            gmmjax.gaussian_renyi(one, one, alpha)
