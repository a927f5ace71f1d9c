"""Mutual information between blocks of coordinates, against closed forms and divergences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_mixture

import gmmjax


@functools.partial(jax.jit, static_argnames=("dims", "options"))
def information(key, p, dims, options=()):
    def value(p):
        found = gmmjax.mutual_information(key, p, dims, num_samples=65_536, **dict(options))
        return found.value, found.stderr

    return jax.value_and_grad(value, has_aux=True)(p)


def test_of_one_gaussian_it_is_exact(key):
    p = random_mixture(0, 1, 4)
    c = np.asarray(gmmjax.covariances(p))[0]
    a, b = [0, 2], [1, 3]
    logdet = lambda dims: np.linalg.slogdet(c[np.ix_(dims, dims)])[1]
    expected = 0.5 * (logdet(a) + logdet(b) - logdet([0, 1, 2, 3]))
    for dims in ((0, 2), (3, 1)):  # it does not matter which block is named
        (value, stderr), _ = information(key, p, dims)
        np.testing.assert_allclose(value, expected, rtol=1e-10)
        assert stderr < 1e-10
    assert expected > 0.1


def independent(p):
    """The product of both marginals of a mixture in the plane, a component for each pair."""
    ends = [gmmjax.marginal(p, [d]) for d in range(2)]
    pair = lambda a, b: jnp.stack(jnp.broadcast_arrays(a[:, None], b[None]), axis=-1)
    logits = ends[0].logits[:, None] + ends[1].logits[None]
    means = pair(*(g.means[:, 0] for g in ends))
    deviations = pair(*(g.scale[:, 0, 0] for g in ends))
    return gmmjax.GMM(logits.reshape(-1), means.reshape(-1, 2), deviations.reshape(-1, 2))


def test_it_is_the_divergence_from_independence_with_its_gradient(key):
    p = random_mixture(0, 3, 2, spread=1.0)

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def divergence(p):
        return gmmjax.kl_divergence(jax.random.key(1), p, independent(p), num_samples=65_536)

    (expected, noise), slope = divergence(p)
    for options in ((), (("stick_the_landing", False),)):
        (value, stderr), gradient = information(key, p, (1,), options)
        assert abs(value - expected) < 4.5 * np.hypot(stderr, noise) + 1e-9
        assert stderr < 0.05 * expected
        for ours, theirs in zip(gradient, slope, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=0.05 * np.abs(theirs).max())
    # that with the component is another number
    other = gmmjax.mutual_information(key, p, num_samples=4096).value
    assert abs(other - expected) > expected


def test_of_independent_blocks_it_is_0(key):
    diagonal = random_mixture(0, 1, 3, kind="diagonal")
    (value, _), _ = information(key, diagonal, (0, 1))
    assert abs(value) < 1e-12


@pytest.mark.parametrize(
    ("dims", "error", "message"),
    [
        ([0, 1, 2], ValueError, "dims: holds all 3 coordinates"),
        ([], ValueError, "dims: expected some of the coordinates .* got none"),
        ([0.5], TypeError, "dims: expected .*sequence of ints"),
    ],
)
def test_bad_input(dims, error, message, key):
    with pytest.raises(error, match=message):
        gmmjax.mutual_information(key, random_mixture(0, 2, 3), dims)


def test_single_precision(key):
    p = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), random_mixture(0, 2, 3))
    assert gmmjax.mutual_information(key, p, [0], num_samples=256).value.dtype == jnp.float32


def test_rounding_is_part_of_the_error(key):
    """Of independent blocks the logarithms cancel to what they are rounded to, alike everywhere."""
    means = jnp.array([[-1.0, 0], [1, 0]], jnp.float32)
    p = gmmjax.GMM(jnp.zeros(2, jnp.float32), means, jnp.ones(2, jnp.float32))
    for seed in range(8):
        value, stderr = gmmjax.mutual_information(jax.random.key(seed), p, [0], num_samples=4096)
        assert abs(value) <= 2 * stderr < 1e-6
