"""Input that is legal and hard: absent and coincident components, far modes, ill-conditioned and
offset data.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import cast, random_mixture, reference
from scipy import integrate, stats

import gmmjax

both = pytest.mark.parametrize("divergence", [gmmjax.kl_divergence, gmmjax.js_divergence])


@functools.partial(jax.jit, static_argnums=0)
def value_and_gradients(divergence, key, p, q):
    return jax.value_and_grad(lambda p, q: divergence(key, p, q), argnums=(0, 1), has_aux=True)(
        p, q
    )


def all_finite(tree):
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))


@both
def test_absent_components_contribute_nothing(divergence, key):
    p, q = random_mixture(0, 3, 2), random_mixture(1, 2, 2)
    add = lambda g: jax.tree.map(lambda leaf: jnp.concatenate([leaf[:1] * 50, leaf]), g)
    padded = [
        add(g)._replace(logits=jnp.concatenate([jnp.array([-jnp.inf]), g.logits])) for g in (p, q)
    ]
    (value, _), gradients = value_and_gradients(divergence, key, p, q)
    (padded_value, _), padded_gradients = value_and_gradients(divergence, key, *padded)
    np.testing.assert_allclose(padded_value, value, rtol=1e-11)
    for plain, wide in zip(gradients, padded_gradients, strict=True):
        for a, b in zip(plain, wide, strict=True):
            assert (b[0] == 0).all()
            np.testing.assert_allclose(b[1:], a, rtol=1e-8, atol=1e-10)


@both
def test_coincident_components(divergence, key):
    p = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), random_mixture(0, 2, 2))
    q = random_mixture(1, 2, 2)
    (value, stderr), gradients = value_and_gradients(divergence, key, p, q)
    merged = divergence(key, jax.tree.map(lambda leaf: leaf[:2], p), q)
    assert abs(value - merged.value) <= 5 * np.hypot(stderr, merged.stderr)
    assert all_finite(gradients)


@both
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_modes_a_thousand_deviations_apart(divergence, dtype, key):
    p = cast(gmmjax.from_covariances([0.5, 0.5], [[-500.0], [500.0]], [1.0, 1.0]), dtype)
    q = cast(gmmjax.from_covariances([0.2, 0.8], [[-500.0], [500.0]], [1.0, 1.0]), dtype)
    (value, stderr), gradients = value_and_gradients(divergence, key, p, q)
    half, w = np.array([0.5, 0.5]), np.array([0.2, 0.8])
    m = (half + w) / 2
    kl = np.sum(half * np.log(half / w))
    js = 0.5 * np.sum(half * np.log(half / m)) + 0.5 * np.sum(w * np.log(w / m))
    truth = kl if divergence is gmmjax.kl_divergence else js
    np.testing.assert_allclose(value, truth, rtol=100 * jnp.finfo(dtype).eps)
    assert all_finite(gradients)


def test_rare_mode_needs_the_allocation(key):
    p, q = reference("rare_mode")
    x = gmmjax.sample(key, p, 1000)
    plain = gmmjax.log_prob(p, x) - gmmjax.log_prob(q, x)
    truth = 0.442092744888
    # plain draws: a confident wrong number
    assert abs(plain.mean() - truth) > 4 * plain.std() / np.sqrt(1000)
    value, stderr = gmmjax.kl_divergence(key, p, q, num_samples=1024)
    assert abs(value - truth) <= 4 * stderr + 1e-12  # of which the digits are known
    assert stderr < 0.01 * truth


def test_ill_conditioned_covariances(key):
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    cov = rotation @ np.diag([1e8, 1e4, 1e2, 1.0]) @ rotation.T
    other = rotation @ np.diag([2e8, 1e4, 1e2, 0.5]) @ rotation.T
    p, q = (
        gmmjax.from_covariances([1.0], np.zeros((1, 4)), cov[None]),
        gmmjax.from_covariances([1.0], np.ones((1, 4)), other[None]),
    )
    solved = np.linalg.solve(other, cov)
    ones = np.ones(4)
    truth = 0.5 * (
        np.trace(solved) - 4 + ones @ np.linalg.solve(other, ones) - np.linalg.slogdet(solved)[1]
    )
    (value, stderr), gradients = value_and_gradients(gmmjax.kl_divergence, key, p, q)
    assert abs(value - truth) <= 4 * stderr + 1e-8 * truth  # rounding, times the condition number
    assert all_finite(gradients)


@both
def test_offset_in_float32(divergence, key):
    p, q = random_mixture(0, 3, 3), random_mixture(1, 2, 3)
    shift = lambda g: cast(g._replace(means=g.means + 1e4), jnp.float32)
    near, far = divergence(key, p, q), divergence(key, shift(p), shift(q))
    # Means near 1e4 are multiples of 2⁻¹⁰ in float32: that much of a shift is in the data, not in
    # the method.
    assert abs(near.value - far.value) <= 5 * np.hypot(near.stderr, far.stderr) + 2e-3 * near.value


SMALLEST = [(1, 1, 1), (1, 3, 1), (3, 1, 2), (1, 1, 6)]


@pytest.mark.parametrize(
    ("divergence", "p_size", "q_size", "dim"),
    [(gmmjax.kl_divergence, *sizes) for sizes in SMALLEST]
    + [(gmmjax.js_divergence, *sizes) for sizes in SMALLEST[:2]],
)
def test_smallest_shapes(divergence, p_size, q_size, dim, key):
    (value, stderr), gradients = value_and_gradients(
        divergence, key, random_mixture(0, p_size, dim), random_mixture(1, q_size, dim)
    )
    assert value > 0
    assert 0 < stderr < 0.1 * max(1, value)
    assert all_finite(gradients)


@pytest.mark.parametrize(
    ("divergence", "num_samples"),
    [(gmmjax.kl_divergence, n) for n in (1, 5, 32, 33)] + [(gmmjax.js_divergence, 5)],
)
def test_few_samples_are_unbiased(divergence, num_samples):
    p, q = random_mixture(0, 5, 2), random_mixture(1, 3, 2)
    keys = jax.random.split(jax.random.key(0), 4000)
    estimates = jax.lax.map(lambda k: divergence(k, p, q, num_samples=num_samples), keys)
    assert np.isinf(estimates.stderr).all() == (num_samples == 1)
    truth = divergence(jax.random.key(9), p, q, num_samples=1 << 18).value
    assert abs(estimates.value.mean() - truth) < 4 * estimates.value.std() / np.sqrt(len(keys))


def test_no_clamping(key):
    p = random_mixture(0, 3, 4)
    q = p._replace(means=p.means + 1e-3)
    values = jax.lax.map(
        lambda k: gmmjax.kl_divergence(k, p, q, num_samples=64).value, jax.random.split(key, 200)
    )
    assert (values < 0).any()


def test_kl_by_quadrature(key):
    p, q = random_mixture(5, 3, 1), random_mixture(6, 2, 1)

    parameters = [
        (np.asarray(gmmjax.weights(g)), np.ravel(g.means), np.ravel(g.scale)) for g in (p, q)
    ]

    def integrand(t):
        first, second = (np.vdot(w, stats.norm.pdf(t, m, s)) for w, m, s in parameters)
        return first * np.log(first / second)

    truth = integrate.quad(integrand, -15, 15, limit=500)[0]
    value, stderr = gmmjax.kl_divergence(key, p, q)
    assert abs(value - truth) <= 4 * stderr + 1e-9
