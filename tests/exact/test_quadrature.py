"""Quadrature against exact values, an adaptive integrator, and itself in other coordinates."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import LEAVES, REFERENCE, alike, cast, densified, random_mixture
from scipy.integrate import quad
from scipy.special import logsumexp

import gmmjax
from gmmjax import from_covariances, js_quadrature, kl_quadrature
from gmmjax._exact import first_strips
from gmmjax._exact.integrate import integrate

pairs = pytest.mark.parametrize("name", REFERENCE)


divergences = pytest.mark.parametrize("divergence", [kl_quadrature, js_quadrature])
QUANTITIES = {kl_quadrature: "kl_pq", js_quadrature: "js"}


@pairs
def test_exact_kl(name):
    """Not compiled together with its gradient."""
    exact = REFERENCE[name]["exact"]["kl_pq"]
    np.testing.assert_allclose(kl_quadrature(*alike(name)), exact, rtol=1e-9)


@pairs
def test_exact_entropies(name):
    p, _ = alike(name)
    exact = REFERENCE[name]["exact"]["entropy_p"]
    np.testing.assert_allclose(gmmjax.entropy_quadrature(p), exact, rtol=1e-9)


@functools.cache
def with_gradient(divergence):
    return jax.jit(jax.value_and_grad(divergence, argnums=(0, 1)))


@pairs
@divergences
def test_exact_values_beside_gradients(name, divergence):
    value, _ = with_gradient(divergence)(*alike(name))
    exact = REFERENCE[name]["exact"][QUANTITIES[divergence]]
    np.testing.assert_allclose(value, exact, rtol=1e-9)


@pairs
@divergences
def test_exact_gradients(name, divergence):
    """Also zero for components that only fill up the shape."""
    _, gradients = with_gradient(divergence)(*alike(name))
    truths = REFERENCE[name]["grad"][QUANTITIES[divergence]]
    for side, gradient in zip("pq", gradients, strict=True):
        for leaf in LEAVES:
            found = getattr(gradient, leaf)
            truth = np.asarray(truths[side][leaf])
            truth = np.tril(truth) if leaf == "scale" else truth
            np.testing.assert_allclose(found[: len(truth)], truth, rtol=1e-7, atol=1e-10)
            assert (found[len(truth) :] == 0).all()


def wild(seed, count, spread, decades):
    """A mixture on the line with deviations over so many powers of ten to either side of one."""
    rng = np.random.default_rng(seed)
    variances = 100.0 ** rng.uniform(-decades, decades, count)
    weights = rng.dirichlet(np.ones(count))
    means = spread * rng.normal(size=(count, 1))
    return from_covariances(weights, means, variances)


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
    """Log-density on the line in NumPy, point by point."""
    w = np.asarray(gmmjax.weights(g))
    mean = np.asarray(g.means)[:, 0]
    sd = np.asarray(g.scale)
    constant = np.log(w / (sd * np.sqrt(2 * np.pi)))
    return lambda x: np.logaddexp.reduce(constant - 0.5 * ((x - mean) / sd) ** 2)


def adaptive(fn, *mixtures):
    """QUADPACK within ±12 standard deviations of all components."""
    spread = np.linspace(-12, 12, 17)
    points = [np.asarray(g.means) + np.asarray(g.scale)[:, None] * spread for g in mixtures]
    return integral_between(np.concatenate([part.ravel() for part in points]), fn, limit=200)


def integral_between(points, fn, **settings):
    """QUADPACK between each two neighbours of some points."""
    points = np.unique(points)
    ends = zip(points[:-1], points[1:], strict=True)
    return sum(quad(fn, a, b, epsabs=1e-16, epsrel=1e-12, **settings)[0] for a, b in ends)


def hard_pair(name):
    return {**HARD, **CROWDS}[name]


@functools.cache
def reference_kl(name):
    p, q = hard_pair(name)
    log_p, log_q = log_density(p), log_density(q)
    return adaptive(lambda x: np.exp(log_p(x)) * (log_p(x) - log_q(x)), p, q)


# QUADPACK is asked for more than doubles have.
impatient = pytest.mark.filterwarnings("ignore::scipy.integrate.IntegrationWarning")


@impatient
@pytest.mark.parametrize("name", [*HARD, *CROWDS])
@pytest.mark.parametrize(("dtype", "rtol"), [(jnp.float32, 1e-5), (jnp.float64, 1e-9)])
def test_hard_pairs_on_the_line(name, dtype, rtol):
    value = kl_quadrature(*cast(hard_pair(name), dtype))
    np.testing.assert_allclose(value, reference_kl(name), rtol=rtol)


def in_the_plane(g, angle, size=2):
    """A mixture on the line times a standard normal, turned and padded: divergences stay."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    missing = size - g.num_components

    def pad(leaf):
        return np.concatenate([leaf, np.repeat(leaf[-1:], missing, axis=0)])

    weights = np.concatenate([gmmjax.weights(g), np.zeros(missing)])
    means = np.concatenate([pad(np.asarray(g.means)), np.zeros((size, 1))], axis=1)
    variances = np.stack([pad(np.asarray(g.scale)) ** 2, np.ones(size)], axis=1)
    covariances = np.einsum("ij,kj,lj->kil", turn, variances, turn)
    return from_covariances(weights, means @ turn.T, covariances)


