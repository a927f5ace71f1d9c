"""In one and two dimensions bounds are the number itself, and what integration may be off by."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import REFERENCE, alike, cast, of_dimension, random_mixture

import gmmjax
from gmmjax._bounds import by_components

EPS = {jnp.float64: 1e-9, jnp.float32: 1e-5}
precisions = pytest.mark.parametrize("dtype", EPS)
DIGITS = 1e-10  # of the reference, relative


@jax.jit
def every_bound(p, q):
    return gmmjax.kl_bounds(p, q), gmmjax.js_bounds(p, q), gmmjax.entropy_bounds(p)


@precisions
@pytest.mark.parametrize("name", of_dimension(1) + of_dimension(2))
def test_published_numbers_lie_between_bounds_that_are_close(name, dtype):
    exact = REFERENCE[name]["exact"]
    truths = [exact["kl_pq"], exact["js"], exact["entropy_p"]]
    for truth, (lower, upper) in zip(truths, every_bound(*cast(alike(name), dtype)), strict=True):
        assert lower - DIGITS * abs(truth) <= truth <= upper + DIGITS * abs(truth)
        width = EPS[dtype] * abs(truth) + 64 * jnp.finfo(dtype).eps
        assert 0 < upper - lower < 2.1 * width


def hard_pair(seed, dim):
    """Deviations over four decades and a rare component; one pair in three is almost equal."""
    rng = np.random.default_rng(seed)
    p, q = random_mixture(seed, 3, dim), random_mixture(seed + 100, 3, dim)
    p, q = (g._replace(scale=g.scale * 10 ** rng.uniform(-2, 2, (3, 1, 1))) for g in (p, q))
    p = p._replace(logits=p.logits - jnp.array([0.0, 12.0, 0.0]))
    return p, p._replace(means=p.means + 1e-3) if seed % 3 == 0 else q


@pytest.mark.parametrize(("dim", "count"), [(1, 12), (2, 4)])
def test_single_precision_holds_what_double_precision_finds(dim, count):
    outside = 0
    for seed in range(count):
        single = cast(hard_pair(seed, dim), jnp.float32)
        found = zip(every_bound(*single), every_bound(*cast(single, jnp.float64)), strict=True)
        for bounds, exact in found:
            truth = exact.lower + 0.5 * (exact.upper - exact.lower)
            assert bounds.lower < truth < bounds.upper
            middle = bounds.lower + 0.5 * (bounds.upper - bounds.lower)
            outside += abs(middle - truth) > abs(exact.upper - truth)
    assert outside > 2 * count  # without its margin a value bounds nothing


def scattered(seed, dim, spread):
    """Components in single precision whose places have few digits left for what they are within."""
    rng = np.random.default_rng(seed)
    factors = np.tril(np.eye(dim) + 0.2 * rng.normal(size=(4, dim, dim)))
    leaves = rng.normal(size=4), spread * rng.normal(size=(4, dim)), factors
    return gmmjax.GMM(*(jnp.asarray(leaf, jnp.float32) for leaf in leaves))


@pytest.mark.parametrize("spread", [1e3, 1e6])
@pytest.mark.parametrize("dim", [1, 2])
def test_places_that_rounding_moves(dim, spread):
    far = spread == 1e6
    missed = 0
    for seed in range(3 if dim == 1 else 1):  # a plane takes long as the suite compiles
        pair = scattered(seed, dim, spread), scattered(seed + 9, dim, spread)
        alone = gmmjax.kl_bounds(*pair), gmmjax.js_bounds(*pair), gmmjax.entropy_bounds(pair[0])
        inside = every_bound(*pair)
        exact = every_bound(*cast(pair, jnp.float64))
        integrals = gmmjax.kl_quadrature(*pair), gmmjax.js_quadrature(*pair)
        for (lower, upper), (least, most), (low, high) in zip(alone, inside, exact, strict=True):
            assert lower <= high + 1e-6 * abs(high)
            assert low - 1e-6 * abs(low) <= upper < jnp.inf
            assert least <= high
            assert low <= most
            assert not far or most - least > 0.1
        for value, (low, high) in zip(integrals, exact, strict=False):
            slack = EPS[jnp.float32] * abs(high)
            missed += value < low - slack or value > high + slack
    assert missed or not far  # where bounds would be wrong if they saw nothing but the integral


@precisions
def test_equal_mixtures(dtype):
    p = cast(random_mixture(0, 3, 2), dtype)
    for lower, upper in every_bound(p, jax.tree.map(lambda leaf: leaf[::-1], p))[:2]:
        assert lower == 0
        assert 0 < upper < 100 * jnp.finfo(dtype).eps


def test_bounds_of_components_say_less():
    p, q = random_mixture(0, 3, 2, spread=1.0), random_mixture(1, 3, 2, spread=1.0)
    lower, upper = jax.jit(by_components.kl_by_components)(p, q)
    kl, _, _ = every_bound(p, q)
    assert lower < 0.9 * kl.lower
    assert upper > 1.1 * kl.upper


def test_gradients_of_either_end_are_those_of_the_number():
    p, q = random_mixture(0, 3, 1), random_mixture(1, 3, 1)
    found = jax.jacrev(gmmjax.kl_bounds, argnums=1)(p, q)
    expected = jax.grad(gmmjax.kl_quadrature, argnums=1)(p, q)
    for slope in found:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), slope, expected)
    assert np.abs(expected.means).max() > 0.01
