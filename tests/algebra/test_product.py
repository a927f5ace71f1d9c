"""Products and sums against pointwise products, Bayes' rule far out, and moments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import KINDS, cast, random_mixture
from gradients import check_gradients
from scipy import integrate, special, stats

import gmmjax

X = np.random.default_rng(0).normal(size=(5, 3))
multiply, add = jax.jit(gmmjax.product), jax.jit(gmmjax.convolve)
PAIRS = [(a, a) for a in KINDS] + [("full", "spherical"), ("tied", "diagonal")]
PAIRS += [("spherical", "tied diagonal"), ("tied spherical", "full")]
pairs = pytest.mark.parametrize("kinds", PAIRS, ids="-".join)


def mixtures(kinds, offset=0.0, dim=3):
    p, q = (random_mixture(i, 3 - i, dim, kind=kind) for i, kind in enumerate(kinds))
    return p._replace(scale=-p.scale), q._replace(means=q.means + offset)


def holds(found, p, q):
    """No structure is lost without need."""
    ranks = max(p.scale.ndim, q.scale.ndim)
    tied = len(p.scale) == len(q.scale) == 1
    return found.scale.ndim == ranks and (len(found.scale) == 1) == tied


@pairs
def test_a_product_is_the_matvec(kinds):
    p, q = mixtures(kinds)
    found, log_normaliser = multiply(p, q)
    assert holds(found, p, q)
    expected = gmmjax.log_prob(p, X) + gmmjax.log_prob(q, X)
    np.testing.assert_allclose(gmmjax.log_prob(found, X) + log_normaliser, expected, rtol=1e-10)
    np.testing.assert_allclose(gmmjax.weights(found).sum(), 1, rtol=1e-12)
    assert abs(log_normaliser) > 0.1  # which is missed without it


@pairs
def test_a_sum_has_the_sums_of_moments(kinds):
    p, q = mixtures(kinds)
    found = add(p, q)
    assert holds(found, p, q)
    pair = lambda a, b: (np.asarray(a)[:, None] + np.asarray(b)[None]).reshape(6, *a.shape[1:])
    np.testing.assert_allclose(found.means, pair(p.means, q.means), rtol=1e-12)
    covariances = pair(gmmjax.covariances(p), gmmjax.covariances(q))
    np.testing.assert_allclose(gmmjax.covariances(found), covariances, rtol=1e-10, atol=1e-12)
    outer = np.outer(gmmjax.weights(p), gmmjax.weights(q)).ravel()
    np.testing.assert_allclose(gmmjax.weights(found), outer, rtol=1e-12)


def test_the_density_of_a_sum_is_the_convolution():
    p, q = mixtures(("full", "diagonal"), dim=1)
    density = lambda g, x: np.exp(gmmjax.log_prob(g, np.reshape(x, (-1, 1))))
    y, weight = np.polynomial.legendre.leggauss(400)
    by_quadrature = 25 * weight @ (density(p, 25 * y) * density(q, 1.3 - 25 * y))
    np.testing.assert_allclose(density(add(p, q), 1.3)[0], by_quadrature, rtol=1e-10)


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float64, 1e-10), (jnp.float32, 1e-5)])
@pytest.mark.parametrize("kinds", [("full", "full"), ("diagonal", "spherical")], ids="-".join)
def test_posteriors_are_right_far_out(kinds, dtype, tolerance):
    """With the two 40 standard deviations apart; the truth by scipy from the same numbers."""
    given = cast(mixtures(kinds, offset=60.0), dtype)
    p, q = cast(given, jnp.float64)
    found, log_normaliser = multiply(*given)
    means, covariances = np.asarray(p.means), np.asarray(gmmjax.covariances(p))
    others, widths = np.asarray(q.means), np.asarray(gmmjax.covariances(q))
    log_w, log_v = jax.nn.log_softmax(p.logits), jax.nn.log_softmax(q.logits)
    logs = np.array([[log_w[a] + log_v[b] + stats.multivariate_normal(
        others[b], covariances[a] + widths[b]).logpdf(means[a])
        for b in range(2)] for a in range(3)])  # fmt: skip
    np.testing.assert_allclose(log_normaliser, special.logsumexp(logs), rtol=tolerance)
    np.testing.assert_allclose(
        gmmjax.weights(found), special.softmax(logs).ravel(), atol=tolerance / 10
    )
    precisions = [np.linalg.inv(c) for c in (covariances, widths)]
    inverse = np.linalg.inv(precisions[0][:, None] + precisions[1][None]).reshape(6, 3, 3)
    np.testing.assert_allclose(gmmjax.covariances(found), inverse, rtol=tolerance, atol=tolerance)
    pulled = np.einsum("aij,aj->ai", precisions[0], means)[:, None] + np.einsum(
        "bij,bj->bi", precisions[1], others
    )
    expected = np.einsum("kij,kj->ki", inverse, pulled.reshape(6, 3))
    np.testing.assert_allclose(found.means, expected, rtol=tolerance, atol=40 * tolerance)


@pytest.mark.parametrize("offset", [0.0, 60.0])
def test_gradients_are_those_of_the_values(offset):
    for kinds in (("full", "diagonal"), ("spherical", "diagonal")):
        p, q = mixtures(kinds, offset)

        def outcome(p, q):
            (found, log_normaliser), total = gmmjax.product(p, q), gmmjax.convolve(p, q)
            return log_normaliser, gmmjax.weights(found), found.means, gmmjax.covariances(total)

        check_gradients(outcome, (p, q), atol=1e-5)


def test_wrong_gradients_are_noticed():
    """In either mode."""

    @jax.custom_jvp
    def square(x):
        return x**2

    square.defjvp(lambda x, dx: (x[0] ** 2, 2.001 * x[0] * dx[0]))
    with pytest.raises(AssertionError):
        check_gradients(square, (1.0,))
    with pytest.raises(AssertionError):
        check_gradients(with_wrong_transpose, (1.0,))


def with_wrong_transpose(x):
    twice = lambda _, y: 2 * y
    return jax.custom_derivatives.linear_call(twice, lambda _, c: 3 * c, (), x)


def test_absent_components_stay_absent():
    p, q = mixtures(("full", "diagonal"))
    absent = p._replace(logits=p.logits.at[0].set(-jnp.inf))
    found, _ = multiply(absent, q)
    assert (np.asarray(found.logits[:2]) == -np.inf).all()
    np.testing.assert_allclose(gmmjax.weights(found).sum(), 1, rtol=1e-12)
    gradient = jax.grad(lambda p: gmmjax.log_prob(multiply(p, q)[0], X).sum())(absent)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert not np.any(gradient.means[0])
    assert np.any(gradient.means[1])


def test_a_narrow_factor_keeps_its_place():
    """The mean of the product, where one side is a million times narrower and far from 0."""
    p = gmmjax.from_covariances([1.0], [[0.0, 0.0]], [[1e4, 1e4]])
    q = gmmjax.from_covariances([1.0], [[30.0, -20.0]], [[1e-8, 1e-8]])
    for a, b in ((p, q), (q, p)):
        found, _ = multiply(*cast((a, b), jnp.float32))
        np.testing.assert_allclose(found.means, q.means, rtol=1e-6)
        np.testing.assert_allclose(found.scale, q.scale, rtol=1e-6)


def test_normaliser_of_a_line_by_quadrature():
    p, q = mixtures(("full", "diagonal"), dim=1)
    both = lambda x: float(np.exp(gmmjax.log_prob(p, [x]) + gmmjax.log_prob(q, [x])))
    expected, _ = integrate.quad(both, -15, 15, epsabs=1e-13, limit=200)
    np.testing.assert_allclose(np.exp(multiply(p, q)[1]), expected, rtol=1e-10)


def test_bad_input():
    p, q = random_mixture(0, 2, 2), random_mixture(1, 2, 3)
    for function in (gmmjax.product, gmmjax.convolve):
        with pytest.raises(ValueError, match="q: has dimension 3"):
            function(p, q)
        with pytest.raises(TypeError, match="p: expected a gmmjax.GMM"):
            function(None, q)
