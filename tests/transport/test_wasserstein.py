"""Wasserstein distances against linear programmes, high-precision closed forms and quadrature."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import KINDS, cast, densified, random_mixture
from scipy import optimize, sparse, special

import gmmjax
from gmmjax._transport.coupling import coupling
from gmmjax._transport.transport import transport
from gmmjax._transport.wasserstein import pairwise_w2_squared

W, V = np.array([0.3, 0.7]), np.array([0.45, 0.55])


def linear_programme(cost, supply, demand):
    """The least cost by scipy; the last balance follows from the others."""
    n, m = cost.shape
    rows = sparse.kron(sparse.eye(n), np.ones((1, m)))
    columns = sparse.kron(np.ones((1, n)), sparse.eye(m))
    balance = sparse.vstack([rows, columns]).tocsr()[:-1]
    masses = np.concatenate([supply, demand])[:-1]
    return optimize.linprog(cost.ravel(), A_eq=balance, b_eq=masses).fun


def problem(kind, n=12, m=9):
    rng = np.random.default_rng(3)
    sources, targets = rng.normal(size=(n, 1, 2)), rng.normal(size=(1, m, 2))
    cost = np.sum((sources - targets) ** 2, axis=-1)
    supply, demand = rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(m))
    if kind == "ties":
        cost = np.round(cost)
    if kind == "even":
        supply, demand = np.full(n, 1 / n), np.full(m, 1 / m)
    if kind == "absent":
        supply = np.where(np.arange(n) % 3, supply, 0)
        supply = supply / supply.sum()
    return cost, supply, demand


solve, pairs = jax.jit(transport), jax.jit(pairwise_w2_squared)


def solved(kind, dtype):
    """Coupling and potentials in doubles, found in another precision."""
    single = (a.astype(dtype) for a in problem(kind))
    return (np.asarray(a, np.float64) for a in solve(*single))


kinds = pytest.mark.parametrize("kind", ["plain", "ties", "even", "absent"])
both_precisions = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@kinds
@both_precisions
def test_coupling_has_the_masses_as_its_sums(kind, dtype):
    _, supply, demand = problem(kind)
    coupling, _, _ = solved(kind, dtype)
    tolerance = 200 * np.finfo(dtype).eps
    np.testing.assert_allclose(coupling.sum(1), supply, atol=tolerance)
    np.testing.assert_allclose(coupling.sum(0), demand, atol=tolerance)
    assert coupling.min() >= 0


@kinds
@both_precisions
def test_potentials_prove_that_the_coupling_is_optimal(kind, dtype):
    cost, supply, demand = problem(kind)
    coupling, f, g = solved(kind, dtype)
    tolerance = 200 * np.finfo(dtype).eps
    assert (cost - f[:, None] - g[None]).min() > -tolerance
    np.testing.assert_allclose(np.sum(coupling * cost), supply @ f + demand @ g, rtol=tolerance)


@kinds
def test_transport_is_the_optimum_of_a_linear_programme(kind):
    cost, supply, demand = problem(kind)
    coupling, _, _ = solved(kind, np.float64)
    optimum = linear_programme(cost, supply, demand)
    np.testing.assert_allclose(np.sum(coupling * cost), optimum, rtol=1e-9)


def in_two_parts():
    """Masses that balance to the bit in each half, between which nothing moves."""
    cost = np.kron(1 - np.eye(2), np.full((2, 2), 100.0)) + np.arange(4.0)[:, None] * np.arange(4)
    return cost, np.array([2, 2, 1, 3]) / 8, np.array([1, 3, 2, 2]) / 8


@pytest.mark.parametrize("parts", [1, 2])
def test_the_coupling_moves_with_its_masses(parts):
    """Against a step so small that the same places are used."""
    cost, supply, demand = problem("plain", 4, 4) if parts == 1 else in_two_parts()
    moves = np.array([1.0, -1.0, 1.0, -1.0]), np.array([-1.0, 1.0, 1.0, -1.0])
    tangents = np.zeros_like(cost), *moves
    _, found = jax.jit(lambda *t: jax.jvp(coupling, (cost, supply, demand), t))(*tangents)
    there, back = (
        solve(cost, *(m + h * d for m, d in zip((supply, demand), moves, strict=True))).coupling
        for h in (2**-12, -(2**-12))
    )
    assert (np.asarray(there > 0) == np.asarray(back > 0)).all()
    np.testing.assert_allclose(found, (there - back) * 2**11, atol=1e-9)
    np.testing.assert_allclose(found.sum(axis=1), moves[0], atol=1e-12)


@kinds
def test_transport_is_better_than_the_independent_coupling(kind):
    cost, supply, demand = problem(kind)
    coupling, _, _ = solved(kind, np.float64)
    assert np.sum(np.outer(supply, demand) * cost) > np.sum(coupling * cost) + 0.1


def test_transport_of_nan_ends_and_says_so():
    cost, supply, demand = problem("plain")
    assert np.isnan(solve(cost * np.nan, supply, demand).coupling).all()


def ill_conditioned(seed, condition, dim=5):
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))[0]
    covariance = rotation @ np.diag(np.geomspace(1, 1 / condition, dim)) @ rotation.T
    return gmmjax.from_covariances([1.0], np.zeros((1, dim)), (covariance + covariance.T)[None] / 2)


conditions = pytest.mark.parametrize("condition", [10, 1e6, 1e10])


@conditions
@pytest.mark.parametrize(("dtype", "rtol"), [(jnp.float32, 2e-6), (jnp.float64, 1e-13)])
def test_gaussian_distance_survives_bad_conditioning(condition, dtype, rtol):
    """Against singular values: the trace of the root is their sum, for a product of factors."""
    p, q = ill_conditioned(0, condition), ill_conditioned(1, condition)
    a, b = np.asarray(p.scale[0]), np.asarray(q.scale[0])
    singular_values = np.linalg.svd(a.T @ b, compute_uv=False)
    truth = np.sum(a * a) + np.sum(b * b) - 2 * singular_values.sum()
    value = gmmjax.gaussian_w2_squared(*cast((p, q), dtype))
    np.testing.assert_allclose(value, truth, rtol=rtol)


@conditions
@pytest.mark.parametrize(("dtype", "small"), [(jnp.float32, 1e-13), (jnp.float64, 1e-30)])
def test_bad_conditioning_does_no_harm_at_equality(condition, dtype, small):
    p = cast(ill_conditioned(0, condition), dtype)
    value, gradient = jax.value_and_grad(gmmjax.gaussian_w2_squared, argnums=(0, 1))(p, p)
    assert 0 <= value < small
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(gradient)) < 1e-5


def test_gaussian_distance_takes_gaussians_only():
    message = "q: expected one Gaussian, got a mixture of 2.*mw2_squared"
    with pytest.raises(ValueError, match=message):
        gmmjax.gaussian_w2_squared(random_mixture(0, 1, 2), random_mixture(0, 2, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_every_structure_is_its_dense_form(kind):
    p, q = random_mixture(0, 3, 2, kind=kind), random_mixture(1, 2, 2, kind=kind)
    p = p._replace(scale=-p.scale)  # signs do not matter
    dense = pairs(densified(p), densified(q))
    for a, b in ((p, q), (p, densified(q)), (densified(p), q)):
        np.testing.assert_allclose(pairs(a, b), dense, rtol=1e-12)


def numerical_gradient(function, g, step=1e-5):
    """Central differences in every number of every leaf."""

    def partial_derivative(name, place):
        leaf = np.asarray(getattr(g, name))
        shift = np.zeros_like(leaf)
        shift[place] = step
        up = function(g._replace(**{name: jnp.asarray(leaf + shift)}))
        down = function(g._replace(**{name: jnp.asarray(leaf - shift)}))
        return (up - down) / (2 * step)

    def derivatives(name):
        shape = getattr(g, name).shape
        slopes = [partial_derivative(name, place) for place in np.ndindex(shape)]
        return np.array(slopes).reshape(shape)

    return type(g)(*map(derivatives, g._fields))


structures = pytest.mark.parametrize("kind", ["full", "spherical"])


def mixture_pair(kind):
    return random_mixture(0, 3, 2, kind=kind), random_mixture(1, 2, 2, kind=kind)


def optimal_cost(p, q):
    return linear_programme(np.asarray(pairs(p, q)), gmmjax.weights(p), gmmjax.weights(q))


@structures
def test_mixture_distance_is_a_linear_programme(kind):
    p, q = mixture_pair(kind)
    np.testing.assert_allclose(gmmjax.mw2_squared(p, q), optimal_cost(p, q), rtol=1e-12)


@structures
def test_mixture_distance_is_symmetric(kind):
    p, q = mixture_pair(kind)
    np.testing.assert_allclose(gmmjax.mw2_squared(q, p), optimal_cost(p, q), rtol=1e-12)


@structures
def test_coupling_has_the_least_cost(kind):
    p, q = mixture_pair(kind)
    cost = np.sum(gmmjax.mw2_coupling(p, q) * pairs(p, q))
    np.testing.assert_allclose(cost, optimal_cost(p, q), rtol=1e-12)


@structures
def test_gradient_of_the_mixture_distance(kind):
    p, q = mixture_pair(kind)
    gradient_p, gradient_q = jax.jit(jax.grad(gmmjax.mw2_squared, argnums=(0, 1)))(p, q)
    expected_p = numerical_gradient(lambda g: gmmjax.mw2_squared(g, q), p)
    expected_q = numerical_gradient(lambda g: gmmjax.mw2_squared(p, g), q)
    for leaf, expected in zip(gradient_p + gradient_q, expected_p + expected_q, strict=True):
        np.testing.assert_allclose(leaf, expected, rtol=1e-6, atol=1e-8)


@structures
def test_a_mixture_is_at_distance_zero_from_itself(kind):
    p = random_mixture(0, 3, 2, kind=kind)
    value, gradient = jax.value_and_grad(gmmjax.mw2_squared, argnums=(0, 1))(p, p)
    assert 0 <= value < 1e-28
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(gradient)) < 1e-13


@structures
def test_a_mixture_is_coupled_with_itself_component_by_component(kind):
    p = random_mixture(0, 3, 2, kind=kind)
    np.testing.assert_allclose(gmmjax.mw2_coupling(p, p), np.diag(gmmjax.weights(p)), atol=1e-15)


def with_absent(g, factor):
    """`g` and one more component, absent, somewhere else."""
    wide = jax.tree.map(lambda leaf: jnp.concatenate([leaf[:1] * factor, leaf]), g)
    return wide._replace(logits=wide.logits.at[0].set(-jnp.inf))


@jax.jit
@functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
def sliced(p, q, key):
    return gmmjax.sliced_w2_squared(key, p, q, num_samples=1024)


@jax.jit
@functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
def mixture(p, q, key):
    return gmmjax.mw2_squared(p, q), 0.0


distances = pytest.mark.parametrize("distance", [sliced, mixture], ids=["sliced", "mixture"])


@distances
def test_it_does_not_matter_where_absent_components_are(distance, key):
    p, q = random_mixture(0, 3, 2), random_mixture(1, 3, 2)
    (value, _), gradient = distance(with_absent(p, 1), with_absent(q, 1), key)
    (far_value, _), far_gradient = distance(with_absent(p, 50), with_absent(q, -30), key)
    np.testing.assert_allclose(far_value, value, rtol=1e-11)
    for near, far in zip(jax.tree.leaves(gradient), jax.tree.leaves(far_gradient), strict=True):
        np.testing.assert_allclose(far, near, rtol=1e-8, atol=1e-9)


@distances
def test_absent_components_and_only_these_have_no_gradient(distance, key):
    p, q = random_mixture(0, 3, 2), random_mixture(1, 3, 2)
    _, gradient = distance(with_absent(p, 50), with_absent(q, -30), key)
    for leaf in jax.tree.leaves(gradient):
        assert not np.any(leaf[0])
        assert np.any(leaf[1])


@distances
def test_the_same_components_would_be_seen_if_present(distance, key):
    p, q = random_mixture(0, 3, 2), random_mixture(1, 3, 2)
    (value, _), _ = distance(with_absent(p, 1), with_absent(q, 1), key)
    present = with_absent(p, 50)._replace(logits=jnp.zeros(4))
    (other_value, _), _ = distance(present, with_absent(q, 1), key)
    assert other_value > value + 1


def quantiles(g, score):
    """By bisection, with scipy's normal distribution, at the levels of normal scores."""
    w = special.softmax(g.logits)
    m = np.asarray(g.means)
    s = np.abs(np.asarray(g.scale))[:, None]
    each = m + s * score[None]
    low, high = each.min(0), each.max(0)
    tail = np.where(score < 0, 1, -1)  # the mass of the lesser tail keeps its digits
    level = special.ndtr(tail * score)
    for _ in range(52):
        x = (low + high) / 2
        mass = w @ special.ndtr(tail * ((x - m) / s))
        below = tail * (mass - level) < 0
        low = np.where(below, x, low)
        high = np.where(below, high, x)
    return x


