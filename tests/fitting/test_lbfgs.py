"""L-BFGS in NumPy: down a curved valley, past what is not finite, and to an end."""

import itertools

import numpy as np
import pytest

from gmmjax._fitting import lbfgs

START = np.array([-1.2, 1.0])


def valley(x):
    """Rosenbrock's function, whose least value is 0 at (1, 1)."""
    across = x[1] - x[0] ** 2
    gradient = np.array([-400 * x[0] * across - 2 * (1 - x[0]), 200 * across])
    return 100 * across**2 + (1 - x[0]) ** 2, gradient, None


def after(count):
    return list(itertools.islice(lbfgs.descend(valley, START), count))


def test_it_finds_the_end_of_a_valley_and_stops_there():
    places = list(itertools.islice(lbfgs.descend(valley, START), 1000))
    assert len(places) < 100
    np.testing.assert_allclose(places[-1].x, 1, atol=1e-6)


def test_each_place_is_lower_than_the_one_before():
    values = [place.value for place in after(30)]
    assert np.all(np.diff(values) < 0)


def test_without_memory_it_would_not_get_there(monkeypatch):
    monkeypatch.setattr(lbfgs, "_remember", lambda *_: None)
    assert after(40)[-1].value > 0.1


@pytest.mark.parametrize("beyond", [np.nan, np.inf, -np.inf])
def test_it_keeps_to_where_the_function_is_finite(beyond):
    def walled(x):
        if x[0] > 0.5:
            return beyond, np.full(2, np.nan), None
        return valley(x)

    places = list(itertools.islice(lbfgs.descend(walled, START), 200))
    assert places[-1].x[0] <= 0.5
    assert places[-1].value < 0.4
