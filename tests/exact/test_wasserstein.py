"""Wasserstein distances against linear programmes, high-precision closed forms and quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import KINDS, cast, densified, random_mixture
from scipy import optimize, sparse, special

import gmmjax
from gmmjax._exact.transport import transport
from gmmjax._exact.wasserstein import pairwise_w2_squared

W, V = np.array([0.3, 0.7]), np.array([0.45, 0.55])


def linear_programme(cost, supply, demand):
    n, m = cost.shape
    rows, columns = (
        sparse.kron(sparse.eye(n), np.ones((1, m))),
        sparse.kron(np.ones((1, n)), sparse.eye(m)),
    )
    balance = sparse.vstack([rows, columns]).tocsr()[:-1]
    return optimize.linprog(
        cost.ravel(), A_eq=balance, b_eq=np.concatenate([supply, demand])[:-1]
    ).fun


def problem(kind, n=12, m=9):
    rng = np.random.default_rng(3)
    cost = np.sum((rng.normal(size=(n, 1, 2)) - rng.normal(size=(1, m, 2))) ** 2, axis=-1)
    supply, demand = rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(m))
    if kind == "ties":
        cost = np.round(cost)
    if kind == "even":
        supply, demand = np.full(n, 1 / n), np.full(m, 1 / m)
    if kind == "absent":
        supply = np.where(np.arange(n) % 3, supply, 0) / supply[np.arange(n) % 3 > 0].sum()
    return cost, supply, demand


solve, pairs = jax.jit(transport), jax.jit(pairwise_w2_squared)


@pytest.mark.parametrize("kind", ["plain", "ties", "even", "absent"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_transport_is_optimal_and_proves_it(kind, dtype):
    cost, supply, demand = problem(kind)
    coupling, f, g = (
        np.asarray(a, np.float64) for a in solve(*(a.astype(dtype) for a in (cost, supply, demand)))
    )
    tolerance = 200 * np.finfo(dtype).eps
    np.testing.assert_allclose(coupling.sum(1), supply, atol=tolerance)
    np.testing.assert_allclose(coupling.sum(0), demand, atol=tolerance)
    assert coupling.min() >= 0
    assert (cost - f[:, None] - g[None]).min() > -tolerance
    np.testing.assert_allclose(np.sum(coupling * cost), supply @ f + demand @ g, rtol=tolerance)
    if dtype == np.float64:
        np.testing.assert_allclose(
            np.sum(coupling * cost), linear_programme(cost, supply, demand), rtol=1e-9
        )
        # it is not just any plan
        assert np.sum(np.outer(supply, demand) * cost) > np.sum(coupling * cost) + 0.1


def test_transport_of_nan_ends_and_says_so():
    cost, supply, demand = problem("plain")
    assert np.isnan(solve(cost * np.nan, supply, demand).coupling).all()


def ill_conditioned(seed, condition, dim=5):
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))[0]
    covariance = rotation @ np.diag(np.geomspace(1, 1 / condition, dim)) @ rotation.T
    return gmmjax.from_covariances([1.0], np.zeros((1, dim)), (covariance + covariance.T)[None] / 2)


@pytest.mark.parametrize("condition", [10, 1e6, 1e10])
def test_gaussian_distance_survives_bad_conditioning(condition):
    p, q = ill_conditioned(0, condition), ill_conditioned(1, condition)
    a, b = np.asarray(p.scale[0]), np.asarray(q.scale[0])
    truth = np.sum(a * a) + np.sum(b * b) - 2 * np.linalg.svd(a.T @ b, compute_uv=False).sum()
    np.testing.assert_allclose(gmmjax.gaussian_w2_squared(p, q), truth, rtol=1e-13)
    np.testing.assert_allclose(
        gmmjax.gaussian_w2_squared(*cast((p, q), jnp.float32)), truth, rtol=2e-6
    )
    for dtype in (jnp.float32, jnp.float64):
        same = cast(p, dtype)
        value, gradient = jax.value_and_grad(gmmjax.gaussian_w2_squared, argnums=(0, 1))(same, same)
        assert 0 <= value < 1e-13 if dtype == jnp.float32 else value < 1e-30
        assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(gradient)) < 1e-5


def test_gaussian_distance_takes_gaussians_only():
    with pytest.raises(
        ValueError, match="q: expected one Gaussian, got a mixture of 2.*mw2_squared"
    ):
        gmmjax.gaussian_w2_squared(random_mixture(0, 1, 2), random_mixture(0, 2, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_every_structure_is_its_dense_form(kind):
    p, q = random_mixture(0, 3, 2, kind=kind), random_mixture(1, 2, 2, kind=kind)
    p = p._replace(scale=p.scale * -1.0)  # signs do not matter
    dense = pairs(densified(p), densified(q))
    for a, b in ((p, q), (p, densified(q)), (densified(p), q)):
        np.testing.assert_allclose(pairs(a, b), dense, rtol=1e-12)


def numerical_gradient(function, g, step=1e-5):
    def slope(leaf, i):
        moved = [leaf.ravel().copy(), leaf.ravel().copy()]
        moved[0][i] += step
        moved[1][i] -= step
        return [m.reshape(leaf.shape) for m in moved]

    result = []
    for name, leaf in zip(g._fields, map(np.asarray, g), strict=True):
        ends = [slope(leaf, i) for i in range(leaf.size)]
        values = [
            [function(g._replace(**{name: jnp.asarray(end)})) for end in pair] for pair in ends
        ]
        result.append(
            np.array([(up - down) / (2 * step) for up, down in values]).reshape(leaf.shape)
        )
    return type(g)(*result)


@pytest.mark.parametrize("kind", ["full", "spherical"])
def test_mixture_distance_and_its_gradient(kind):
    p, q = random_mixture(0, 3, 2, kind=kind), random_mixture(1, 2, 2, kind=kind)
    cost = np.asarray(pairs(p, q))
    truth = linear_programme(cost, gmmjax.weights(p), gmmjax.weights(q))
    np.testing.assert_allclose(gmmjax.mw2_squared(p, q), truth, rtol=1e-12)
    np.testing.assert_allclose(np.sum(gmmjax.mw2_coupling(p, q) * cost), truth, rtol=1e-12)
    np.testing.assert_allclose(gmmjax.mw2_squared(q, p), truth, rtol=1e-12)
    gradients = jax.jit(jax.grad(gmmjax.mw2_squared, argnums=(0, 1)))(p, q)
    for side, other in (
        (0, lambda g: gmmjax.mw2_squared(g, q)),
        (1, lambda g: gmmjax.mw2_squared(p, g)),
    ):
        expected = numerical_gradient(other, (p, q)[side])
        for computed, leaf in zip(gradients[side], expected, strict=True):
            np.testing.assert_allclose(computed, leaf, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", ["full", "spherical"])
def test_a_mixture_is_at_distance_zero_from_itself(kind):
    p = random_mixture(0, 3, 2, kind=kind)
    value, gradient = jax.value_and_grad(gmmjax.mw2_squared, argnums=(0, 1))(p, p)
    assert 0 <= value < 1e-28
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(gradient)) < 1e-13
    np.testing.assert_allclose(gmmjax.mw2_coupling(p, p), np.diag(gmmjax.weights(p)), atol=1e-15)


def with_absent(g, factor):
    """`g` and one more component, absent, somewhere else."""
    wide = jax.tree.map(lambda leaf: jnp.concatenate([leaf[:1] * factor, leaf]), g)
    return wide._replace(logits=wide.logits.at[0].set(-jnp.inf))


sliced = jax.jit(
    jax.value_and_grad(
        lambda p, q, key: gmmjax.sliced_w2_squared(key, p, q, num_samples=1024),
        argnums=(0, 1),
        has_aux=True,
    )
)
mixture = jax.jit(
    jax.value_and_grad(
        lambda p, q, key: (gmmjax.mw2_squared(p, q), 0.0), argnums=(0, 1), has_aux=True
    )
)


@pytest.mark.parametrize("both", [sliced, mixture], ids=["sliced", "mixture"])
def test_absent_components_get_no_mass_and_no_gradient(both, key):
    p, q = random_mixture(0, 3, 2), random_mixture(1, 3, 2)
    (value, _), gradient = both(with_absent(p, 1), with_absent(q, 1), key)
    (far, _), far_gradient = both(with_absent(p, 50), with_absent(q, -30), key)
    np.testing.assert_allclose(far, value, rtol=1e-11)
    for near, leaf in zip(jax.tree.leaves(gradient), jax.tree.leaves(far_gradient), strict=True):
        assert not np.any(leaf[0])
        assert np.any(leaf[1])
        np.testing.assert_allclose(leaf, near, rtol=1e-8, atol=1e-9)
    (present, _), _ = both(with_absent(p, 50)._replace(logits=jnp.zeros(4)), with_absent(q, 1), key)
    assert present > value + 1  # they would have been seen


def quantiles(g, score):
    """By bisection, with scipy's normal distribution."""
    w, m, s = special.softmax(g.logits), np.asarray(g.means), np.abs(np.asarray(g.scale))[:, None]
    each = m + s * score[None]
    low, high = each.min(0), each.max(0)
    tail = np.where(score < 0, 1, -1)  # the mass of the lesser tail keeps its digits
    level = special.ndtr(tail * score)
    for _ in range(52):
        x = (low + high) / 2
        below = tail * (w @ special.ndtr(tail * ((x - m) / s)) - level) < 0
        low, high = np.where(below, x, low), np.where(below, high, x)
    return x


