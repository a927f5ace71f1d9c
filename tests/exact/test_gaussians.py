"""Closed forms for single Gaussians against quadrature and against each other."""

import functools

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


@functools.cache
def values_by_quadrature():
    log_p = stats.norm(0.3, 1.1).logpdf
    log_q = stats.norm(-0.5, 1.4).logpdf

    def integral(fn):
        return integrate.quad(fn, -25, 25, limit=500, epsabs=1e-13)[0]

    def power(alpha):
        return integral(lambda t: np.exp(alpha * log_p(t) + (1 - alpha) * log_q(t)))

    return {
        "kl": integral(lambda t: np.exp(log_p(t)) * (log_p(t) - log_q(t))),
        "renyi": np.log(power(0.3)) / (0.3 - 1),
        "renyi above 1": np.log(power(1.4)) / (1.4 - 1),
        "bhattacharyya": -np.log(power(0.5)),
        "hellinger": 1 - power(0.5),
        "chi2": power(2) - 1,
    }


@forms
@pytest.mark.parametrize(("dtype", "rtol"), [(jnp.float32, 1e-4), (jnp.float64, 1e-9)])
def test_values_are_integrals(name, dtype, rtol):
    p, q = cast((gaussian(0.3, 1.1), gaussian(-0.5, 1.4)), dtype)
    np.testing.assert_allclose(FORMS[name](p, q), values_by_quadrature()[name], rtol=rtol)


@forms
@pytest.mark.parametrize("kind", KINDS)
def test_structure_is_its_dense_twin(name, kind):
    p, q = random_mixture(0, 1, 3, kind=kind), random_mixture(1, 1, 3, kind=kind)
    q = q._replace(scale=2 * q.scale)
    dense = FORMS[name](densified(p), densified(q))
    np.testing.assert_allclose(FORMS[name](p, q), dense, rtol=1e-10)


def of_many_dimensions(kind, dtype):
    dim = {"full": 20, "diagonal": 100}[kind]
    return cast(random_mixture(0, 1, dim, kind=kind), dtype)


many_dimensions = pytest.mark.parametrize("kind", ["full", "diagonal"])
both_precisions = pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])


@forms
@many_dimensions
@both_precisions
def test_zero_at_equality_with_gradient_zero(name, kind, dtype):
    p = of_many_dimensions(kind, dtype)
    value, gradient = jax.value_and_grad(FORMS[name], argnums=(0, 1))(p, p)
    small = 500 * jnp.finfo(dtype).eps
    assert abs(value) < small
    assert all(np.abs(leaf).max() < small for leaf in jax.tree.leaves(gradient))


@forms
@many_dimensions
@both_precisions
def test_a_small_difference_is_seen(name, kind, dtype):
    p = of_many_dimensions(kind, dtype)
    moved = p._replace(means=p.means + 0.1)
    assert FORMS[name](p, moved) > 50_000 * jnp.finfo(dtype).eps


@forms
def test_gradients_are_finite_differences(name):
    p, q = random_mixture(0, 1, 3), random_mixture(1, 1, 3)
    q = q._replace(scale=2 * q.scale)
    gradient = jax.grad(FORMS[name], argnums=(0, 1))(p, q)
    direction = jax.tree.map(
        lambda leaf: jax.random.normal(jax.random.key(leaf.size), leaf.shape), (p, q)
    )

    def value_at(step):
        return FORMS[name](*jax.tree.map(lambda leaf, d: leaf + step * d, (p, q), direction))

    slope = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, gradient, direction)))
    difference = (value_at(1e-5) - value_at(-1e-5)) / 2e-5
    np.testing.assert_allclose(slope, difference, rtol=1e-6)


def narrow_and_wide(kind):
    narrow = random_mixture(0, 1, 3, kind=kind)
    return narrow, narrow._replace(scale=1.5 * narrow.scale)


