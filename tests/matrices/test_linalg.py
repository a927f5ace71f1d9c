"""Factorisations without LAPACK against numpy's, with their derivatives, and Gaussians in closed
form.
"""

import jax.numpy as jnp
import numpy as np
import pytest
from cases import KINDS, densified, random_mixture
from jax.test_util import check_grads

import gmmjax
from gmmjax._matrices import scales, triangular, whitening
from gmmjax._pairs import components
from gmmjax._sampling import allocation


def positive_definite(seed, count, dim):
    factor = np.random.default_rng(seed).normal(size=(count, dim, dim))
    return jnp.asarray(factor @ factor.swapaxes(1, 2) + 0.1 * np.eye(dim))


@pytest.mark.parametrize("dim", [1, 2, 7, 33])
def test_cholesky_is_that_of_numpy(dim):
    matrices = positive_definite(0, 4, dim)
    np.testing.assert_allclose(
        triangular.cholesky(matrices), np.linalg.cholesky(matrices), rtol=1e-9, atol=1e-11
    )


def test_cholesky_of_an_indefinite_matrix_is_nan():
    assert np.isnan(triangular.cholesky(jnp.array([[[1.0, 2.0], [2.0, 1.0]]]))).any()


def test_cholesky_has_derivatives_in_both_modes():
    check_grads(
        lambda m: triangular.cholesky(m + m.mT), (positive_definite(1, 2, 4),), order=2, rtol=1e-5
    )


@pytest.mark.parametrize("dim", [1, 5, 16])
def test_inverse_is_that_of_numpy(dim):
    lower = jnp.asarray(np.linalg.cholesky(positive_definite(2, 3, dim)))
    np.testing.assert_allclose(
        triangular.tril_inverse(lower), np.linalg.inv(lower), rtol=1e-9, atol=1e-10
    )


@pytest.mark.parametrize("kind", KINDS)
def test_points_are_placed_where_their_component_is(kind):
    g = random_mixture(1, 3, 4, kind=kind)
    owners = np.array([2, 0, 0, 1, 2])
    z = np.random.default_rng(0).normal(size=(4, 5, 6))
    factors = np.asarray(densified(g).scale)[owners]
    expected = np.asarray(g.means)[owners].T[:, :, None] + np.einsum("cde,ecm->dcm", factors, z)
    choice = jnp.eye(3)[owners].T
    np.testing.assert_allclose(
        allocation.place(choice, g.means, g.scale, z), expected.reshape(4, -1), rtol=1e-12
    )
    alone = allocation.place(choice, g.means, g.scale, z[:, :, :1])  # no two of a group
    np.testing.assert_allclose(alone, expected[:, :, 0], rtol=1e-12)


@pytest.mark.parametrize("dim", [2, 16, 17])  # in one part, and in halves
@pytest.mark.parametrize("kind", KINDS)
def test_squared_norms_are_squared_distances(kind, dim):
    g = random_mixture(1, 3, dim, kind=kind)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(dim, 7)))
    inverse = scales.inverse(g.scale, g.means)
    shift = scales.apply(inverse, g.means)
    norms = whitening.squared_norms(whitening.row_blocks(inverse, shift), shift, x)
    np.testing.assert_allclose(norms, whitening.squared_distances(inverse, g.means, x), rtol=1e-11)


@pytest.mark.parametrize("kind_p", KINDS)
@pytest.mark.parametrize("kind_q", KINDS)
def test_pairwise_kl_is_that_of_dense_gaussians(kind_p, kind_q):
    p, q = random_mixture(0, 3, 4, kind=kind_p), random_mixture(1, 2, 4, kind=kind_q)
    covariances = np.asarray(gmmjax.covariances(p)), np.asarray(gmmjax.covariances(q))
    expected = np.empty((3, 2))
    for a, b in np.ndindex(expected.shape):
        precision = np.linalg.inv(covariances[1][b])
        shift = np.asarray(p.means[a] - q.means[b])
        log_ratio = (
            np.linalg.slogdet(covariances[1][b])[1] - np.linalg.slogdet(covariances[0][a])[1]
        )
        expected[a, b] = 0.5 * (
            np.trace(precision @ covariances[0][a]) + shift @ precision @ shift - 4 + log_ratio
        )
    computed = components.pairwise_kl(p, q)
    np.testing.assert_allclose(jnp.broadcast_to(computed, (3, 2)), expected, rtol=1e-10)
    np.testing.assert_allclose(
        computed, components.pairwise_kl(densified(p), densified(q)), rtol=1e-10
    )


@pytest.mark.parametrize("kind", KINDS)
def test_dense_forms_are_those_of_numpy(kind):
    g = random_mixture(1, 3, 4, kind=kind)
    factors = np.asarray(g.scale)
    if factors.ndim < 3:
        deviations = np.broadcast_to(factors.reshape(len(factors), -1), (len(factors), 4))
        factors = np.stack([np.diag(row) for row in deviations])
    np.testing.assert_array_equal(scales.dense_factors(g.scale, g.means), factors)
    covariances = np.broadcast_to(factors @ np.swapaxes(factors, 1, 2), (3, 4, 4))
    np.testing.assert_allclose(scales.dense_covariances(g.scale, g.means), covariances)


def test_one_component_far_from_0_is_told_from_many_near():
    """Their product would cancel five digits of its squared distance in single precision."""
    rng = np.random.default_rng(0)
    shift = rng.normal(size=(64, 32))  # as many numbers as are worth a product
    shift[5] += 40.0
    assert shift.size >= whitening.LARGE
    assert (shift**2).sum(axis=0).max() < whitening.NEAR * 32 < (shift**2).sum(axis=1).max()
    x = (shift[5] + rng.normal(size=32))[:, None]
    narrow = [jnp.asarray(a, jnp.float32) for a in (np.ones((1, 1)), shift, x)]
    found = whitening.squared_norms(narrow[:1], *narrow[1:])
    wide = [np.asarray(a, float) for a in narrow]
    np.testing.assert_allclose(found, ((wide[2].T - wide[1]) ** 2).sum(axis=1)[:, None], rtol=1e-6)