def w2_squared(p, q):
    """Between mixtures on the line, by Gauss–Legendre panels that are finest at the levels of the
    gaps.
    """
    gaps = special.ndtri(
        np.concatenate([np.cumsum(special.softmax(g.logits))[:-1] for g in (p, q)])
    )
    near = np.concatenate([-np.geomspace(1e-8, 4, 30), [0.0], np.geomspace(1e-8, 4, 30)])
    ends = np.unique(
        np.clip(np.concatenate([(gaps[:, None] + near).ravel(), np.linspace(-9, 9, 30)]), -9, 9)
    )
    nodes, weight = np.polynomial.legendre.leggauss(12)
    half = np.diff(ends)[:, None] / 2
    t = (ends[:-1, None] + half + half * nodes).ravel()
    density = (half * weight).ravel() * np.exp(-(t**2) / 2) / np.sqrt(2 * np.pi)
    return float(density @ (quantiles(p, t) - quantiles(q, t)) ** 2)


def slopes(p, q, keys):
    value = lambda p, q, key: gmmjax.sliced_w2_squared(key, p, q, num_samples=2048).value
    return jax.lax.map(lambda key: jax.grad(value, argnums=(0, 1))(p, q, key), keys)


# runs longer than it compiles
slopes = jax.jit(slopes, compiler_options={"xla_backend_optimization_level": 3})