unbounded = pytest.mark.parametrize(
    "form",
    [gmmjax.gaussian_chi2, lambda p, q: gmmjax.gaussian_renyi(p, q, 2.0)],
    ids=["chi2", "renyi"],
)
structures = pytest.mark.parametrize("kind", ["full", "spherical"])


@unbounded
@structures
def test_infinite_where_the_integral_is(form, kind):
    narrow, wide = narrow_and_wide(kind)
    value, gradient = jax.value_and_grad(form, argnums=(0, 1))(wide, narrow)
    assert value == jnp.inf
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@unbounded
@structures
def test_finite_where_the_integral_is(form, kind):
    narrow, wide = narrow_and_wide(kind)
    assert np.isfinite(form(narrow, wide))


@unbounded
@structures
@pytest.mark.parametrize("leaf", ["means", "scale"])
def test_nan_is_not_taken_for_infinite(form, kind, leaf):
    narrow, wide = narrow_and_wide(kind)
    bad = wide._replace(**{leaf: jnp.nan * getattr(wide, leaf)})
    assert np.isnan(jax.jit(form)(narrow, bad))


FAR = gaussian(0.0, 1.0), gaussian(50.0, 1.0)


def test_overflow_is_infinite_with_a_finite_gradient():
    value, gradient = jax.value_and_grad(gmmjax.gaussian_chi2)(*FAR)
    assert value == jnp.inf
    assert np.isfinite(gradient.means).all()


def test_the_logarithm_of_what_overflows_does_not():
    np.testing.assert_allclose(gmmjax.gaussian_renyi(*FAR, 2), 2500.0)


def renyi_of_order(alpha):
    return gmmjax.gaussian_renyi(random_mixture(0, 1, 3), random_mixture(1, 1, 3), alpha)


def test_renyi_rises_with_its_order():
    values = [renyi_of_order(alpha) for alpha in (0.2, 0.5, 0.9, 1 - 1e-6)]
    assert sorted(values) == values


def test_renyi_tends_to_kl():
    kl = gmmjax.gaussian_kl(random_mixture(0, 1, 3), random_mixture(1, 1, 3))
    np.testing.assert_allclose(renyi_of_order(1 - 1e-6), kl, rtol=1e-5)


def test_renyi_of_order_one_half_is_twice_bhattacharyya():
    distance = gmmjax.gaussian_bhattacharyya(random_mixture(0, 1, 3), random_mixture(1, 1, 3))
    np.testing.assert_allclose(renyi_of_order(0.5), 2 * distance, rtol=1e-12)


def test_several_components_are_refused():
    one, two = random_mixture(0, 1, 2), random_mixture(0, 2, 2)
    with pytest.raises(ValueError, match="q: expected one component, got 2"):
        gmmjax.gaussian_kl(one, two)
    with pytest.raises(ValueError, match="p: expected one component, got 2"):
        gmmjax.gaussian_chi2(two, one)


@pytest.mark.parametrize("alpha", [0, 1, -2.0, np.inf, np.nan, np.ones(2)])
def test_other_orders_are_refused(alpha):
    p = random_mixture(0, 1, 2)
    with pytest.raises(ValueError, match="alpha: expected a positive number other than 1"):
        gmmjax.gaussian_renyi(p, p, alpha)


@pytest.mark.parametrize("full", [True, False])
def test_kl_is_infinite_where_one_is_singular(full):
    """Either way round; both of them leave it open, and a regular pair does not notice."""
    scale = jnp.array([1.0, 0.0])
    good = gmmjax.GMM(
        jnp.zeros(1), jnp.zeros((1, 2)), jnp.eye(2)[None] if full else jnp.ones((1, 2))
    )
    flat = good._replace(scale=jnp.diag(scale)[None] if full else scale[None])
    kl = jax.jit(jax.value_and_grad(gmmjax.gaussian_kl, argnums=(0, 1)))
    for pair in ((flat, good), (good, flat)):
        value, gradients = kl(*pair)
        assert value == gmmjax.gaussian_kl(*pair) == np.inf
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    assert np.isnan(kl(flat, flat)[0])
    assert kl(good, good)[0] == 0
