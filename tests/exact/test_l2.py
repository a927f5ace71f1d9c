"""L2 products against quadrature, in both precisions, at equality, far away and in many
dimensions.
"""

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
def test_exact_values(name, dtype):
    p, q = cast(alike(name), dtype)
    exact = REFERENCE[name]["exact"]
    digits = {jnp.float32: 1e-6, jnp.float64: 1e-12}[dtype]  # of ∫p² + ∫q², and of 1 nat
    relative = {jnp.float32: 1e-4, jnp.float64: 1e-9}[dtype]
    np.testing.assert_allclose(gmmjax.ise(p, q), exact["ise"], rtol=relative, atol=digits)
    divergence = gmmjax.cauchy_schwarz_divergence(p, q)
    np.testing.assert_allclose(divergence, exact["cauchy_schwarz"], rtol=relative, atol=digits)


def pdf(g, t):
    parts = zip(gmmjax.weights(g), g.means[:, 0], g.scale[:, 0, 0], strict=True)
    return sum(float(w) * stats.norm.pdf(t, m, s) for w, m, s in parts)


def test_integrals_by_quadrature():
    p, q = random_mixture(0, 3, 1), random_mixture(1, 2, 1)
    squares = [
        integrate.quad(lambda t, g=g: pdf(g, t) ** 2, -15, 15, limit=500, epsabs=1e-13)[0]
        for g in (p, q)
    ]
    product = integrate.quad(lambda t: pdf(p, t) * pdf(q, t), -15, 15, limit=500, epsabs=1e-13)[0]
    np.testing.assert_allclose(gmmjax.renyi2_entropy(p), -np.log(squares[0]), rtol=1e-9)
    np.testing.assert_allclose(gmmjax.ise(p, q), sum(squares) - 2 * product, rtol=1e-9)
    np.testing.assert_allclose(
        gmmjax.normalised_ise(p, q), 1 - 2 * product / sum(squares), rtol=1e-9
    )
    divergence = -np.log(product / np.sqrt(squares[0] * squares[1]))
    np.testing.assert_allclose(gmmjax.cauchy_schwarz_divergence(p, q), divergence, rtol=1e-9)


@pytest.mark.parametrize("bandwidth", [0.3, 2.0])
def test_mmd_by_quadrature(bandwidth):
    p, q = random_mixture(0, 3, 1), random_mixture(1, 2, 1)
    # the trapezoidal rule is exact for such functions
    nodes, width = np.linspace(-12, 12, 2401, retstep=True)
    difference = pdf(p, nodes) - pdf(q, nodes)
    kernel = np.exp(-0.5 * ((nodes[:, None] - nodes[None]) / bandwidth) ** 2)
    np.testing.assert_allclose(
        gmmjax.mmd_squared(p, q, bandwidth), difference @ kernel @ difference * width**2, rtol=1e-9
    )


@pytest.mark.parametrize("kind_p", KINDS)
@pytest.mark.parametrize("kind_q", ["full", "tied diagonal"])
def test_structure_is_its_dense_twin(kind_p, kind_q):
    p, q = random_mixture(0, 3, 2, kind=kind_p), random_mixture(1, 2, 2, kind=kind_q)
    for name in ("ise", "mmd_squared"):
        np.testing.assert_allclose(
            PRODUCTS[name](p, q), PRODUCTS[name](densified(p), densified(q)), rtol=1e-11
        )


@pytest.mark.parametrize(
    ("dim", "kind", "dtype"),
    [
        (1, "spherical", jnp.float32),
        (10, "full", jnp.float64),
        (100, "full", jnp.float32),
        (100, "diagonal", jnp.float32),
        (100, "diagonal", jnp.float64),
    ],
)
def test_equality_in_many_dimensions(dim, kind, dtype):
    p, q = cast((random_mixture(0, 3, dim, kind=kind), random_mixture(1, 3, dim, kind=kind)), dtype)
    twin = jax.tree.map(jnp.array, p)
    for divergence in (gmmjax.normalised_ise, gmmjax.cauchy_schwarz_divergence):
        assert divergence(p, twin) == 0
        assert 0.01 < divergence(p, q) < jnp.inf
    wide = cast((p, q), jnp.float64)
    expected = gmmjax.cauchy_schwarz_divergence(*wide)
    np.testing.assert_allclose(gmmjax.cauchy_schwarz_divergence(p, q), expected, rtol=1e-4)
    np.testing.assert_allclose(gmmjax.renyi2_entropy(p), gmmjax.renyi2_entropy(wide[0]), rtol=1e-4)


@pytest.mark.parametrize("dim", [1, 10])
def test_self_term_has_twice_the_covariance(dim):
    # ∫N(a, Σ)² = |4πΣ|^(−1/2); published code has |2πΣ|, and a divergence of a Gaussian from itself
    # of D/2 log 2.
    p = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, dim)), jnp.full(1, 3.0))
    right = 0.5 * dim * np.log(4 * np.pi * 9)
    np.testing.assert_allclose(gmmjax.renyi2_entropy(p), right, rtol=1e-13)
    assert abs(0.5 * dim * np.log(2 * np.pi * 9) - right) > 0.3


@products
def test_equality_and_absent_components(name):
    p, q = random_mixture(0, 3, 2), random_mixture(1, 3, 2)
    absent = lambda g: g._replace(logits=g.logits.at[0].set(-jnp.inf))
    for a, b in ((p, p), (absent(p), absent(p))):
        value, gradient = value_and_slopes(name, a, b)
        assert value == 0
        assert all(np.abs(leaf).max() < 1e-14 for leaf in jax.tree.leaves(gradient))
    value, (gradient, _) = value_and_slopes(name, absent(p), q)
    assert gradient.logits[0] == 0
    assert np.abs(gradient.means[0]).max() == 0
    rest = jax.tree.map(lambda leaf: leaf.at[0].set(leaf[2]), absent(p))._replace(
        logits=absent(p).logits
    )
    np.testing.assert_allclose(value, value_and_slopes(name, rest, q)[0], rtol=1e-12)


@products
def test_modes_far_apart(name):
    p = gmmjax.from_covariances([0.5, 0.5], [[-500.0], [500.0]], [1.0, 1.0])
    q = p._replace(logits=jnp.log(jnp.array([0.2, 0.8])))
    squares, cross, product = (0.5, 0.68, 0.5)  # Σw², Σv², Σwv
    unit = {
        "ise": 1 / np.sqrt(4 * np.pi),
        "mmd_squared": 1.5 / np.sqrt(1.5**2 + 2),
        "normalised_ise": 1 / 1.18,
    }
    expected = unit.get(name, 1.0) * (squares + cross - 2 * product)
    expected = -np.log(product / np.sqrt(squares * cross)) if name == "cauchy_schwarz" else expected
    value, gradient = value_and_slopes(name, p, q)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_products_are_symmetric_and_bounded():
    p, q = random_mixture(0, 3, 2), random_mixture(1, 2, 2)
    for divergence in PRODUCTS.values():
        np.testing.assert_allclose(divergence(p, q), divergence(q, p), rtol=1e-12)
        assert divergence(p, q) > 0
    assert gmmjax.normalised_ise(p, q) < 1


@pytest.mark.parametrize("bad", [0.0, -1.0, np.inf, np.nan, np.ones(2)])
def test_bad_bandwidth(bad):
    p = random_mixture(0, 2, 2)
    with pytest.raises(ValueError, match="bandwidth: expected a (number above 0|scalar)"):
        gmmjax.mmd_squared(p, p, bad)
    assert gmmjax.mmd_squared(p, p, 1) == 0
