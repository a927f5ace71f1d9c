"""Mixture reduction: what merges cost, that moves only help, and that the result is worth its
time.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_mixture

import gmmjax
from gmmjax._reduction import clusters, em, merge, search

COSTS = (gmmjax.runnalls, gmmjax.salmond, gmmjax.west, gmmjax.williams)
CROUSE = gmmjax.from_covariances(
    [0.03, 0.18, 0.12, 0.19, 0.02, 0.16, 0.06, 0.1, 0.08, 0.06],
    np.array([1.45, 2.2, 0.67, 0.48, 1.49, 0.91, 1.01, 1.42, 2.77, 0.89])[:, None],
    np.array([0.0487, 0.0305, 0.1171, 0.0174, 0.0295, 0.0102, 0.0323, 0.038, 0.0115, 0.0679])[
        :, None, None
    ],
)


def reduce(key, p, num_components, **options):
    """From few starts on few points, with few changes to the best of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "POINTS", 512)
        return gmmjax.reduce_mixture(key, p, num_components, num_restarts=2, **options)


@pytest.fixture(scope="module")
def planar():
    return random_mixture(3, 10, 2)


@pytest.fixture(scope="module")
def reduced(planar):
    return reduce(jax.random.key(0), planar, 5)


def kl(p, q):
    return gmmjax.kl_divergence(jax.random.key(99), p, q).value


@pytest.mark.parametrize("cost", COSTS, ids=lambda f: f.__name__)
def test_greedy_merging_keeps_the_moments(cost, key, planar):
    q = gmmjax.greedy_start(key, planar, 5, cost=cost)
    assert q.num_components == 5
    np.testing.assert_allclose(gmmjax.mean(q), gmmjax.mean(planar), atol=1e-12)
    np.testing.assert_allclose(gmmjax.covariance(q), gmmjax.covariance(planar), atol=1e-12)
    assert 0 < kl(planar, q) < 1


def test_a_merge_has_the_right_covariance(key):
    p = gmmjax.GMM(jnp.zeros(2), jnp.array([[2.0, 0.0], [-2.0, 0.0]]), jnp.ones(2))
    q = gmmjax.greedy_start(key, p, 1)
    np.testing.assert_allclose(gmmjax.covariances(q)[0], [[5.0, 0.0], [0.0, 1.0]], atol=1e-12)


def test_costs_are_what_they_say(planar):
    i, j = 2, 7
    pair = jax.tree.map(lambda leaf: leaf[jnp.array([i, j])], planar)
    w, both = gmmjax.weights(planar)[jnp.array([i, j])], gmmjax.covariance(pair)
    log_det = lambda m: np.linalg.slogdet(np.asarray(m))[1]
    expected = 0.5 * (
        w.sum() * log_det(both) - w @ jnp.array([log_det(m) for m in gmmjax.covariances(pair)])
    )
    np.testing.assert_allclose(gmmjax.runnalls(planar, i)[j], expected, rtol=1e-9)
    apart = planar.means[i] - planar.means[j]
    moved = w[0] * w[1] / w.sum() * apart @ np.linalg.solve(gmmjax.covariance(planar), apart)
    np.testing.assert_allclose(gmmjax.salmond(planar, i)[j], moved, rtol=1e-9)
    # The integrated square error, by brute force on a grid.
    axis = np.linspace(-14, 14, 350)
    x = np.stack(np.meshgrid(axis, axis), axis=-1)
    merged = gmmjax.from_covariances([1.0], gmmjax.mean(pair)[None], both[None])
    gap = jnp.exp(gmmjax.log_prob(pair, x)) - jnp.exp(gmmjax.log_prob(merged, x))
    square = w.sum() ** 2 * jnp.sum(gap**2) * (axis[1] - axis[0]) ** 2
    np.testing.assert_allclose(gmmjax.williams(planar, i)[j], square, rtol=1e-6)
    assert gmmjax.west(planar, i)[0][j] == w.min()


def test_costs_are_symmetric_and_affine_invariant(planar):
    a = jnp.array([[2.0, 0.0], [0.7, 0.5]])
    moved = planar._replace(means=planar.means @ a.T + 3.0, scale=a[None] @ planar.scale)
    for cost in COSTS:
        row = lambda g, i: jax.tree.leaves(cost(g, i))[-1]  # noqa: B023
        rows = jax.jit(jax.vmap(row, in_axes=(None, 0)))
        table, there = (rows(g, jnp.arange(10)) for g in (planar, moved))
        off = ~np.eye(10, dtype=bool)
        np.testing.assert_allclose(table[off], table.T[off], rtol=1e-8)
        ratio = there[off] / table[off]
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)


