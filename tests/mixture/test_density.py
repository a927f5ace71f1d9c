"""Log-densities against scipy, in every structure and at the edges of float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import KINDS, cast, densified, random_mixture
from jax.test_util import check_grads
from scipy import special, stats

import gmmjax
from gmmjax._matrices import triangular


def by_scipy(g, x):
    parts = zip(gmmjax.weights(g), g.means, gmmjax.covariances(g), strict=True)
    return np.stack(
        [np.log(w) + stats.multivariate_normal(m, c).logpdf(x) for w, m, c in parts], axis=-1
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dim", [1, 2, 5, 33])
def test_against_scipy(kind, dim):
    g = random_mixture(0, 3, dim, kind=kind)
    x = np.random.default_rng(0).normal(size=(4, 5, dim)) * 3
    table = by_scipy(g, x)
    np.testing.assert_allclose(gmmjax.component_log_prob(g, x), table, rtol=1e-10)
    np.testing.assert_allclose(gmmjax.log_prob(g, x), special.logsumexp(table, axis=-1), rtol=1e-10)
    np.testing.assert_allclose(
        gmmjax.responsibilities(g, x), special.softmax(table, axis=-1), rtol=1e-8, atol=1e-12
    )


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_dense_twin(kind):
    g, x = random_mixture(0, 3, 4, kind=kind), random_mixture(1, 5, 4).means
    slopes = lambda twin: jax.jit(
        jax.grad(lambda g, x: gmmjax.log_prob(twin(g), x).sum(), argnums=(0, 1))
    )(g, x)
    direct, twin = slopes(lambda g: g), slopes(densified)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11), direct, twin)


@pytest.mark.parametrize("dim", [1, 2, 3, 7, 16, 37])
def test_triangular_inverse(dim):
    lower = np.tril(np.random.default_rng(dim).normal(size=(2, dim, dim))) + 3 * np.eye(dim)
    tril_inverse = jax.jit(triangular.tril_inverse)
    inverse = tril_inverse(lower)
    np.testing.assert_allclose(
        inverse @ lower, np.broadcast_to(np.eye(dim), lower.shape), atol=1e-11
    )
    garbage = lower + np.triu(np.ones((dim, dim)), 1)
    np.testing.assert_array_equal(tril_inverse(garbage), inverse)
    check_grads(tril_inverse, (lower,), order=2, modes=["fwd", "rev"])


def test_no_lapack_in_the_compiled_path(key):
    p, q = random_mixture(0, 3, 5), random_mixture(1, 3, 5)
    step = jax.jit(
        jax.value_and_grad(
            lambda p, q: gmmjax.kl_divergence(key, p, q, num_samples=256).value, (0, 1)
        )
    )
    text = step.lower(p, q).as_text()
    assert "lapack" not in text
    assert "triangular_solve" not in text
    # the search finds what it seeks
    assert "lapack" in jax.jit(jnp.linalg.cholesky).lower(jnp.eye(3)).as_text()


def test_float32_far_from_zero():
    near = gmmjax.from_covariances([1.0], [[0.0, 0.0]], [[2.0**-6, 2.0**-6]])
    x = jnp.array([[0.125, -0.0625]])
    far = cast(near._replace(means=near.means + 8192.0), jnp.float32)
    np.testing.assert_allclose(
        gmmjax.log_prob(far, (x + 8192.0).astype(jnp.float32)), gmmjax.log_prob(near, x), rtol=1e-5
    )


def test_integers_are_converted(key):
    g = gmmjax.from_covariances([1, 3], [[0, 0], [2, 1]], [[[2, 1], [1, 2]], [[1, 0], [0, 3]]])
    assert g.means.dtype == jnp.float64
    truth = by_scipy(g, np.array([1.0, 2.0]))[None]
    np.testing.assert_allclose(gmmjax.component_log_prob(g, np.array([[1, 2]])), truth, rtol=1e-12)
    whole = gmmjax.GMM(jnp.zeros(1, int), jnp.zeros((1, 2), int), jnp.ones(1, int))
    assert gmmjax.kl_divergence(key, whole, g, num_samples=64).value.dtype == jnp.float64


def test_many_points_take_no_more_than_their_result():
    """In blocks, the last of which is not full: values, gradients and memory."""
    g = cast(random_mixture(0, 64, 3, kind="diagonal"), jnp.float32)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(12_345, 3)), jnp.float32)
    loss = lambda g, x: gmmjax.log_prob(g, x).sum()
    for call, result in (
        (gmmjax.log_prob, 0),
        (gmmjax.responsibilities, 0),
        (jax.grad(loss, argnums=(0, 1)), 2**20),
    ):
        program = jax.jit(call).lower(g, x).compile()
        assert program.memory_analysis().temp_size_in_bytes < 2**21 + result
    table = gmmjax.component_log_prob(g, x)
    assert table.nbytes > 2**21  # the table that is never made
    np.testing.assert_allclose(gmmjax.log_prob(g, x), special.logsumexp(table, axis=1), rtol=1e-5)
    np.testing.assert_allclose(gmmjax.log_prob(g, x)[-7:], gmmjax.log_prob(g, x[-7:]), rtol=1e-5)
    whole = jax.grad(loss, argnums=(0, 1))(g, x)
    parts = [jax.grad(loss, argnums=(0, 1))(g, part) for part in (x[:1000], x[1000:])]
    np.testing.assert_allclose(whole[1], np.concatenate([part[1] for part in parts]), rtol=1e-4)
    np.testing.assert_allclose(
        whole[0].means, parts[0][0].means + parts[1][0].means, rtol=1e-3, atol=1e-2
    )
