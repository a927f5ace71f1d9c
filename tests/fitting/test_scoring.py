"""Damped scoring in NumPy: down a curved valley, past what is not finite, and to an end."""

import itertools
import operator

import numpy as np
import pytest

from gmmjax._fitting import scoring

START = np.array([-1.2, 1.0])


def valley(x):
    """Rosenbrock's function, whose least value is 0 at (1, 1)."""
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2, None


def slopes(x):
    """Its gradient, and the curvature of a sum of squares."""
    rates = np.array([[-20 * x[0], 10.0], [-1.0, 0.0]])
    residuals = np.array([10 * (x[1] - x[0] ** 2), 1 - x[0]])
    return 2 * rates.T @ residuals, 2 * rates.T @ rates


def places(value=valley):
    return list(itertools.islice(scoring.descend(value, slopes, operator.add, START), 200))


def test_it_finds_the_end_of_a_valley_and_stops_there():
    found = places()
    assert len(found) < 40
    np.testing.assert_allclose(found[-1].x, 1, atol=1e-6)
    assert np.all(np.diff([place.value for place in found]) < 0)


def test_with_much_damping_it_would_not_get_there(monkeypatch):
    monkeypatch.setattr(scoring, "LEAST_DAMPING", 1e3)
    monkeypatch.setattr(scoring, "FIRST_DAMPING", 1e3)
    assert places()[40].value > 0.1


@pytest.mark.parametrize("beyond", [np.nan, np.inf])
def test_it_keeps_to_where_the_function_is_finite(beyond):
    found = places(lambda x: valley(x) if x[0] < 0.5 else (beyond, None))
    assert found[-1].x[0] < 0.5
    assert found[-1].value < 0.4