def w2_squared(p, q):
    """Between mixtures on the line, by Gauss–Legendre panels, finest at the levels of the gaps."""
    levels = [np.cumsum(special.softmax(g.logits))[:-1] for g in (p, q)]
    gaps = special.ndtri(np.concatenate(levels))
    distances = np.geomspace(1e-8, 4, 30)
    around = gaps[:, None] + np.concatenate([-distances, [0.0], distances])
    ends = np.concatenate([around.ravel(), np.linspace(-9, 9, 30)])
    ends = np.unique(np.clip(ends, -9, 9))
    nodes, weight = np.polynomial.legendre.leggauss(12)
    half = np.diff(ends)[:, None] / 2
    t = (ends[:-1, None] + half + half * nodes).ravel()
    density = (half * weight).ravel() * np.exp(-(t**2) / 2) / np.sqrt(2 * np.pi)
    return float(density @ (quantiles(p, t) - quantiles(q, t)) ** 2)


def with_a_gap():
    """Two mixtures on the line, of which the first has a wide gap between its components."""
    p = gmmjax.from_covariances(W, [[-20.0], [20.0]], [1.0, 0.5])
    q = gmmjax.from_covariances(V, [[-1.0], [2.0]], [2.0, 1.0])
    return p, q


# It runs longer than it compiles.
@functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 3})
def gradients_of_keys(p, q, keys):
    def value(p, q, key):
        return gmmjax.sliced_w2_squared(key, p, q, num_samples=2048).value

    return jax.lax.map(lambda key: jax.grad(value, argnums=(0, 1))(p, q, key), keys)


