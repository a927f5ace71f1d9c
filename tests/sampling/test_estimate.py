"""The end of every estimate: spread, hidden variances, transforms, bounds and rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gmmjax._sampling import unseen
from gmmjax._sampling.estimate import Estimate, Replicates, conclude

MEANS = jnp.array([1.0, 2.0, 3.0, 2.0])
# By Student's 97.5 % quantiles of 3 and of 31 degrees of freedom.
ERROR = np.std(MEANS, ddof=1) / 2 * 3.1824 / 2.0395


def found(means=MEANS, hidden=0.0):
    means = jnp.asarray(means)
    return Replicates(jnp.mean(means), means, jnp.asarray(hidden))


def test_spread_and_hidden_variances_add():
    error = conclude(found(hidden=0.25), jnp.asarray(0.5)).stderr
    np.testing.assert_allclose(error, np.sqrt(ERROR**2 + 0.75), rtol=0.01)


@pytest.mark.parametrize("count", [2, 3, 4, 8, 31])
def test_two_errors_hold_the_truth_of_few_replicates(count):
    """In one segment, by Student's t; their plain spread covers 70 to 91 % of up to eight."""
    means = jax.random.normal(jax.random.key(count), (10_000, count))
    stated = jax.vmap(lambda means: conclude(found(means)).stderr)(means)
    error = np.abs(np.mean(means, axis=1))
    assert 0.925 <= np.mean(error <= 2 * stated) <= 0.965
    if count <= 8:
        assert np.mean(error <= 2 * np.std(means, axis=1, ddof=1) / count**0.5) < 0.925


def test_one_replicate_knows_nothing():
    assert jnp.isinf(conclude(found([2.0]), bound=0.1).stderr)


def test_the_error_is_at_rounding_level_at_least():
    error = conclude(found([2.0, 2.0])).stderr
    assert 0 < error < 1e-14


def in_segments(parts):
    """Replicates of segments, `(R/S, S)`."""
    parts = jnp.asarray(parts)
    return Replicates(jnp.mean(parts), parts, jnp.zeros(()))


def test_segments_may_differ():
    """Their variances add up; the spread of all would be that of their expectations."""
    noise = np.random.default_rng(0).normal(size=(4, 8))
    apart = in_segments(noise + 100 * np.arange(8))
    expected = np.sqrt(np.var(noise, axis=0, ddof=1).sum() / 4) / 8
    error = conclude(apart).stderr
    assert 1.0 < error / expected < 1.1  # Student's t of some 20 degrees of freedom
    np.testing.assert_allclose(error, conclude(in_segments(noise)).stderr, rtol=1e-9)


def test_two_errors_hold_the_truth_though_one_segment_makes_all_of_it():
    """Three degrees of freedom: the plain spread would hold it in 86 % of runs."""
    noise = np.random.default_rng(0).normal(size=(2000, 4, 8))
    noise[..., 1:] *= 1e-3
    found = jax.vmap(lambda parts: conclude(in_segments(parts)))(jnp.asarray(noise))
    covered = np.abs(found.value) <= 2 * found.stderr
    assert 0.93 < covered.mean() < 0.97
    plain = np.sqrt(np.var(noise, axis=1, ddof=1).sum(axis=1) / 4) / 8
    assert np.mean(np.abs(found.value) <= 2 * plain) < 0.88


def test_segments_without_any_spread():
    assert 0 < conclude(in_segments(jnp.full((4, 8), 2.0))).stderr < 1e-14


def test_a_transform_passes_the_error_on_by_its_slope():
    value, error = conclude(found(), transform=jnp.square)
    np.testing.assert_allclose((value, error), (4.0, 4 * ERROR), rtol=0.01)


@pytest.mark.parametrize("slope", [0.0, 1.0, -3.0])
def test_an_infinite_variance_survives_any_slope(slope):
    error = conclude(found(), jnp.inf, transform=lambda x: slope * x).stderr
    assert jnp.isinf(error)


def test_no_error_exceeds_the_bound():
    assert conclude(found(hidden=1e6), bound=0.7).stderr == 0.7


def test_an_error_below_the_bound_stays():
    np.testing.assert_allclose(conclude(found(), bound=10.0).stderr, ERROR, rtol=0.01)


def test_nan_stays():
    assert jnp.isnan(conclude(found([jnp.nan, 1.0]), bound=1.0).stderr)


def test_overflow_is_an_infinite_error():
    """Replicates that overflow have no spread: only a guard can say so."""
    means = jnp.array([jnp.inf, 1.0, 1.0])
    guard = unseen.missed_point(means, jnp.inf, 100)
    assert jnp.isinf(conclude(found(means), guard).stderr)


def test_no_gradient_passes_through_the_error():
    def error(shift):
        return conclude(found(MEANS * shift, shift), shift, bound=shift).stderr

    assert jax.grad(error)(1.0) == 0


@pytest.mark.parametrize(
    ("parts", "missed"), [([1.0] * 8, 0.0), ([8.0] + [0.1] * 7, 1e-4), ([0.0] * 8, 0.0)]
)
def test_a_point_is_added_where_a_few_carry_the_sum(parts, missed):
    variance = unseen.missed_point(jnp.array(parts), 1.0, 100)
    np.testing.assert_allclose(variance, missed)


def test_nothing_bounds_the_point():
    assert jnp.isinf(unseen.missed_point(jnp.array([8.0] + [0.1] * 7), jnp.inf, 100))


@pytest.mark.parametrize(
    ("value", "stderr", "shown"),
    [
        (0.58934, 0.00042, "0.5893 ± 0.0004"),
        (11.7, 12.3, "12 ± 12"),
        (0.16221, 0.00097, "0.162 ± 0.001"),
        (1e-7, 3e-9, "0.000000100 ± 3e-09"),
        (0.25, np.inf, "0.25 ± inf"),
        (2.0, 0.0, "2 ± 0"),
        (np.nan, np.nan, "nan ± nan"),
    ],
)
def test_an_estimate_is_shown_to_the_digit_that_is_known(value, stderr, shown):
    assert str(Estimate(jnp.asarray(value), jnp.asarray(stderr))) == shown
    assert f"{Estimate(value, stderr)}" == shown


def test_a_format_is_that_of_the_value():
    assert f"{Estimate(0.58934, 0.00042):.2f}" == "0.59 ± 0.0004"
    assert f"{Estimate(0.58934, 0.00042):8.3f}" == "   0.589 ± 0.0004"


def test_what_is_no_single_number_is_shown_as_a_tuple():
    batch = Estimate(jnp.ones(2), jnp.ones(2))
    assert str(batch) == repr(batch)
    with pytest.raises(TypeError, match="format .value and .stderr"):
        format(batch, ".3f")
    shown = []
    jax.jit(lambda estimate: shown.append(str(estimate)))(Estimate(1.0, 0.1))
    assert shown[0].startswith("Estimate(value=")