def test_absent_components_merge_for_nothing(key, planar):
    padded = gmmjax.stack([planar, random_mixture(0, 12, 2)])
    padded = jax.tree.map(lambda leaf: leaf[0], padded)
    same, other = gmmjax.greedy_start(key, padded, 5), gmmjax.greedy_start(key, planar, 5)
    assert abs(kl(same, other)) < 1e-6


def test_moves_only_lower_the_bound(planar):
    c = [np.asarray(leaf) for leaf in merge.parts(planar)]
    labels = np.arange(10) % 3

    def bound(labels):
        w, _, cov = clusters.merge(*c, labels, 3)
        return 0.5 * (w @ np.linalg.slogdet(cov)[1] - c[0] @ np.linalg.slogdet(c[2])[1])

    better = clusters.improve(*c, labels, 3)
    assert bound(better) < bound(labels) - 0.1
    q = gmmjax.from_covariances(*clusters.merge(*c, better, 3))
    assert kl(planar, q) < bound(better)  # it is an upper bound
    for i in range(10):
        for new in range(3):
            moved = np.where(np.arange(10) == i, new, better)
            if len(set(moved)) == 3:
                assert bound(moved) > bound(better) - 1e-9


@pytest.mark.parametrize(
    "start", [gmmjax.greedy_start, gmmjax.kmeans_start, gmmjax.moment_start, gmmjax.random_start]
)
def test_starts(start, key, planar):
    q = start(key, planar, 5)
    assert q.scale.shape == (5, 2, 2)
    assert np.isfinite(kl(planar, q))
    shifted = start(key, planar._replace(means=planar.means + 100), 5)
    np.testing.assert_allclose(shifted.means, q.means + 100, atol=1e-6)
    other = start(jax.random.key(1), planar, 5)
    assert np.array_equal(other.means, q.means) == (start is gmmjax.greedy_start)


def test_beats_greedy_merging_and_says_how_well(key):
    result = gmmjax.reduce_mixture(key, CROUSE, 5)
    x = np.linspace(-3, 6, 20_001)[:, None]
    log_p = gmmjax.log_prob(CROUSE, x)
    exact = lambda q: float(
        np.sum(np.exp(log_p) * (log_p - gmmjax.log_prob(q, x))) * (x[1, 0] - x[0, 0])
    )
    greedy = [exact(gmmjax.greedy_start(key, CROUSE, 5, cost=cost)) for cost in COSTS]
    assert exact(result.gmm) < 0.45 * min(greedy)
    # the best of long restarts, tests/benchmarks/test_reduction.py
    assert exact(result.gmm) < 1.05 * 0.0023
    assert abs(result.loss.value - exact(result.gmm)) < 4 * result.loss.stderr
    assert abs(result.start.value - greedy[0]) < 4 * result.start.stderr


def test_a_range_gives_a_falling_curve(key):
    curve = reduce(key, CROUSE, range(4, 6))
    assert list(curve) == [4, 5]
    assert [result.gmm.num_components for result in curve.values()] == [4, 5]
    values = [float(result.loss.value) for result in curve.values()]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("kind", ["full", "diagonal", "spherical"])
def test_keeps_the_structure_and_ignores_units(kind, key, reduced):
    p = random_mixture(3, 10, 2, kind=kind)
    result = reduced if kind == "full" else reduce(key, p, 5)
    assert result.gmm.scale.ndim == p.scale.ndim
    assert result.loss.value < result.start.value
    scaled = p._replace(means=1e4 + 1e-3 * p.means, scale=1e-3 * p.scale)
    there = reduce(key, scaled, 5)
    np.testing.assert_allclose(there.loss.value, result.loss.value, rtol=0.02, atol=1e-4)


def test_moments_on_request(key, planar, reduced):
    result = reduce(key, planar, 5, preserve_moments=True)
    np.testing.assert_allclose(gmmjax.mean(result.gmm), gmmjax.mean(planar), atol=1e-9)
    np.testing.assert_allclose(gmmjax.covariance(result.gmm), gmmjax.covariance(planar), atol=1e-9)
    assert np.abs(gmmjax.covariance(reduced.gmm) - gmmjax.covariance(planar)).max() > 1e-6
    assert result.loss.value < reduced.loss.value + 0.01