@impatient
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


@functools.cache
def optimised(divergence):
    """For planes with many panels, where running takes longer than compiling."""
    return jax.jit(divergence, compiler_options={"xla_backend_optimization_level": 1})


@divergences
@pytest.mark.parametrize("seed", range(3))
def test_turned_planes(divergence, seed):
    """Other lines, and other panels on them."""
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    integral = optimised(divergence)
    plain = integral(wild_plane(seed, np.eye(2)), wild_plane(seed + 9, np.eye(2)))
    turned = integral(wild_plane(seed, turn), wild_plane(seed + 9, turn))
    np.testing.assert_allclose(turned, plain, rtol=1e-9)


@pytest.mark.parametrize("ratio", [1.5, 3.0, 30.0, 1000.0])
def test_kinks_along_circles(ratio):
    """Round components about one centre, whose radius has a density on the line."""
    deviations = np.array([1.0, ratio])
    of_p, of_q = np.array([0.5, 0.5]), np.array([0.9, 0.1])

    def mixture(weights):
        covariances = deviations[:, None, None] ** 2 * np.eye(2)
        return from_covariances(weights, np.zeros((2, 2)), covariances)

    def log_radial(weights, r):
        return logsumexp(np.log(weights / deviations**2) - 0.5 * (r / deviations) ** 2)

    def integrand(r):
        log_p, log_q = log_radial(of_p, r), log_radial(of_q, r)
        return r * np.exp(log_p) * (log_p - log_q)

    exact = integral_between(np.outer(deviations, np.linspace(0, 12, 25)), integrand)
    np.testing.assert_allclose(kl_quadrature(mixture(of_p), mixture(of_q)), exact, rtol=1e-9)


def test_a_fixed_rule_per_component_is_not_enough():
    """Gauss–Hermite points about each component, 100 of them."""
    name = "crouse_10_to_4"
    p, q = alike(name)
    z, w = np.polynomial.hermite_e.hermegauss(100)
    x = (p.means + p.scale[:, :1, 0] * z[None]).reshape(-1, 1)
    values = (gmmjax.log_prob(p, x) - gmmjax.log_prob(q, x)).reshape(-1, 100)
    means = values @ w / np.sqrt(2 * np.pi)
    hermite = jnp.vdot(gmmjax.weights(p), means)
    exact = REFERENCE[name]["exact"]["kl_pq"]
    assert 1e-7 < abs(hermite / exact - 1) < 1e-2


def shifted(p, step):
    """The mixture with its first mode moved."""
    return p._replace(means=p.means.at[0].add(step))


