"""Small estimates on their own are compiled in another way, and stay what they are."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_mixture

import gmmjax
from gmmjax._estimates import log_ratios
from gmmjax._jax import is_outermost

kl = functools.partial(gmmjax.kl_divergence, num_samples=256, stick_the_landing=False)


def value(key, p, q):
    return kl(key, p, q).value


def directional(key, p, q):
    return jax.jvp(functools.partial(value, key), (p, q), (p, q))


def second(key, p, q):
    return jax.hessian(lambda means: value(key, p, q._replace(means=means)))(q.means)


def of_several(key, p, q):
    keys = jax.random.split(key, 2)
    return jax.vmap(jax.grad(value, argnums=2), (0, None, None))(keys, p, q)


WAYS = {
    "estimate": kl,
    "gradient": jax.value_and_grad(value, argnums=(1, 2)),
    "gradient with error": jax.value_and_grad(kl, argnums=2, has_aux=True),
    "directional": directional,
    "second": second,
    "of several": of_several,
}


@pytest.mark.parametrize("name", WAYS)
def test_alone_it_is_what_it_is_inside_another_program(name, key):
    pair = random_mixture(0, 2, 2), random_mixture(1, 3, 2)
    alone, inside = WAYS[name](key, *pair), jax.jit(WAYS[name])(key, *pair)
    for ours, theirs in zip(jax.tree.leaves(alone), jax.tree.leaves(inside), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


def test_programs_of_ours_are_told_from_others():
    seen = []

    def look(x):
        seen.append(is_outermost())
        return x

    look(1.0)
    jax.grad(look)(1.0)
    for inside in (jax.jit(look), jax.grad(jax.grad(look)), jax.hessian(look)):
        inside(1.0)
    jax.vmap(look)(jnp.ones(1))
    assert seen[:2] == [True, True]
    assert not any(seen[2:])


def test_many_components_and_blends_are_left_to_jit(key):
    programs = log_ratios._estimate._soon._cache_size
    before = programs()
    few, many = random_mixture(0, 2, 2), random_mixture(1, log_ratios.FEW + 1, 2)
    gmmjax.kl_divergence(key, few, many, num_samples=64)
    gmmjax.js_divergence(key, few, few, num_samples=64)
    assert programs() == before
    gmmjax.kl_divergence(key, few, few, num_samples=64)
    assert programs() == before + 1