def test_sliced_distance_on_the_line(key):
    p, q = with_a_gap()
    value, stderr = gmmjax.sliced_w2_squared(key, p, q)
    assert abs(value - w2_squared(p, q)) <= 4 * stderr
    assert stderr < 0.01 * value


def test_sliced_distance_on_the_line_has_all_gradients(key):
    """Their mean over keys is right, and the gap does not drown it in noise."""
    p, q = with_a_gap()
    draws_p, draws_q = gradients_of_keys(p, q, jax.random.split(key, 64))
    expected_p = numerical_gradient(lambda g: w2_squared(g, q), p, step=1e-4)
    expected_q = numerical_gradient(lambda g: w2_squared(p, g), q, step=1e-4)
    for draws, expected in zip(draws_p + draws_q, expected_p + expected_q, strict=True):
        error = np.abs(draws.mean(0) - expected)
        noise = np.asarray(draws.std(0)) / 8
        size = np.abs(expected).max()
        assert (error <= 4.5 * noise + 1e-6 * size).all()
        assert noise.max() < 0.1 * size


def test_quantiles_alone_would_lose_the_weight_gradient():
    """The derivative in the first logit, from quantiles that move and from the distance itself."""
    p, q = with_a_gap()
    t = np.random.default_rng(0).normal(size=1 << 15)
    x, y = quantiles(p, t), quantiles(q, t)
    z = (x[None] - np.asarray(p.means)) / np.asarray(p.scale)[:, None]
    density = (W / np.asarray(p.scale)) @ np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    weights_slope = W * (np.array([1.0, 0.0]) - W[0])
    quantiles_slope = -(weights_slope @ special.ndtr(z)) / density
    pathwise = np.mean(2 * (x - y) * quantiles_slope)

    def moved(step):
        return w2_squared(p._replace(logits=p.logits + np.array([step, 0.0])), q)

    truth = (moved(1e-4) - moved(-1e-4)) / 2e-4
    assert abs(pathwise - truth) > 0.5 * abs(truth)