def test_sliced_distance_on_the_line_with_all_gradients(key):
    p = gmmjax.from_covariances(W, [[-20.0], [20.0]], [1.0, 0.5])
    q = gmmjax.from_covariances(V, [[-1.0], [2.0]], [2.0, 1.0])
    value, stderr = gmmjax.sliced_w2_squared(key, p, q)
    assert abs(value - w2_squared(p, q)) <= 4 * stderr
    assert stderr < 0.01 * value
    draws = slopes(p, q, jax.random.split(key, 64))
    for side, other in ((0, lambda g: w2_squared(g, q)), (1, lambda g: w2_squared(p, g))):
        expected = numerical_gradient(other, (p, q)[side], step=1e-4)
        for computed, leaf in zip(draws[side], expected, strict=True):
            error = np.abs(computed.mean(0) - leaf)
            noise = np.asarray(computed.std(0)) / 8
            assert (error <= 4.5 * noise + 1e-6 * np.abs(leaf).max()).all()
            assert noise.max() < 0.1 * np.abs(leaf).max()  # the gap does not drown it


def test_quantiles_alone_would_lose_the_weight_gradient():
    p = gmmjax.from_covariances(W, [[-20.0], [20.0]], [1.0, 0.5])
    q = gmmjax.from_covariances(V, [[-1.0], [2.0]], [2.0, 1.0])
    t = np.random.default_rng(0).normal(size=1 << 15)
    x, y = quantiles(p, t), quantiles(q, t)
    z = (x[None] - np.asarray(p.means)) / np.asarray(p.scale)[:, None]
    density = (W / np.asarray(p.scale)) @ np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    # the derivative of the weights with respect to the first logit
    moved = W * (np.array([1.0, 0.0]) - W[0])
    pathwise = np.mean(-2 * (x - y) * (moved @ special.ndtr(z)) / density)
    ends = [
        w2_squared(p._replace(logits=p.logits + np.array([step, 0.0])), q) for step in (1e-4, -1e-4)
    ]
    truth = (ends[0] - ends[1]) / 2e-4
    assert abs(pathwise - truth) > 0.5 * abs(truth)


def test_sliced_distance_of_round_gaussians_is_closed(key):
    p = gmmjax.from_covariances([1.0], np.zeros((1, 4)), [1.0])
    q = gmmjax.from_covariances([1.0], [[1.0, 2.0, 0.0, 0.0]], [9.0])
    # an offset does no harm
    near, far = (cast(g._replace(means=g.means + 1e4), jnp.float32) for g in (p, q))
    value, stderr = gmmjax.sliced_w2_squared(key, near, far)
    assert abs(value - (5 / 4 + 4)) <= 4 * stderr + 1e-3
    assert stderr < 0.05


def test_sliced_distance_is_symmetric_and_below_the_mixture_distance(key):
    p, q = (with_absent(random_mixture(s, 3, 2), 1) for s in (0, 1))
    (value, stderr), _ = sliced(p, q, key)
    np.testing.assert_allclose(sliced(q, p, key)[0], (value, stderr), rtol=1e-9)
    # the mean of (θᵀx)² is |x|² / D
    assert 0.01 < value - 4 * stderr < mixture(p, q, key)[0][0] / 2


def test_sliced_distance_of_a_mixture_to_itself_is_exactly_zero(key):
    p = with_absent(random_mixture(0, 3, 2), 1)
    estimate, gradient = sliced(p, p, key)
    assert estimate == (0, 0)
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(gradient)) < 1e-12
