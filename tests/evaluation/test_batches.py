"""How many batches an accuracy takes, and how they grow."""

import jax.numpy as jnp
import numpy as np
import pytest

from gmmjax._evaluation import batches
from gmmjax._evaluation.batches import Level, Target, levels


def average(variance, value=1.0):
    return batches._Average(jnp.ones((), int), jnp.asarray(value), jnp.asarray(variance))


def target(rtol=0.0, atol=0.0):
    return Target(jnp.asarray(rtol), jnp.asarray(atol))


def test_the_plan_has_a_margin_of_three_tenths():
    """The pilot knows its variance to a quarter, from 32 replicates: without a margin half of all
    plans would fall short, and be extended by looking at what was found; with it 18 % do.
    """
    assert target(atol=1.0).num_batches(average(100.0), 1000) == 130
    below = np.random.default_rng(0).chisquare(31, 100_000) / 31
    assert np.mean(below < 1) > 0.5
    assert np.mean(below * batches.MARGIN < 1) < 0.2


def test_the_looser_tolerance_counts():
    assert target(rtol=0.1, atol=0.5).stderr(jnp.asarray(-10.0)) == 1.0
    assert target(rtol=0.1, atol=0.5).stderr(jnp.asarray(1.0)) == 0.5


@pytest.mark.parametrize("variance", [np.nan, np.inf, 1e9])
def test_no_more_than_there_may_be(variance):
    assert target(atol=1.0).num_batches(average(variance), 50) == 50
    assert target().num_batches(average(1.0), 50) == 50


def test_one_batch_at_least():
    assert target(atol=1.0).num_batches(average(0.0), 50) == 1


def test_the_average_of_batches():
    found = average(0.0, 0.0)._replace(count=jnp.zeros((), int))
    for value, variance in ((1.0, 4.0), (2.0, 6.0), (6.0, 8.0)):
        found = found.with_one_more(jnp.asarray(value), jnp.asarray(variance))
    np.testing.assert_allclose(tuple(found), (3, 3.0, 6.0))
    np.testing.assert_allclose(found.stderr, np.sqrt(2.0))


def test_levels_grow_eightfold_while_eight_are_left():
    assert levels(1, 2) == [Level(1, 1, True)]
    assert levels(64, 1 << 12) == [Level(64, 63, False), Level(512, 6, True)]
    assert [level.batch_samples for level in levels(1024, 1 << 20)] == [1024, 8192, 65_536, 262_144]
    for level in levels(1024, 1 << 20)[:-1]:
        assert level.most >= 8