def test_sliced_distance_of_round_gaussians_is_closed(key):
    """Far from 0, too, in float32."""
    p = gmmjax.from_covariances([1.0], np.zeros((1, 4)), [1.0])
    q = gmmjax.from_covariances([1.0], [[1.0, 2.0, 0.0, 0.0]], [9.0])
    far_p, far_q = (cast(g._replace(means=g.means + 1e4), jnp.float32) for g in (p, q))
    value, stderr = gmmjax.sliced_w2_squared(key, far_p, far_q)
    assert abs(value - (5 / 4 + 4)) <= 4 * stderr + 1e-3
    assert stderr < 0.05


def test_sliced_distance_is_symmetric(key):
    p, q = (with_absent(random_mixture(seed, 3, 2), 1) for seed in (0, 1))
    estimate, _ = sliced(p, q, key)
    reverse, _ = sliced(q, p, key)
    np.testing.assert_allclose(reverse, estimate, rtol=1e-9)


def test_sliced_distance_is_below_the_mixture_distance(key):
    """The mean of (θᵀx)² over directions is |x|² / D."""
    p, q = (with_absent(random_mixture(seed, 3, 2), 1) for seed in (0, 1))
    (value, stderr), _ = sliced(p, q, key)
    (bound, _), _ = mixture(p, q, key)
    assert 0.01 < value - 4 * stderr < bound / 2


