"""Bounds on their own are compiled in another way, which JAX refuses inside another program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_mixture

import gmmjax
from gmmjax import _compile
from gmmjax._jax import is_outermost


def test_programs_of_ours_are_told_from_others():
    seen = []

    def look(x):
        seen.append(is_outermost())
        return x

    look(1.0)
    jax.jit(look)(1.0)
    jax.vmap(look)(jnp.ones(1))
    assert seen == [True, False, False]


def test_flags_of_the_user_win(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=2 --xla_dump_to=here")
    options = {"xla_backend_optimization_level": 1, "xla_cpu_prefer_vector_width": 512}
    assert _compile._unless_told(**options) == {"xla_cpu_prefer_vector_width": 512}
    monkeypatch.delenv("XLA_FLAGS")
    assert _compile._unless_told(**options) == options


@pytest.mark.parametrize("bounds", [gmmjax.kl_bounds, gmmjax.js_bounds], ids=["kl", "js"])
def test_alone_they_are_what_they_are_inside_another_program(bounds):
    p, q = random_mixture(0, 2, 3), random_mixture(1, 3, 3)
    alone = bounds(p, q)
    for inside in (jax.jit(bounds)(p, q), jax.jit(lambda: bounds(p, q))()):
        np.testing.assert_allclose(inside, alone, rtol=1e-9)
    slope = jax.grad(lambda scale: scale * bounds(p, q).upper)(1.0)
    np.testing.assert_allclose(slope, alone.upper, rtol=1e-9)