def test_another_divergence(key, planar):
    reverse = lambda key, p, q: gmmjax.kl_divergence(
        key, q, p, num_samples=1024, stick_the_landing=False
    )
    forward, result = (
        reduce(key, planar, 3),
        reduce(key, planar, 3, divergence=reverse, num_steps=20),
    )
    assert kl(result.gmm, planar) < kl(forward.gmm, planar)
    assert kl(planar, result.gmm) > kl(planar, forward.gmm)


def test_init_chooses(key, planar, reduced):
    again = reduce(key, planar, 5, init=reduced.gmm)
    assert again.loss.value < reduced.loss.value + 1e-3
    drawn = reduce(key, planar, 5, init=gmmjax.kmeans_start)
    assert drawn.loss.value < 1.5 * reduced.loss.value


def test_a_cheap_merge_is_of_two_that_differ_little():
    weights, means = (
        np.array([0.2, 0.3, 0.1, 0.4]),
        np.array([[0.0, 0.0], [9.0, 0.0], [0.1, 0.0], [0.0, 9.0]]),
    )
    covariances = np.stack([np.eye(2)] * 4)
    rng, near = np.random.default_rng(0), 0
    for _ in range(200):
        w, m, c = clusters.merge_cheaply(rng, weights, means, covariances)
        assert w.shape == (3,)
        np.testing.assert_allclose(w @ m, weights @ means)  # any merge keeps the moments
        second = np.einsum("k,kij->ij", w, c) + (w * m.T) @ m
        np.testing.assert_allclose(second, np.eye(2) + (weights * means.T) @ means, atol=1e-12)
        near += np.isclose(w, 0.3).sum() == 2  # the first and the third
    assert 180 < near < 200


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_moments_of_narrow_components_keep_their_digits(dtype, full):
    rng, width = np.random.default_rng(0), 1e-3
    means = rng.normal(size=(3, 2)).astype(dtype)
    x = np.concatenate([m + width * rng.normal(size=(50, 2)) for m in means]).T.astype(dtype)
    share = np.repeat(np.eye(3), 50, axis=1).astype(dtype)
    mass, first, second = em._moments(jnp.asarray(share), jnp.asarray(means), jnp.asarray(x), full)
    gaps = x.astype(float) - means[:, :, None].astype(float)
    np.testing.assert_allclose(mass, 50)
    np.testing.assert_allclose(
        first, np.einsum("kn,kin->ki", share, gaps), rtol=1e-4, atol=1e-5 * width
    )
    expected = np.einsum("kn,kin,kjn->kij", share, gaps, gaps)
    expected = expected if full else np.diagonal(expected, axis1=1, axis2=2)
    np.testing.assert_allclose(second, expected, rtol=1e-4, atol=1e-4 * width**2)
    # single precision about 0
    raw = np.einsum("kn,in,jn->kij", *(a.astype(np.float32) for a in (share, x, x)))
    about = raw - 50 * np.einsum(
        "ki,kj->kij", *2 * [np.einsum("kn,in->ki", share, x).astype(np.float32) / 50]
    )
    assert np.abs(about[:, 0, 0] / (50 * width**2) - 1).max() > 0.02


def test_degenerate_targets_end_finite(key, planar):
    half = random_mixture(3, 5, 2)
    twice = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), half)
    flat = planar._replace(scale=planar.scale.at[:, 1, :].multiply(1e-6))
    results = [reduce(key, p, 5) for p in (twice, flat)]  # of one shape with the other tests
    for result in results:
        assert all(np.isfinite(leaf).all() for leaf in result.gmm)
        assert result.loss.value <= result.start.value
    assert abs(kl(twice, results[0].gmm)) < 1e-4
    absent = random_mixture(3, 6, 2)
    absent = absent._replace(logits=absent.logits.at[1].set(-jnp.inf))
    enough = reduce(key, absent, 9)
    assert enough.gmm.num_components == 5
    assert abs(kl(absent, enough.gmm)) < 1e-9


def test_bad_arguments(key, planar):
    with pytest.raises(ValueError, match="num_components: expected at least 1"):
        reduce(key, planar, 0)
    with pytest.raises(TypeError, match="num_components"):
        reduce(key, planar, 2.5)
    with pytest.raises(ValueError, match=r"p.means: expected finite"):
        reduce(key, planar._replace(means=planar.means * jnp.nan), 2)
    with pytest.raises(ValueError, match="p: is traced"):
        jax.jit(lambda p: reduce(key, p, 2))(planar)
