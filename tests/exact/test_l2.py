"""L2 products against quadrature, in both precisions, at equality, far away, in many dimensions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import KINDS, REFERENCE, alike, cast, densified, random_mixture
from scipy import integrate, stats

import gmmjax

pairs = pytest.mark.parametrize("name", REFERENCE)
PRODUCTS = {
    "ise": gmmjax.ise,
    "normalised_ise": gmmjax.normalised_ise,
    "cauchy_schwarz": gmmjax.cauchy_schwarz_divergence,
    "mmd_squared": lambda p, q: gmmjax.mmd_squared(p, q, 1.5),
}
products = pytest.mark.parametrize("name", PRODUCTS)


@functools.partial(jax.jit, static_argnums=0)
def value_and_slopes(name, p, q):
    return jax.value_and_grad(PRODUCTS[name], argnums=(0, 1))(p, q)


@pairs
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("quantity", ["ise", "cauchy_schwarz"])
def test_exact_values(name, dtype, quantity):
    p, q = cast(alike(name), dtype)
    rtol = {jnp.float32: 1e-4, jnp.float64: 1e-9}[dtype]
    atol = {jnp.float32: 1e-6, jnp.float64: 1e-12}[dtype]  # of ∫p² + ∫q², and of 1 nat
    exact = REFERENCE[name]["exact"][quantity]
    np.testing.assert_allclose(PRODUCTS[quantity](p, q), exact, rtol=rtol, atol=atol)


def pdf(g, t):
    parts = zip(gmmjax.weights(g), g.means[:, 0], g.scale[:, 0, 0], strict=True)
    return sum(float(w) * stats.norm.pdf(t, m, s) for w, m, s in parts)


def on_the_line():
    return random_mixture(0, 3, 1), random_mixture(1, 2, 1)


@functools.cache
def values_by_quadrature():
    p, q = on_the_line()

    def integral(fn):
        return integrate.quad(fn, -15, 15, limit=500, epsabs=1e-13)[0]

    pp = integral(lambda t: pdf(p, t) ** 2)
    pq = integral(lambda t: pdf(p, t) * pdf(q, t))
    qq = integral(lambda t: pdf(q, t) ** 2)
    return {
        "renyi2_entropy": -np.log(pp),
        "ise": pp - 2 * pq + qq,
        "normalised_ise": 1 - 2 * pq / (pp + qq),
        "cauchy_schwarz": -np.log(pq / np.sqrt(pp * qq)),
    }


@pytest.mark.parametrize("name", ["ise", "normalised_ise", "cauchy_schwarz"])
def test_divergences_are_integrals(name):
    value = PRODUCTS[name](*on_the_line())
    np.testing.assert_allclose(value, values_by_quadrature()[name], rtol=1e-9)


def test_renyi2_entropy_is_an_integral():
    p, _ = on_the_line()
    expected = values_by_quadrature()["renyi2_entropy"]
    np.testing.assert_allclose(gmmjax.renyi2_entropy(p), expected, rtol=1e-9)


@pytest.mark.parametrize("bandwidth", [0.3, 2.0])
def test_mmd_is_an_integral(bandwidth):
    p, q = on_the_line()
    # The trapezoidal rule is exact for such functions.
    nodes, width = np.linspace(-12, 12, 2401, retstep=True)
    difference = pdf(p, nodes) - pdf(q, nodes)
    kernel = np.exp(-0.5 * ((nodes[:, None] - nodes[None]) / bandwidth) ** 2)
    expected = difference @ kernel @ difference * width**2
    np.testing.assert_allclose(gmmjax.mmd_squared(p, q, bandwidth), expected, rtol=1e-9)


def test_mmd_does_not_feel_an_offset():
    """Means were divided by the bandwidth before they were compared."""
    at = lambda x: gmmjax.GMM(*(jnp.asarray(a, jnp.float32) for a in ([0.0], [[x]], [0.5])))
    here, far = (gmmjax.mmd_squared(at(x), at(x + 1), 3.0) for x in (0.0, 1e6))
    np.testing.assert_allclose(far, here, rtol=1e-5)


def test_mmd_of_long_components_in_single_precision():
    """Their squares beside that of the kernel: sums of squares had lost it, and were NaN."""
    long = np.array([[[8000.0, 0], [6100, 0.05]]])
    p = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 2)), jnp.asarray(long))
    q = p._replace(means=p.means + 1)
    wide, narrow = (gmmjax.mmd_squared(*pair, 1.0) for pair in ((p, q), cast((p, q), jnp.float32)))
    np.testing.assert_allclose(narrow, wide, rtol=1e-3)


@pytest.mark.parametrize("kind_p", KINDS)
@pytest.mark.parametrize("kind_q", ["full", "tied diagonal"])
@pytest.mark.parametrize("name", ["ise", "mmd_squared"])
def test_structure_is_its_dense_twin(kind_p, kind_q, name):
    p, q = random_mixture(0, 3, 2, kind=kind_p), random_mixture(1, 2, 2, kind=kind_q)
    dense = PRODUCTS[name](densified(p), densified(q))
    np.testing.assert_allclose(PRODUCTS[name](p, q), dense, rtol=1e-11)


many_dimensions = pytest.mark.parametrize(
    ("dim", "kind", "dtype"),
    [
        (1, "spherical", jnp.float32),
        (10, "full", jnp.float64),
        (100, "full", jnp.float32),
        (100, "diagonal", jnp.float32),
        (100, "diagonal", jnp.float64),
    ],
)


def pair(dim, kind, dtype):
    return cast((random_mixture(0, 3, dim, kind=kind), random_mixture(1, 3, dim, kind=kind)), dtype)


relative = pytest.mark.parametrize(
    "divergence", [gmmjax.normalised_ise, gmmjax.cauchy_schwarz_divergence]
)


@relative
@many_dimensions
def test_exactly_zero_at_equality(divergence, dim, kind, dtype):
    p, _ = pair(dim, kind, dtype)
    assert divergence(p, jax.tree.map(jnp.array, p)) == 0


@relative
@many_dimensions
def test_neither_underflow_nor_overflow(divergence, dim, kind, dtype):
    assert 0.01 < divergence(*pair(dim, kind, dtype)) < jnp.inf


@many_dimensions
def test_divergence_in_many_dimensions_keeps_its_digits(dim, kind, dtype):
    value = gmmjax.cauchy_schwarz_divergence(*pair(dim, kind, dtype))
    expected = gmmjax.cauchy_schwarz_divergence(*cast(pair(dim, kind, dtype), jnp.float64))
    np.testing.assert_allclose(value, expected, rtol=1e-4)


@many_dimensions
def test_entropy_in_many_dimensions_keeps_its_digits(dim, kind, dtype):
    p, _ = pair(dim, kind, dtype)
    expected = gmmjax.renyi2_entropy(cast(p, jnp.float64))
    np.testing.assert_allclose(gmmjax.renyi2_entropy(p), expected, rtol=1e-4)


@pytest.mark.parametrize("dim", [1, 10])
def test_self_term_has_twice_the_covariance(dim):
    """∫N(a, Σ)² = |4πΣ|^(−1/2).

    Published code has |2πΣ|, and a divergence of a Gaussian from itself of D/2 log 2.
    """
    p = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, dim)), jnp.full(1, 3.0))
    right = 0.5 * dim * np.log(4 * np.pi * 9)
    wrong = 0.5 * dim * np.log(2 * np.pi * 9)
    np.testing.assert_allclose(gmmjax.renyi2_entropy(p), right, rtol=1e-13)
    assert abs(wrong - right) > 0.3


def without_first(g):
    """The mixture with its first component absent."""
    return g._replace(logits=g.logits.at[0].set(-jnp.inf))


@products
@pytest.mark.parametrize("absent", [False, True])
def test_zero_at_equality_with_gradient_zero(name, absent):
    p = random_mixture(0, 3, 2)
    p = without_first(p) if absent else p
    value, gradient = value_and_slopes(name, p, p)
    assert value == 0
    assert all(np.abs(leaf).max() < 1e-14 for leaf in jax.tree.leaves(gradient))


@products
def test_an_absent_component_has_no_gradient(name):
    p, q = without_first(random_mixture(0, 3, 2)), random_mixture(1, 3, 2)
    _, (gradient, _) = value_and_slopes(name, p, q)
    assert gradient.logits[0] == 0
    assert np.abs(gradient.means[0]).max() == 0


@products
def test_it_does_not_matter_where_an_absent_component_is(name):
    p, q = without_first(random_mixture(0, 3, 2)), random_mixture(1, 3, 2)
    elsewhere = p._replace(means=p.means.at[0].set(p.means[2]), scale=p.scale.at[0].set(p.scale[2]))
    value, _ = value_and_slopes(name, p, q)
    np.testing.assert_allclose(value, value_and_slopes(name, elsewhere, q)[0], rtol=1e-12)


@products
def test_modes_far_apart(name):
    """Components that do not overlap contribute Σw², Σv² and Σwv times the product of one."""
    p = gmmjax.from_covariances([0.5, 0.5], [[-500.0], [500.0]], [1.0, 1.0])
    q = p._replace(logits=jnp.log(jnp.array([0.2, 0.8])))
    pp, qq, pq = 0.5, 0.68, 0.5
    distance = pp + qq - 2 * pq
    expected = {
        "ise": distance / np.sqrt(4 * np.pi),
        "normalised_ise": distance / (pp + qq),
        "cauchy_schwarz": -np.log(pq / np.sqrt(pp * qq)),
        "mmd_squared": distance * 1.5 / np.sqrt(1.5**2 + 2),
    }
    value, gradient = value_and_slopes(name, p, q)
    np.testing.assert_allclose(value, expected[name], rtol=1e-12)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@products
def test_symmetric(name):
    p, q = random_mixture(0, 3, 2), random_mixture(1, 2, 2)
    np.testing.assert_allclose(PRODUCTS[name](p, q), PRODUCTS[name](q, p), rtol=1e-12)


@products
def test_positive(name):
    assert PRODUCTS[name](random_mixture(0, 3, 2), random_mixture(1, 2, 2)) > 0


def test_normalised_ise_is_below_one():
    assert gmmjax.normalised_ise(random_mixture(0, 3, 2), random_mixture(1, 2, 2)) < 1


@pytest.mark.parametrize("bad", [0.0, -1.0, np.inf, np.nan, np.ones(2)])
def test_bad_bandwidth(bad):
    p = random_mixture(0, 2, 2)
    with pytest.raises(ValueError, match="bandwidth: expected a (number above 0|scalar)"):
        gmmjax.mmd_squared(p, p, bad)


def test_bandwidth_may_be_an_integer():
    p = random_mixture(0, 2, 2)
    assert gmmjax.mmd_squared(p, p, 1) == 0
