"""Mixture reduction: it beats greedy merging, honours its options, and ends finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_mixture

import gmmjax
from gmmjax._reduction import partitions, search

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
        patch.setattr(search, "NUM_POINTS", 512)
        return gmmjax.reduce_mixture(key, p, num_components, num_restarts=8, **options)


def kl(p, q):
    return gmmjax.kl_divergence(jax.random.key(99), p, q).value


def crouse_kl(q):
    """KL from Crouse's mixture, by a sum over a fine grid."""
    x = np.linspace(-3, 6, 20_001)[:, None]
    log_p = gmmjax.log_prob(CROUSE, x)
    ratio = log_p - gmmjax.log_prob(q, x)
    return float(np.sum(np.exp(log_p) * ratio) * (x[1, 0] - x[0, 0]))


@pytest.fixture(scope="module")
def planar():
    return random_mixture(3, 10, 2)


@pytest.fixture(scope="module")
def reduced(planar):
    return reduce(jax.random.key(0), planar, 5)


@pytest.fixture(scope="module")
def crouse():
    """The reduction to five as a user calls it."""
    return gmmjax.reduce_mixture(jax.random.key(0), CROUSE, 5)


def test_progress_is_the_same_reduction(planar, reduced, capsys):
    watched = reduce(jax.random.key(0), planar, 5, progress=True)
    jax.tree.map(np.testing.assert_array_equal, watched, reduced)
    assert "/8" in capsys.readouterr().err


def test_ctrl_c_under_a_bar_keeps_what_is_there(planar, reduced, monkeypatch):
    """Inside a search its best, of several what is done; without a bar it ends everything."""

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(search, "_changed", interrupted)
    with pytest.warns(UserWarning, match="reduce_mixture: interrupted"):
        result = reduce(jax.random.key(0), planar, 5, progress=True)
    assert result.loss.value <= result.start.value
    with pytest.raises(KeyboardInterrupt):
        reduce(jax.random.key(0), planar, 5)
    with pytest.warns(UserWarning, match="reduce_mixture: interrupted, 1 of 2"):
        results = reduce(jax.random.key(0), planar, [1, 5], progress=True)
    assert list(results) == [1]


def test_beats_greedy_merging(crouse, key):
    greedy = [crouse_kl(gmmjax.greedy_start(key, CROUSE, 5, cost=cost)) for cost in COSTS]
    assert crouse_kl(crouse.gmm) < 0.45 * min(greedy)


def test_is_as_good_as_long_restarts(crouse):
    """The best of them is 0.0023, by tests/benchmarks/test_reduction.py."""
    assert crouse_kl(crouse.gmm) < 1.05 * 0.0023


def test_says_how_good_it_is(crouse):
    assert abs(crouse.loss.value - crouse_kl(crouse.gmm)) < 4 * crouse.loss.stderr


def test_says_how_good_greedy_merging_is(crouse, key):
    exact = crouse_kl(gmmjax.greedy_start(key, CROUSE, 5))
    assert abs(crouse.start.value - exact) < 4 * crouse.start.stderr


def test_a_range_gives_a_falling_curve(key):
    curve = reduce(key, CROUSE, range(4, 6))
    assert list(curve) == [4, 5]
    assert [result.gmm.num_components for result in curve.values()] == [4, 5]
    values = [float(result.loss.value) for result in curve.values()]
    assert values == sorted(values, reverse=True)


@pytest.fixture(scope="module", params=["full", "diagonal", "spherical"])
def target_and_result(request, reduced):
    p = random_mixture(3, 10, 2, kind=request.param)
    return p, reduced if request.param == "full" else reduce(jax.random.key(0), p, 5)


def test_keeps_the_structure(target_and_result):
    p, result = target_and_result
    assert result.gmm.scale.ndim == p.scale.ndim
    assert result.loss.value < result.start.value


def test_ignores_units(target_and_result, key):
    p, result = target_and_result
    scaled = p._replace(means=1e4 + 1e-3 * p.means, scale=1e-3 * p.scale)
    there = reduce(key, scaled, 5)
    np.testing.assert_allclose(there.loss.value, result.loss.value, rtol=0.02, atol=1e-4)


@pytest.fixture(scope="module")
def with_moments(planar):
    return reduce(jax.random.key(0), planar, 5, preserve_moments=True)


