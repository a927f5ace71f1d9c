"""The guards of an error by numbers: what counts as narrow, hidden, carried by few, and how much.

Their constants were tuned by coverage; these tests say at which number each of them turns.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gmmjax
from gmmjax._matrices import tiles
from gmmjax._mixture import density
from gmmjax._pairs.components import Relation
from gmmjax._sampling import spikes, unseen


def spike(dim, width, distance=0.0, log_mass=jnp.inf):
    """A component of that width at that distance, as a unit normal sees it."""
    shift = jnp.zeros((1, 1, dim)).at[0, 0, 0].set(distance / width)
    variances = jnp.full((1, 1, dim), width**-2.0)
    mean = jnp.zeros((1, dim)).at[0, 0].set(distance)
    return spikes.Spikes(mean, jnp.ones(1, bool), jnp.full(1, log_mass), Relation(shift, variances))


def variance(dim, width, num_points, **where):
    residual = jnp.full((1, 1), 3.0)
    return float(
        spikes.narrow_modes(
            jnp.zeros(1), jnp.full(1, num_points), spike(dim, width, **where), residual
        )
    )


@pytest.mark.parametrize("dim", [1, 2, 5])
@pytest.mark.parametrize("distance", [0.0, 0.7])
def test_a_hidden_spike_adds_its_probability_times_its_square(dim, distance):
    """H = E exp(−½ ‖(x − μ)/s‖² / (D + 3)), by the closed form of a normal integral."""
    width, num_points = 1e-3 if dim == 1 else 0.05, 100.0
    spread = 1 + (dim + 3) * width**2
    hit = (spread / ((dim + 3) * width**2)) ** (-dim / 2) * np.exp(-(distance**2) / (2 * spread))
    expected = hit * 3.0**2 / num_points
    np.testing.assert_allclose(
        variance(dim, width, num_points, distance=distance), expected, rtol=1e-9
    )


def turns(function, low, high):
    """Where a function of a number falls to 0."""
    assert function(low) > 0 == function(high)
    while high / low > 1 + 1e-9:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if function(middle) > 0 else (low, middle)
    return low


def test_a_spike_that_32_points_would_hit_shows_itself():
    width = 1e-3
    hit = (1 + 1 / (4 * width**2)) ** -0.5
    most = turns(lambda n: variance(1, width, n), 1.0, 1e6)
    np.testing.assert_allclose(most * hit, 32, rtol=1e-6)


def test_a_mode_that_catches_a_64th_is_not_narrow():
    widest = turns(lambda width: variance(1, width, 1.0), 1e-4, 1.0)
    np.testing.assert_allclose((1 + 1 / (4 * widest**2)) ** -0.5, 1 / 64, rtol=1e-6)


@pytest.mark.parametrize("lowest", [2.0, 0.5, -1.0])
def test_a_spike_is_no_lower_than_its_mass_allows(lowest):
    """By Jensen −r is at most log(1 + m/a), however low −log q is at the spike itself."""
    width = 1e-3
    log_hit = -0.5 * np.log(1 + 1 / (4 * width**2))
    residual = jnp.full((1, 1), -100.0)
    found = spikes.narrow_modes(
        jnp.zeros(1), jnp.full(1, 10.0), spike(1, width, log_mass=log_hit + lowest), residual
    )
    np.testing.assert_allclose(
        found, np.exp(log_hit) * np.log1p(np.exp(lowest)) ** 2 / 10, rtol=1e-9
    )


def test_the_modes_of_which_least_is_known_are_looked_at():
    """Of two hidden and one broad, as three components of other weights see them."""
    widths = np.array([[1e-3], [2.0], [3e-3]])
    shift = jnp.asarray(np.random.default_rng(0).uniform(size=(3, 3, 1)))
    variances = jnp.asarray(np.broadcast_to(widths[None] ** -2.0, (3, 3, 1)))
    modes = spikes.Spikes(
        jnp.arange(3.0)[:, None], jnp.ones(3, bool), jnp.arange(3.0), Relation(shift, variances)
    )
    g = gmmjax.GMM(jnp.arange(3.0), jnp.zeros((3, 1)), jnp.ones(3))
    assert spikes.most_hidden(g, jnp.ones(3), modes, 3) is modes
    found = spikes.most_hidden(g, jnp.ones(3), modes, 2)
    np.testing.assert_array_equal(np.sort(found.log_masses), [0.0, 2.0])
    for leaf, whole in zip(found.relation, modes.relation, strict=True):
        chosen = np.asarray(found.log_masses).astype(int)
        np.testing.assert_array_equal(leaf, whole[:, chosen])
    np.testing.assert_array_equal(found.means[:, 0], found.log_masses)


def test_the_narrowest_components_are_those_of_least_volume():
    """Where one is absent, which is narrower still."""
    scale = jnp.array([[3.0, 0.1], [1.0, 1.0], [0.2, 0.5], [1e-9, 1e-9]])
    logits = jnp.array([0.0, 0.0, 0.0, -jnp.inf])
    g = gmmjax.GMM(logits, jnp.arange(8.0).reshape(4, 2), scale)
    found, masses = spikes.narrowest(g, jnp.arange(4.0), 2)
    np.testing.assert_array_equal(masses, [2.0, 0.0])
    np.testing.assert_array_equal(found.scale, scale[jnp.array([2, 0])])


def pair_apart(distance):
    """Two unit normals at a distance, and how they lie to each other."""
    g = gmmjax.GMM(jnp.zeros(2), jnp.array([[0.0], [distance]]), jnp.ones(2))
    shift = jnp.array([[[0.0], [distance]], [[-distance], [0.0]]])
    return g, Relation(shift, jnp.ones((2, 2, 1)))


def test_hidden_overlaps_are_counted_below_so_many_points():
    from scipy.special import erfc

    g, relation = pair_apart(6.0)
    hit = 0.5 * erfc(np.sqrt(36 / 8))

    def hidden(n, residual=5.0, least=16.0):
        log_weights, least = jnp.log(jnp.full(2, 0.5)), jnp.full(2, least)
        residuals = jnp.full((2, 2), residual)
        points = jnp.full(2, n)
        overlaps = unseen.Overlaps(g.logits, relation, spikes=None)
        return unseen.hidden_overlaps(log_weights, points, overlaps, residuals, least)

    np.testing.assert_allclose(hidden(100.0), 2 * 0.25 * hit / 100)
    np.testing.assert_allclose(turns(hidden, 1.0, 1e9) * hit, 16, rtol=1e-6)
    most = turns(lambda n: hidden(n, least=4.0), 1.0, 1e9)
    np.testing.assert_allclose(most * hit, 4, rtol=1e-6)
    # Where the integrand is known there, nothing is hidden.
    np.testing.assert_allclose(hidden(100.0, -0.1), 0.01 * hidden(100.0), rtol=1e-12)
    assert hidden(100.0, 0.0) == 0


def test_a_larger_component_takes_over_sooner():
    """At 6 deviations with weights of 1 to e¹⁸ the middle lies at 0 for the smaller one."""
    g, relation = pair_apart(6.0)
    log_weights = jnp.asarray([-18.0, 0.0])
    overlaps = unseen.Overlaps(log_weights, relation, spikes=None)
    arguments = overlaps, jnp.ones((2, 2)), jnp.full(2, jnp.inf)
    found = unseen.hidden_overlaps(log_weights, jnp.full(2, 100.0), *arguments)
    # Half of the points of the smaller one, and of the larger one those beyond 6 deviations.
    expected = (np.exp(-36.0) * 0.5 + 9.865876e-10) / 100
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_replicate_that_carries_four_shares_is_the_mark_of_a_tail():
    def missed(largest):
        parts = jnp.ones(32).at[0].set(largest)
        return unseen.missed_point(parts, jnp.inf, 100)

    # x / ((31 + x) / 32) = 4 at x = 31 · 4 / 28
    assert missed(31 / 7 * 0.999) == 0
    assert jnp.isinf(missed(31 / 7 * 1.001))


def test_a_third_of_the_replicates_may_carry_a_bounded_sum():
    def missed(count, largest=1.0):
        return unseen.missed_point(3.0 * (jnp.arange(33) < count), largest, 100)

    np.testing.assert_allclose(missed(10), 1e-4)
    assert missed(11) == 0
    assert missed(10, jnp.inf) == 0


def test_a_point_between_is_added_where_four_are_missing():
    def between(points):
        return unseen.missed_between(jnp.full(8, points * 0.7 / 100), 0.7, 100)

    np.testing.assert_allclose(between(3.99), 0.007**2)
    assert between(4.01) == 0


def test_rounding_is_that_of_the_log_densities():
    """Half a unit of the mean of |log N|, which is ½ D below the peak."""
    g = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 3)), jnp.full(1, 2.0))
    peak = 3 * np.log(2 * np.sqrt(2 * np.pi))
    expected = (0.5 * np.finfo(float).eps * (1.5 + peak)) ** 2
    small = g._replace(scale=jnp.ones(1))
    for both in ((g,), (g, small), (small, g)):
        found = unseen.rounding([density.prepare(one) for one in both])
        np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("kind", ["full", "diagonal"])
@pytest.mark.parametrize("many", [False, True])
def test_one_narrow_direction_is_found(kind, many, monkeypatch):
    """By a little more than the edge of χ² along one axis of four, and wide along the others."""
    if many:
        monkeypatch.setattr(unseen, "LARGEST_PROOF", 0)
        monkeypatch.setattr(tiles, "tile_size", lambda: 72)  # of three components one is apart
    edge = np.sqrt(2 / (4 - 8 / 9))
    wide = jnp.asarray(np.random.default_rng(0).uniform(1, 2, size=(3, 4)))
    p = gmmjax.GMM(jnp.zeros(3), jnp.zeros((3, 4)), wide)
    turn = jnp.linalg.qr(jnp.asarray(np.random.default_rng(1).normal(size=(4, 4))))[0]

    def turned(g):
        return gmmjax.affine(g._replace(scale=jax.vmap(jnp.diag)(g.scale)), turn)

    @jax.jit
    def is_infinite(narrowest):
        q = p._replace(scale=wide * jnp.array([3.0, 3.0, 1.0, 3.0]).at[2].set(narrowest)[None])
        both = [p, q]
        if kind == "full":
            both = [
                gmmjax.affine(g._replace(scale=jax.vmap(jnp.diag)(g.scale)), turn) for g in both
            ]
        return jnp.isinf(unseen.heavy_tails(*map(density.prepare, both), jnp.array(2.0)))

    # The slowest fall of p along the axis is that of its widest component there, as of q.
    assert is_infinite(edge - 1e-3)
    assert not is_infinite(edge + 1e-3)