@divergences
@pytest.mark.parametrize("step", [1e-3, 1e-5, 1e-8])
def test_small_divergences_keep_their_digits(divergence, step):
    """KL is w · step² / 2 and JS a quarter of it where modes do not overlap."""
    p, _ = HARD["common far modes"]
    expected = 0.3 / {kl_quadrature: 2, js_quadrature: 8}[divergence]
    np.testing.assert_allclose(divergence(p, shifted(p, step)) / step**2, expected, rtol=1e-4)


def test_the_plain_integrand_loses_these_digits():
    p, _ = HARD["common far modes"]
    x = jnp.linspace(-9.0, 9.0, 2001)[:, None]
    log_p = gmmjax.log_prob(p, x)
    ratio = log_p - gmmjax.log_prob(shifted(p, 1e-8), x)
    plain = jnp.sum(jnp.exp(log_p) * ratio) * 0.009
    assert abs(plain / 1e-16 - 0.15) > 1e-3


def test_js_is_symmetric():
    p, q = HARD["common far modes"]
    np.testing.assert_allclose(js_quadrature(p, q), js_quadrature(q, p), rtol=1e-13)


def test_kl_is_not_symmetric():
    p, q = HARD["common far modes"]
    assert abs(kl_quadrature(p, q) - kl_quadrature(q, p)) > 1e-3


@divergences
def test_exactly_zero_at_equality(divergence):
    p, _ = HARD["common far modes"]
    assert divergence(p, p) == 0


def test_no_gradient_at_equality():
    p, _ = HARD["common far modes"]
    _, gradients = with_gradient(kl_quadrature)(p, p)
    assert all(jnp.abs(leaf).max() < 1e-14 for leaf in jax.tree.leaves(gradients))


def test_far_apart_is_log_2():
    _, p = HARD["a far mode that q lacks"]
    far = p._replace(means=p.means + 1000)
    np.testing.assert_allclose(js_quadrature(p, far), np.log(2), rtol=1e-12)


def with_absent(g):
    """The mixture of two components with an absent third one."""
    batch = gmmjax.stack([g, random_mixture(2, 3, 1)])
    return jax.tree.map(lambda leaf: leaf[0], batch)


@pytest.mark.parametrize("decades", [3, 5, 8])
def test_what_is_narrow_beside_a_wide_gap_is_not_missed(decades, monkeypatch):
    """Strips that went on from the tail of a component over a gap would not meet the component."""
    rng = np.random.default_rng(decades)
    pair = [random_mixture(seed, 4, 2) for seed in (decades, decades + 1)]
    pair = [g._replace(scale=g.scale * 10.0 ** rng.uniform(-2, 2, (4, 1, 1))) for g in pair]
    pair[1] = pair[1]._replace(means=pair[1].means + 10.0**decades * jnp.array([[0.6, 0.8]]))

    def mass(*mixtures):
        return integrate(lambda *logs: sum(map(jnp.exp, logs)), mixtures, joint=True)

    np.testing.assert_allclose(jax.jit(mass)(*pair), 2.0, rtol=1e-9)
    np.testing.assert_allclose(js_quadrature(*pair), np.log(2), rtol=1e-9)
    if decades == 5:
        monkeypatch.setattr(first_strips, "WIDE", np.inf)
        assert abs(jax.jit(lambda *pair: mass(*pair))(*pair) - 2) > 1e-3


def test_absent_components_do_not_change_the_value():
    p, q = random_mixture(0, 2, 1), random_mixture(1, 2, 1)
    value = kl_quadrature(with_absent(p), q)
    np.testing.assert_allclose(value, kl_quadrature(p, q), rtol=1e-10)


def test_absent_components_have_no_gradient_and_change_none():
    p, q = random_mixture(0, 2, 1), random_mixture(1, 2, 1)
    _, (gradient, _) = with_gradient(kl_quadrature)(with_absent(p), q)
    _, (expected, _) = with_gradient(kl_quadrature)(p, q)
    for leaf, truth in zip(gradient, expected, strict=True):
        np.testing.assert_allclose(leaf[:2], truth, rtol=1e-8, atol=1e-10)
        assert (leaf[2] == 0).all()


