"""Reduction as clustering: moves only lower the bound, and merges keep the moments."""

import functools
import sys

import jax
import numpy as np
import pytest
from cases import random_mixture

import gmmjax
from gmmjax._reduction import changes, clusters, greedy, lloyd, merge, parts
from gmmjax._reduction.parts import Parts


@pytest.fixture(scope="module")
def planar():
    return random_mixture(3, 10, 2)


def runnalls_bound(c, labels, count):
    """Runnalls' bound of a partition."""
    merged = clusters.merge(c, labels, count)
    after = merged.weights @ np.linalg.slogdet(merged.covariances)[1]
    before = c.weights @ np.linalg.slogdet(c.covariances)[1]
    return 0.5 * (after - before)


@pytest.fixture(scope="module")
def bound(planar):
    """That of a partition into three, as a function of the labels."""
    return functools.partial(runnalls_bound, parts.to_numpy(planar), count=3)


@pytest.fixture(scope="module")
def worse():
    return np.arange(10) % 3


@pytest.fixture(scope="module")
def better(planar, worse):
    return clusters.improve(clusters.Sets(parts.to_numpy(planar)), worse, 3)


def test_moves_lower_the_bound(bound, worse, better):
    assert bound(better) < bound(worse) - 0.1


def test_no_single_move_is_left_that_lowers_the_bound(bound, better):
    for i in range(10):
        for new in range(3):
            moved = np.where(np.arange(10) == i, new, better)
            if len(set(moved)) == 3:
                assert bound(moved) > bound(better) - 1e-9


def test_the_bound_is_an_upper_one(planar, bound, better):
    q = gmmjax.from_covariances(*clusters.merge(parts.to_numpy(planar), better, 3))
    assert gmmjax.kl_divergence(jax.random.key(99), planar, q).value < bound(better)


def test_no_exchange_is_left_that_lowers_the_bound(bound, better):
    for i in range(10):
        for j in range(i):
            swapped = better.copy()
            swapped[[i, j]] = better[[j, i]]
            assert bound(swapped) > bound(better) - 1e-9


def test_moves_alone_would_leave_exchanges(monkeypatch):
    """On some of a few random partitions."""
    c = parts.to_numpy(random_mixture(5, 30, 4))
    begun = [np.random.default_rng(i).permutation(30) % 5 for i in range(8)]

    def end(labels):
        return runnalls_bound(c, clusters.improve(clusters.Sets(c), labels, 5), 5)

    both = [end(labels) for labels in begun]
    monkeypatch.setattr(clusters, "_exchange", lambda *_: False)
    moves = [end(labels) for labels in begun]
    assert np.mean(both) < np.mean(moves) - 1e-3


def test_bounds_that_are_remembered_are_those_of_the_sets(monkeypatch, planar):
    """With a memory of one set, too: forgotten too early, the sets asked for were missing."""
    c = parts.to_numpy(planar)
    labels = np.array([0] * 5 + [1] * 4 + [2])

    def anew(labels):
        return clusters.bound(clusters.sum_rows(clusters.moments(c), labels, 3)).sum()

    for most in (clusters.MAX_KNOWN, 1):
        monkeypatch.setattr(clusters, "MAX_KNOWN", most)
        sets = clusters.Sets(c)
        for _ in range(2):
            state = clusters.state_of(sets, labels, 3)
            np.testing.assert_allclose(state.bounds.sum(), anew(labels))
            moved = np.where(np.arange(10) == 2, 1, labels)
            after = state.bounds.sum() - state.bounds[[0, 1]].sum() + state.changed[[0, 1], 2].sum()
            np.testing.assert_allclose(after, anew(moved))
            assert state.without()[9] == 0  # of none


def test_greedy_merging_in_numpy_is_that_of_jax(planar):
    ours = greedy.labels(parts.to_numpy(planar), 4)
    theirs = np.asarray(merge.greedy(planar, 6, gmmjax.runnalls))
    np.testing.assert_array_equal(ours[:, None] == ours, theirs[:, None] == theirs)


def test_merges_among_neighbours_come_near_to_greedy_ones():
    c = parts.to_numpy(random_mixture(0, 400, 3))
    near = greedy.labels_among_neighbours(c, 40)
    assert set(near) == set(range(40))
    dense = runnalls_bound(c, greedy.labels(c, 40), 40)
    assert runnalls_bound(c, near, 40) < 1.1 * dense
    assert runnalls_bound(c, np.arange(400) % 40, 40) > 1.5 * dense


def test_sweeps_lower_the_bound():
    c = parts.to_numpy(random_mixture(0, 400, 3))
    begun = np.arange(400) % 40
    found = lloyd.improve(c, begun, 40)
    assert set(found) == set(range(40))
    assert runnalls_bound(c, found, 40) < runnalls_bound(c, begun, 40) - 0.1


def test_shared_clusters_are_likelier_where_they_overlap():
    """Of components without extent their means: the iteration is then EM on these."""
    p = random_mixture(0, 400, 2)
    c = parts.to_numpy(p)
    c = c._replace(covariances=1e-6 * c.covariances)
    sharp = clusters.merge(c, lloyd.improve(c, greedy.labels(c, 8), 8), 8)
    shared = lloyd.share(c, sharp)
    np.testing.assert_allclose(parts.pool(shared).means, parts.pool(c).means, atol=1e-9)
    log_prob = [gmmjax.log_prob(parts.to_structure(p, q), c.means) for q in (sharp, shared)]
    assert c.weights @ log_prob[1] > c.weights @ log_prob[0] + 0.01


def test_many_that_coincide_are_merged():
    c = Parts(np.full(40, 1 / 40), np.repeat([[0.0], [1.0]], 20, axis=0), np.ones((40, 1, 1)))
    np.testing.assert_array_equal(greedy.labels_among_neighbours(c, 2), np.repeat([0, 1], 20))


def test_says_what_is_missing_without_scipy(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.spatial", None)
    with pytest.raises(ImportError, match=r"p: neighbours .*gmmjax\[scale\]"):
        greedy.labels_among_neighbours(parts.to_numpy(random_mixture(0, 20, 2)), 5)


@pytest.fixture
def near_pair():
    """Four components, of which the first and the third differ little."""
    means = np.array([[0.0, 0.0], [9.0, 0.0], [0.1, 0.0], [0.0, 9.0]])
    return Parts(np.array([0.2, 0.3, 0.1, 0.4]), means, np.stack([np.eye(2)] * 4))


def test_a_cheap_merge_keeps_the_moments(near_pair):
    rng = np.random.default_rng(0)
    whole = parts.pool(near_pair)
    for _ in range(20):
        fewer = clusters.merge_cheaply(rng, near_pair)
        assert fewer.weights.shape == (3,)
        again = parts.pool(fewer)
        np.testing.assert_allclose(again.means, whole.means)
        np.testing.assert_allclose(again.covariances, whole.covariances, atol=1e-12)


def test_a_cheap_merge_is_mostly_of_two_that_differ_little(near_pair):
    rng = np.random.default_rng(0)
    near = 0
    for _ in range(200):
        weights = clusters.merge_cheaply(rng, near_pair).weights
        near += np.isclose(weights, 0.3).sum() == 2  # 0.2 + 0.1 beside 0.3
    assert 180 < near < 200


def test_seeds_of_coinciding_points_leave_no_cluster_empty():
    labels = changes.seed(np.random.default_rng(0), np.full(5, 0.2), np.zeros((5, 2)), 3)
    assert set(labels) == {0, 1, 2}