def test_keeps_the_moments_on_request(with_moments, planar):
    q = with_moments.gmm
    np.testing.assert_allclose(gmmjax.mean(q), gmmjax.mean(planar), atol=1e-9)
    np.testing.assert_allclose(gmmjax.covariance(q), gmmjax.covariance(planar), atol=1e-9)


def test_moments_cost_little(with_moments, reduced):
    assert with_moments.loss.value < reduced.loss.value + 0.01


def test_moments_are_not_kept_without_request(reduced, planar):
    assert np.abs(gmmjax.covariance(reduced.gmm) - gmmjax.covariance(planar)).max() > 1e-6


def test_another_divergence(key, planar):
    """Each of the two is better at what it minimises."""

    def reverse_kl(key, p, q):
        return gmmjax.kl_divergence(key, q, p, num_samples=1024, stick_the_landing=False)

    forward = reduce(key, planar, 3).gmm
    reverse = reduce(key, planar, 3, divergence=reverse_kl, num_steps=20).gmm
    assert kl(reverse, planar) < kl(forward, planar)
    assert kl(planar, reverse) > kl(planar, forward)


def test_starts_from_a_mixture(key, planar, reduced):
    again = reduce(key, planar, 5, init=reduced.gmm)
    assert again.loss.value < reduced.loss.value + 1e-3


def test_starts_from_what_a_function_draws(key, planar, reduced):
    drawn = reduce(key, planar, 5, init=gmmjax.kmeans_start)
    assert drawn.loss.value < 1.5 * reduced.loss.value


def test_finds_components_that_stand_twice(key):
    half = random_mixture(3, 5, 2)
    twice = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), half)
    assert abs(kl(twice, reduce(key, twice, 5).gmm)) < 1e-4


def test_nothing_beats_an_exact_start_by_less_than_its_error(key):
    """Of coincident components: a noisy value below 0 had won over what has no error."""
    p = gmmjax.GMM(jnp.zeros(4), jnp.ones((4, 2)), jnp.ones((4, 2)))
    result = reduce(key, p, 2, num_steps=30)
    np.testing.assert_allclose(result.gmm.means, 1, rtol=1e-12)
    np.testing.assert_allclose(jnp.abs(result.gmm.scale), 1, rtol=1e-12)


def test_a_flat_target_ends_finite(key, planar):
    flat = planar._replace(scale=planar.scale.at[:, 1, :].multiply(1e-6))
    result = reduce(key, flat, 5)
    assert all(np.isfinite(leaf).all() for leaf in result.gmm)
    assert result.loss.value <= result.start.value


def test_keeps_no_absent_component(key):
    absent = random_mixture(3, 6, 2)
    absent = absent._replace(logits=absent.logits.at[1].set(-jnp.inf))
    enough = reduce(key, absent, 9).gmm
    assert enough.num_components == 5
    assert abs(kl(absent, enough)) < 1e-9


def test_many_components_are_clustered_without_a_search(key, monkeypatch):
    p = random_mixture(4, 60, 2)
    monkeypatch.setattr(partitions, "MAX_DENSE", 20)
    monkeypatch.setattr(partitions, "MAX_IMPROVED", 100)
    monkeypatch.setattr(partitions, "MAX_SEARCHED", 100)
    result = reduce(key, p, 5)
    assert result.gmm.num_components == 5
    assert result.loss.value < result.start.value
    assert result.num_steps == 0
    assert not result.converged
    assert np.isnan(result.losses).all()


@pytest.mark.parametrize(("count", "error"), [(0, ValueError), (2.5, TypeError), ([], ValueError)])
def test_refuses_what_is_no_count(count, error, key, planar):
    with pytest.raises(error, match="num_components: expected"):
        reduce(key, planar, count)


def test_refuses_what_is_not_finite(key, planar):
    with pytest.raises(ValueError, match=r"p.means: expected finite"):
        reduce(key, planar._replace(means=planar.means * jnp.nan), 2)


def test_refuses_a_start_of_more_components(key, planar):
    with pytest.raises(ValueError, match="init: expected at most 2 components in 2 dim"):
        reduce(key, planar, 2, init=planar)
    with pytest.raises(ValueError, match="init: .*got 10 in 1"):
        reduce(key, planar, 2, init=gmmjax.marginal(planar, [0]))


def test_refuses_what_is_traced(key, planar):
    with pytest.raises(ValueError, match="p: is traced"):
        jax.jit(lambda p: reduce(key, p, 2))(planar)