structures = pytest.mark.parametrize("kind", ["diagonal", "tied spherical"])


@structures
def test_structure_in_the_plane_is_its_dense_twin(kind):
    p, q = random_mixture(0, 2, 2, kind=kind), random_mixture(1, 2, 2, kind=kind)
    dense = kl_quadrature(densified(p), densified(q))
    np.testing.assert_allclose(kl_quadrature(p, q), dense, rtol=1e-10)


@structures
def test_quadrature_in_the_plane_agrees_with_an_estimate(kind, key):
    p, q = random_mixture(0, 2, 2, kind=kind), random_mixture(1, 2, 2, kind=kind)
    value, stderr = gmmjax.kl_divergence(key, p, q)
    assert abs(value - kl_quadrature(p, q)) < 4 * stderr + 1e-9


def test_batches_and_forward_mode_in_the_plane():
    """The slope of each element in the direction of q, against a finite difference."""
    pairs = [(random_mixture(i, 2, 2), random_mixture(5 + i, 2, 2)) for i in range(2)]

    def value_and_slope(p, q):
        return jax.jvp(lambda p: kl_quadrature(p, q), (p,), (q,))

    def moved(p, q, step):
        return kl_quadrature(jax.tree.map(lambda a, b: a + step * b, p, q), q)

    batches = map(gmmjax.stack, zip(*pairs, strict=True))
    values, slopes = jax.vmap(value_and_slope)(*batches)
    for (p, q), value, slope in zip(pairs, values, slopes, strict=True):
        np.testing.assert_allclose(value, kl_quadrature(p, q), rtol=1e-10)
        difference = (moved(p, q, 1e-5) - moved(p, q, -1e-5)) / 2e-5
        np.testing.assert_allclose(slope, difference, rtol=1e-6)


def test_second_derivatives():
    p, q = HARD["common far modes"]

    def value_at(step):
        return kl_quadrature(p, q._replace(means=q.means.at[0, 0].add(step)))

    slope = jax.jit(jax.grad(value_at))
    curvature = jax.jit(jax.grad(jax.grad(value_at)))(0.0)
    np.testing.assert_allclose(curvature, (slope(1e-5) - slope(-1e-5)) / 2e-5, rtol=1e-7)


with_gradient_of_p = jax.jit(jax.value_and_grad(kl_quadrature))
dimensions = pytest.mark.parametrize("dim", [1, 2])
leaves = pytest.mark.parametrize("leaf", LEAVES)


def bad_mixture(dim, leaf):
    g = random_mixture(0, 2, dim)
    return g._replace(**{leaf: getattr(g, leaf).at[0].set(jnp.nan)})


@dimensions
@leaves
def test_nan_in_p_is_seen_in_value_and_gradient(dim, leaf):
    value, gradient = with_gradient_of_p(bad_mixture(dim, leaf), random_mixture(1, 2, dim))
    assert np.isnan(value)
    assert np.isnan(gradient.means).any()


@dimensions
@leaves
def test_nan_in_q_is_seen(dim, leaf):
    value, _ = with_gradient_of_p(random_mixture(1, 2, dim), bad_mixture(dim, leaf))
    assert np.isnan(value)


@dimensions
def test_numbers_give_numbers(dim):
    value, _ = with_gradient_of_p(random_mixture(0, 2, dim), random_mixture(1, 2, dim))
    assert np.isfinite(value)


@pytest.mark.parametrize(
    "call",
    [lambda g: kl_quadrature(g, g), lambda g: js_quadrature(g, g), gmmjax.entropy_quadrature],
    ids=["kl", "js", "entropy"],
)
def test_other_dimensions_are_refused(call):
    with pytest.raises(ValueError, match="p: quadrature is for dimension 1 or 2, got 3"):
        call(random_mixture(0, 2, 3))
