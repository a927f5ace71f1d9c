"""Marginals, mixtures of mixtures and affine maps against the densities and moments that they must
have.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import KINDS, random_mixture
from jax.test_util import check_grads

import gmmjax
from gmmjax._matrices import triangular

kinds = pytest.mark.parametrize("kind", KINDS)


def structure(g):
    """What tells the type of covariance: the rank of the scale, and whether it is tied."""
    return g.scale.ndim, g.scale.shape[0] == 1


@kinds
@pytest.mark.parametrize("dims", [[2, 0], [-1], (0, 1, 2)])
def test_marginal_selects_moments_and_keeps_structure(kind, dims):
    g = random_mixture(0, 3, 3, kind=kind)
    m = gmmjax.marginal(g, dims)
    np.testing.assert_allclose(
        gmmjax.covariances(m), gmmjax.covariances(g)[:, dims][:, :, dims], rtol=1e-12
    )
    np.testing.assert_array_equal(m.means, g.means[:, dims])
    np.testing.assert_array_equal(m.logits, g.logits)
    assert structure(m) == structure(g)


def test_marginal_of_one_coordinate():
    g = random_mixture(0, 3, 3)
    for one in (-1, np.int64(2), np.array(2)):
        jax.tree.map(
            np.testing.assert_array_equal, gmmjax.marginal(g, one), gmmjax.marginal(g, [2])
        )


ROTATION = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]


@pytest.mark.parametrize(
    ("A", "of_spheres", "of_diagonal"),
    [
        (2 * ROTATION, 1, 3),
        (ROTATION.astype(np.float32), 1, 3),
        (ROTATION[:2], 1, 3),
        (np.diag([1.0, 2.0, 3.0]) @ ROTATION, 2, 3),
        (np.eye(3)[[2, 0, 1]] * [1, -2, 3], 2, 2),
        ([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]], 2, 2),
        ([2.0, -2.0, 2.0], 1, 2),
        (ROTATION + 1e-3, 3, 3),
    ],
)
def test_affine_keeps_what_structure_it_can(A, of_spheres, of_diagonal):
    matrix = np.diag(A) if np.ndim(A) == 1 else np.asarray(A, np.float64)
    for kind, rank in (("spherical", of_spheres), ("tied diagonal", of_diagonal)):
        g = random_mixture(0, 2, 3, kind=kind)
        image = gmmjax.affine(g, A)
        assert structure(image) == (rank, kind == "tied diagonal")
        expected = matrix @ gmmjax.covariances(g) @ matrix.T
        single = getattr(A, "dtype", None) == np.float32
        np.testing.assert_allclose(
            gmmjax.covariances(image), expected, atol=1e-6 if single else 1e-13
        )
        traced = jax.jit(gmmjax.affine)(g, jnp.asarray(A))  # whose values nobody knows
        assert traced.scale.ndim == np.ndim(A) + 1
        np.testing.assert_allclose(gmmjax.covariances(traced), expected, atol=1e-6)


@kinds
def test_affine_maps_moments(kind):
    g = random_mixture(0, 3, 3, kind=kind)
    rng = np.random.default_rng(1)
    for A, same_structure in (
        (-1.5, True),
        (rng.normal(size=3), "spherical" not in kind),
        (rng.normal(size=(2, 3)), 0),
    ):
        matrix = A if np.ndim(A) == 2 else A * np.eye(3)
        b = rng.normal(size=len(matrix))
        image = gmmjax.affine(g, A, b)
        np.testing.assert_allclose(
            gmmjax.covariances(image), matrix @ gmmjax.covariances(g) @ matrix.T, rtol=1e-10
        )
        np.testing.assert_allclose(image.means, np.asarray(g.means) @ matrix.T + b, rtol=1e-12)
        assert (structure(image) == structure(g)) >= same_structure
        assert structure(image)[1] == structure(g)[1]


def test_affine_density_is_the_change_of_variables():
    g = random_mixture(0, 3, 2)
    A, b = np.array([[0.0, 2.0], [-1.0, 0.5]]), np.array([1.0, -1.0])
    x = np.random.default_rng(0).normal(size=(7, 2))
    expected = np.asarray(gmmjax.log_prob(g, x)) - np.log(abs(np.linalg.det(A)))
    np.testing.assert_allclose(
        gmmjax.log_prob(gmmjax.affine(g, A, b), x @ A.T + b), expected, rtol=1e-11
    )


def test_mix_is_the_mixture_of_densities():
    parts = [
        random_mixture(0, 2, 2),
        random_mixture(1, 3, 2, kind="spherical"),
        random_mixture(2, 2, 2, kind="tied"),
    ]
    x = np.random.default_rng(0).normal(size=(7, 2))
    densities = np.stack([np.exp(gmmjax.log_prob(g, x)) for g in parts])
    mixed = gmmjax.mix(parts, [1, 3, 4])
    np.testing.assert_allclose(
        np.exp(gmmjax.log_prob(mixed, x)), np.array([1, 3, 4]) / 8 @ densities, rtol=1e-12
    )
    np.testing.assert_allclose(gmmjax.weights(mixed).sum(), 1)
    assert gmmjax.mix(parts[1:2] * 2, [1, 1]).scale.ndim == 1  # nothing is densified without need


def test_mix_with_a_zero_weight_has_finite_gradients(key):
    p, q = random_mixture(0, 2, 2), random_mixture(1, 2, 2)
    p = p._replace(logits=p.logits.at[0].set(-jnp.inf))
    x = np.zeros((1, 2))
    gradients = jax.grad(
        lambda p, q: gmmjax.log_prob(gmmjax.mix([p, q], [1.0, 0.0]), x)[0], argnums=(0, 1)
    )(p, q)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    assert not any(np.any(leaf) for leaf in gradients[1])
    assert gradients[0].means[1].any()


def test_factors_do_not_square_the_condition_number():
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    rows = np.geomspace(1, 1e-7, 5)[:, None] * rotation[:5]
    factor = np.asarray(triangular.lower_factor(jnp.asarray(rotation[:5, :5] @ rows)))
    expected = np.linalg.qr((rotation[:5, :5] @ rows).T)[1].T
    np.testing.assert_allclose(factor, expected * np.sign(np.diagonal(expected))[None], rtol=1e-7)
    product = (rotation[:5, :5] @ rows) @ (rotation[:5, :5] @ rows).T
    with np.testing.assert_raises(AssertionError):  # the product has lost what the rows still hold
        np.testing.assert_allclose(
            triangular.cholesky(jnp.asarray(product)), np.abs(factor), rtol=1e-3
        )


def test_factors_have_derivatives_in_both_modes():
    rows = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4)))
    check_grads(jax.jit(triangular.lower_factor), (rows,), order=2, rtol=1e-5)


@pytest.mark.parametrize(
    ("dims", "error", "message"),
    [
        ([], ValueError, "got none"),
        ([3], ValueError, r"-3 … 2, got \[3\]"),
        ([0, -3], ValueError, r"twice: \[0, 0\]"),
        ([0.5], TypeError, r"sequence of ints, got \[0.5\]"),
        (3, ValueError, r"-3 … 2, got \[3\]"),
        (True, TypeError, "expected ints, got booleans"),
        (1.0, TypeError, "an int or a sequence of ints, got 1.0"),
    ],
)
def test_bad_dims(dims, error, message):
    with pytest.raises(error, match=f"dims: .*{message}"):
        gmmjax.marginal(random_mixture(0, 2, 3), dims)


@pytest.mark.parametrize(
    ("A", "b", "message"),
    [
        (np.ones(2), 0.0, r"A: expected a number, \(3,\) or \(E, 3\).*\(2,\)"),
        (np.ones((4, 3)), 0.0, r"A: .*\(4, 3\)"),
        (np.ones((2, 3)), 0.0, "A: .*not of rank 2"),
        (0.0, 0.0, "A: .*other than 0"),
        ([1.0, np.nan, 1.0], 0.0, "A: expected finite"),
        (np.eye(3)[:2], np.ones(3), r"b: .*\(2,\), got \(3,\)"),
    ],
)
def test_bad_maps(A, b, message):
    with pytest.raises(ValueError, match=message):
        gmmjax.affine(random_mixture(0, 2, 3), A, b)


@pytest.mark.parametrize(
    ("weights", "message"),
    [([1.0], r"shape \(2,\)"), ([1, -1], "-1"), ([0, 0], "all 2 are 0"), ([1, np.nan], "nan")],
)
def test_bad_weights(weights, message):
    p, q = random_mixture(0, 2, 2), random_mixture(1, 3, 2)
    with pytest.raises(ValueError, match=f"weights: .*{message}"):
        gmmjax.mix([p, q], weights)
    with pytest.raises(ValueError, match="mixtures: .*got a GMM"):
        gmmjax.mix(p, weights)