def test_sliced_distance_of_a_mixture_to_itself_is_exactly_zero(key):
    p = with_absent(random_mixture(0, 3, 2), 1)
    estimate, gradient = sliced(p, p, key)
    assert estimate == (0, 0)
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(gradient)) < 1e-12


@pytest.mark.parametrize("ranks", [(3, 1), (1, 3), (2, 2), (0, 3), (0, 0)])
def test_singular_gaussians_have_a_distance(ranks):
    """Against the limit of regular ones, whose covariance gains 1e-10."""
    rng = np.random.default_rng(sum(ranks))

    def gaussian(rank):
        return np.tril(rng.normal(size=(3, 3))) * (rng.permutation(3) < rank)[None]

    factors = [gaussian(rank) for rank in ranks]
    means = rng.normal(size=(2, 1, 3))
    flat = [
        gmmjax.GMM(jnp.zeros(1), jnp.asarray(m), jnp.asarray(f)[None])
        for m, f in zip(means, factors, strict=True)
    ]
    near = [
        g._replace(scale=jnp.linalg.cholesky(gmmjax.covariances(g) + 1e-10 * np.eye(3)[None]))
        for g in flat
    ]
    expected = gmmjax.gaussian_w2_squared(*near)
    w2 = jax.jit(jax.value_and_grad(gmmjax.gaussian_w2_squared, argnums=(0, 1)))
    value, gradients = w2(*flat)
    np.testing.assert_allclose(value, expected, atol=1e-4)
    np.testing.assert_allclose(gmmjax.mw2_squared(*flat), value, rtol=1e-12)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
