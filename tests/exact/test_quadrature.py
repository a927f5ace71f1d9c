"""Numerical integration against exact values, an adaptive integrator, and itself in other
coordinates.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import LEAVES, REFERENCE, alike, cast, random_mixture
from scipy.integrate import quad
from scipy.special import logsumexp

import gmmjax
from gmmjax import from_covariances, js_quadrature, kl_quadrature

pairs = pytest.mark.parametrize("name", REFERENCE)


@pairs
def test_exact_values(name):
    p, q = alike(name)
    exact = REFERENCE[name]["exact"]
    for quantity, value in {
        "kl_pq": kl_quadrature(p, q),
        "entropy_p": gmmjax.entropy_quadrature(p),
    }.items():
        np.testing.assert_allclose(value, exact[quantity], rtol=1e-9)


@functools.cache
def with_gradient(divergence):
    return jax.jit(jax.value_and_grad(divergence, argnums=(0, 1)))


@pairs
@pytest.mark.parametrize("divergence", [kl_quadrature, js_quadrature])
def test_exact_gradients(name, divergence):
    quantity = "kl_pq" if divergence is kl_quadrature else "js"
    value, gradients = with_gradient(divergence)(*alike(name))
    np.testing.assert_allclose(value, REFERENCE[name]["exact"][quantity], rtol=1e-9)
    for side, found in zip("pq", gradients, strict=True):
        for leaf in LEAVES:
            truth = np.asarray(REFERENCE[name]["grad"][quantity][side][leaf])
            truth = np.tril(truth) if leaf == "scale" else truth
            np.testing.assert_allclose(
                getattr(found, leaf)[: len(truth)], truth, rtol=1e-7, atol=1e-10
            )
            # of components that only fill up the shape
            assert (getattr(found, leaf)[len(truth) :] == 0).all()


def wild(seed, count, spread, decades):
    rng = np.random.default_rng(seed)
    variances = 100.0 ** rng.uniform(-decades, decades, count)
    return from_covariances(
        rng.dirichlet(np.ones(count)), spread * rng.normal(size=(count, 1)), variances
    )


WIDE = from_covariances([1.0], [[0.0]], [1e6])
HARD = {
    "scales 1 to 1000": (
        from_covariances([0.5, 0.5], [[0.0], [1.0]], [1.0, 1e-6]),
        from_covariances([0.7, 0.3], [[0.2], [0.9]], [1.0, 1e-6]),
    ),
    "a kink far from both of its modes": (
        WIDE,
        from_covariances([0.5, 0.5], [[-1000.0], [1000.0]], [1.0, 1.0]),
    ),
    "two kinks beside each other": (
        WIDE,
        from_covariances([0.9, 0.1], [[0.0], [3.0]], [1.0, 1.02]),
    ),
    "almost no kink": (WIDE, from_covariances([0.5, 0.5], [[0.0], [0.1]], [1.0, 1.00014])),
    "common far modes": (
        from_covariances([0.3, 0.7], [[0.0], [1000.0]], [1.0, 1.0]),
        from_covariances([0.6, 0.4], [[0.0], [1000.0]], [1.2, 1.0]),
    ),
    "a far mode that q lacks": (
        from_covariances([0.3, 0.7], [[0.0], [1000.0]], [1.0, 1.0]),
        from_covariances([1.0], [[1.0]], [1.2]),
    ),
}
CROWDS = {
    "20 of one scale": (wild(0, 20, 3, 0.1), wild(1, 20, 3, 0.1)),
    "20": (wild(2, 20, 30, 1), wild(3, 20, 30, 1)),
}


def log_density(g):
    w, mean, sd = np.asarray(gmmjax.weights(g)), np.asarray(g.means)[:, 0], np.asarray(g.scale)
    constant = np.log(w / (sd * np.sqrt(2 * np.pi)))
    return lambda x: np.logaddexp.reduce(constant - 0.5 * ((x - mean) / sd) ** 2)


def adaptive(fn, *mixtures):
    """QUADPACK between all ±12 standard deviations of all components."""
    spread = np.linspace(-12, 12, 17)
    points = [np.asarray(g.means) + np.asarray(g.scale)[:, None] * spread for g in mixtures]
    points = np.unique(np.concatenate([part.ravel() for part in points]))
    ends = zip(points[:-1], points[1:], strict=True)
    return sum(quad(fn, a, b, epsabs=1e-16, epsrel=1e-12, limit=200)[0] for a, b in ends)


@functools.cache
def reference_kl(name):
    p, q = {**HARD, **CROWDS}[name]
    of_p, of_q = log_density(p), log_density(q)
    return adaptive(lambda x: np.exp(of_p(x)) * (of_p(x) - of_q(x)), p, q)


# it is asked for more than doubles have
@pytest.mark.filterwarnings("ignore::scipy.integrate.IntegrationWarning")
@pytest.mark.parametrize("name", [*HARD, *CROWDS])
def test_hard_pairs_on_the_line(name):
    p, q = {**HARD, **CROWDS}[name]
    np.testing.assert_allclose(kl_quadrature(p, q), reference_kl(name), rtol=1e-9)
    single = cast((p, q), jnp.float32)
    np.testing.assert_allclose(kl_quadrature(*single), reference_kl(name), rtol=1e-5)


def in_the_plane(g, angle, size=2):
    """A mixture on the line times a standard normal, rotated, and padded: divergences stay what
    they are.
    """
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    missing = size - g.num_components
    pad = lambda leaf: np.concatenate([leaf, np.repeat(leaf[-1:], missing, axis=0)])
    means = np.concatenate([pad(np.asarray(g.means)), np.zeros((size, 1))], axis=1) @ turn.T
    variances = np.stack([pad(np.asarray(g.scale)) ** 2, np.ones(size)], axis=1)
    weights = np.concatenate([gmmjax.weights(g), np.zeros(missing)])
    return from_covariances(weights, means, np.einsum("ij,kj,lj->kil", turn, variances, turn))


@pytest.mark.filterwarnings("ignore::scipy.integrate.IntegrationWarning")
@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("angle", [0.0, 0.001, 0.7, np.pi / 2])
def test_hard_pairs_in_the_plane(name, angle):
    p, q = (in_the_plane(g, angle) for g in HARD[name])
    np.testing.assert_allclose(kl_quadrature(p, q), reference_kl(name), rtol=1e-9)


def wild_plane(seed, turn):
    rng = np.random.default_rng(seed)
    factors = turn @ rng.normal(size=(3, 2, 2)) * 10 ** rng.uniform(-1.5, 0.5, (3, 1, 1))
    means = 4 * rng.normal(size=(3, 2)) @ turn.T
    return from_covariances(rng.dirichlet(np.ones(3)), means, factors @ factors.transpose(0, 2, 1))


@pytest.mark.parametrize("divergence", [kl_quadrature, js_quadrature])
def test_turned_planes(divergence):
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])  # other lines, other panels
    for seed in range(3):
        plain, turned = (
            divergence(wild_plane(seed, t), wild_plane(seed + 9, t)) for t in (np.eye(2), turn)
        )
        np.testing.assert_allclose(turned, plain, rtol=1e-9)


@pytest.mark.parametrize("ratio", [1.5, 3.0, 30.0, 1000.0])
def test_kinks_along_circles(ratio):
    components = ([[0.0, 0.0]] * 2, np.array([1.0, ratio**2])[:, None, None] * np.eye(2))
    p, q = (from_covariances(w, *components) for w in ([0.5, 0.5], [0.9, 0.1]))

    def log_radial(w, r):
        return logsumexp(
            np.log(w) - 0.5 * (r / np.array([1.0, ratio])) ** 2 - np.log([1.0, ratio**2])
        )

    def fn(r):
        a, b = log_radial([0.5, 0.5], r), log_radial([0.9, 0.1], r)
        return r * np.exp(a) * (a - b)

    points = np.unique(np.outer([1.0, ratio], np.linspace(0, 12, 25)))
    ends = zip(points[:-1], points[1:], strict=True)
    exact = sum(quad(fn, a, b, epsabs=1e-16, epsrel=1e-12)[0] for a, b in ends)
    np.testing.assert_allclose(kl_quadrature(p, q), exact, rtol=1e-9)


def test_a_fixed_rule_per_component_is_not_enough():
    name = "crouse_10_to_4"
    p, q = alike(name)
    z, w = np.polynomial.hermite_e.hermegauss(100)
    x = (p.means + p.scale[:, :1, 0] * z[None]).reshape(-1, 1)
    values = (gmmjax.log_prob(p, x) - gmmjax.log_prob(q, x)).reshape(-1, 100)
    hermite = jnp.vdot(gmmjax.weights(p), values @ w / np.sqrt(2 * np.pi))
    exact = REFERENCE[name]["exact"]["kl_pq"]
    assert 1e-7 < abs(hermite / exact - 1) < 1e-2


@pytest.mark.parametrize("divergence", [kl_quadrature, js_quadrature])
def test_small_divergences_keep_their_digits(divergence):
    p = HARD["common far modes"][0]
    shifted = lambda step: p._replace(means=p.means.at[0].add(step))
    # w · step² / 2, for modes that do not overlap
    expected = 0.3 / (2 if divergence is kl_quadrature else 8)
    for step in (1e-3, 1e-5, 1e-8):
        np.testing.assert_allclose(divergence(p, shifted(step)) / step**2, expected, rtol=1e-4)
    x = jnp.linspace(-9.0, 9.0, 2001)[:, None]
    ratio = gmmjax.log_prob(p, x) - gmmjax.log_prob(shifted(1e-8), x)
    plain = jnp.sum(jnp.exp(gmmjax.log_prob(p, x)) * ratio) * 0.009
    assert abs(plain / 1e-16 - 0.15) > 1e-3  # the textbook's integrand on the same line


def test_symmetry_and_equality():
    p, q = HARD["common far modes"]
    np.testing.assert_allclose(js_quadrature(p, q), js_quadrature(q, p), rtol=1e-13)
    assert abs(kl_quadrature(p, q) - kl_quadrature(q, p)) > 1e-3
    assert kl_quadrature(p, p) == js_quadrature(p, p) == 0
    assert all(
        jnp.abs(leaf).max() < 1e-14
        for leaf in jax.tree.leaves(with_gradient(kl_quadrature)(p, p)[1])
    )


def test_far_apart_is_log_2():
    p = HARD["a far mode that q lacks"][1]
    np.testing.assert_allclose(
        js_quadrature(p, p._replace(means=p.means + 1000)), np.log(2), rtol=1e-12
    )


def test_absent_components_count_for_nothing():
    p, q = random_mixture(0, 2, 1), random_mixture(1, 2, 1)
    padded = jax.tree.map(lambda leaf: leaf[0], gmmjax.stack([p, random_mixture(2, 3, 1)]))
    assert padded.num_components == 3
    np.testing.assert_allclose(kl_quadrature(padded, q), kl_quadrature(p, q), rtol=1e-10)
    found, expected = (with_gradient(kl_quadrature)(g, q)[1][0] for g in (padded, p))
    for leaf in LEAVES:
        np.testing.assert_allclose(
            getattr(found, leaf)[:2], getattr(expected, leaf), rtol=1e-8, atol=1e-10
        )
        assert (getattr(found, leaf)[2] == 0).all()


@pytest.mark.parametrize("kind", ["diagonal", "tied spherical"])
def test_every_structure_in_the_plane(kind):
    p, q = random_mixture(0, 2, 2, kind=kind), random_mixture(1, 2, 2, kind=kind)
    dense = [from_covariances(gmmjax.weights(g), g.means, gmmjax.covariances(g)) for g in (p, q)]
    np.testing.assert_allclose(kl_quadrature(p, q), kl_quadrature(*dense), rtol=1e-10)
    estimate = gmmjax.kl_divergence(jax.random.key(0), p, q)
    assert abs(estimate.value - kl_quadrature(p, q)) < 4 * estimate.stderr + 1e-9


def test_batches_and_forward_mode_in_the_plane():
    ps, qs = (gmmjax.stack([random_mixture(seed + i, 2, 2) for i in range(2)]) for seed in (0, 5))
    moved = lambda p, q, step: jax.tree.map(lambda a, b: a + step * b, p, q)
    values, slopes = jax.vmap(lambda p, q: jax.jvp(lambda p: kl_quadrature(p, q), (p,), (q,)))(
        ps, qs
    )
    for i in range(2):
        p, q = jax.tree.map(lambda leaf, i=i: leaf[i], (ps, qs))
        np.testing.assert_allclose(values[i], kl_quadrature(p, q), rtol=1e-10)
        difference = (
            kl_quadrature(moved(p, q, 1e-5), q) - kl_quadrature(moved(p, q, -1e-5), q)
        ) / 2e-5
        np.testing.assert_allclose(slopes[i], difference, rtol=1e-6)


def test_second_derivatives():
    p, q = HARD["common far modes"]
    call = lambda step: kl_quadrature(p, q._replace(means=q.means.at[0, 0].add(step)))
    slope = jax.jit(jax.grad(call))
    difference = (slope(1e-5) - slope(-1e-5)) / 2e-5
    np.testing.assert_allclose(jax.jit(jax.grad(jax.grad(call)))(0.0), difference, rtol=1e-7)


@pytest.mark.parametrize("dim", [1, 2])
def test_what_is_not_a_number_stays_so(dim):
    p, q = random_mixture(0, 2, dim), random_mixture(1, 2, dim)
    both = jax.jit(jax.value_and_grad(kl_quadrature))
    assert np.isfinite(both(p, q)[0])
    for leaf in LEAVES:
        bad = p._replace(**{leaf: getattr(p, leaf).at[0].set(jnp.nan)})
        assert np.isnan(both(q, bad)[0])
        value, slope = both(bad, q)
        assert np.isnan(value)
        assert np.isnan(slope.means).any()


def test_other_dimensions_are_refused():
    g = random_mixture(0, 2, 3)
    for call in (
        lambda: kl_quadrature(g, g),
        lambda: js_quadrature(g, g),
        lambda: gmmjax.entropy_quadrature(g),
    ):
        with pytest.raises(ValueError, match="p: quadrature is for dimension 1 or 2, got 3"):
            call()
