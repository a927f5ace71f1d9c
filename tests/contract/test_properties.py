"""What functions say of themselves; that it is true is asked in `test_transforms`."""

import functools

import jax
import pytest

import gmmjax
from gmmjax._properties import Properties, divergence, properties


@divergence(symmetric=True, zero_at_equality=True, skewed_by="power")
def gap(p, q, power=2):
    """The example of these tests."""
    return abs(p - q) ** power


def test_a_function_stays_what_it_is():
    assert gap(1, 4) == 9
    assert gap.__doc__ == "The example of these tests."


@pytest.mark.parametrize("wrap", [lambda f: functools.partial(f, other=3), jax.jit, jax.vmap])
def test_properties_shine_through(wrap):
    assert properties(wrap(gap)) == Properties(True, True, "power")


def test_a_keyword_takes_the_symmetry():
    bound = functools.partial(functools.partial(gap, power=3), other=1)
    assert not properties(bound).symmetric
    assert properties(bound).zero_at_equality


@pytest.mark.parametrize("function", [lambda p, q: 0.0, gmmjax.cross_entropy, gmmjax.kl_matched])
def test_who_says_nothing_is_believed_nothing(function):
    assert properties(function) == Properties()
