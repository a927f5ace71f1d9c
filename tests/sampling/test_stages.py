"""Estimates in two programs are those of one, with all derivatives; each is compiled once."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_mixture

import gmmjax
from gmmjax._jax import is_alone
from gmmjax._sampling.stages import in_stages

X, Y = jnp.arange(1.0, 4.0), jnp.asarray([0.5, -1.0, 2.0])


def first(arrays, static):
    key, x, y = arrays
    noise = jax.random.normal(key, x.shape)
    return {"key": key, "moves": x * y, "still": jax.lax.stop_gradient(x) + noise, "count": 2}


def last(tree, static):
    inner = jnp.sum(jnp.sin(tree["moves"]) * tree["still"]) * tree["count"]
    return inner + static * jax.random.normal(tree["key"]), jax.lax.stop_gradient(inner)


def whole(arrays, static):
    return last(first(arrays, static), static)


def value(function, key):
    return lambda x, y: function((key, x, y), 3.0)[0]


def close(a, b):
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


TRANSFORMS = {
    "value": lambda f: f,
    "gradient": lambda f: jax.grad(f, (0, 1)),
    "one gradient": lambda f: jax.grad(f, 1),
    "forward": lambda f: lambda x, y: jax.jvp(f, (x, y), (y, x)),
    "linear": lambda f: lambda x, y: jax.linearize(f, x, y)[1](y, x),
    "second": lambda f: jax.hessian(f, (0, 1)),
    "reverse twice": lambda f: jax.jacrev(jax.grad(f)),
    "of something else": lambda f: lambda x, y: jax.grad(lambda rate: rate * f(x, y))(2.0),
    "program": lambda f: jax.jit(jax.grad(f)),
    "batch": lambda f: lambda x, y: jax.vmap(jax.grad(f), (0, None))(jnp.stack([x, y]), y),
    "of a batch": lambda f: (
        lambda x, y: jax.grad(lambda y: jnp.sum(jax.vmap(f, (0, None))(jnp.stack([x, y]), y)))(y)
    ),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_transform_is_that_of_one_program(name, key):
    transform = TRANSFORMS[name]
    staged = in_stages(whole, first, last)
    found = transform(value(staged, key))(X, Y)
    close(found, transform(value(whole, key))(X, Y))
    wrong = in_stages(whole, first, lambda tree, static: last(tree | {"count": 3}, static))
    alone = name in ("value", "gradient", "one gradient", "forward", "linear")
    if alone:  # where the stages are what is called
        with pytest.raises(AssertionError, match="Mismatched"):
            close(transform(value(wrong, key))(X, Y), found)


def test_what_stands_still_is_not_differentiated(key):
    """A root of 0 that moves has no gradient."""

    def with_root(name):
        def last(tree, static):
            return jnp.sum(tree["moves"]) + jnp.sum(jnp.sqrt(0 * tree[name])), 0.0

        return in_stages(whole, first, last)

    still, moving = (jax.grad(value(with_root(name), key))(X, Y) for name in ("still", "moves"))
    close(still, Y)
    assert np.isnan(moving).all()


def compiled(records):
    """The names of the programs that were compiled."""
    found = [re.match(r"Compiling jit\((\w+)\)", record.getMessage()) for record in records]
    return sorted(match[1] for match in found if match)


def test_every_stage_is_compiled_once(key, caplog):
    staged = value(in_stages(whole, first, last), key)
    ours = {"first", "last", "whole", "begin", "end", "back"}
    # What moves with either argument is the same, and so is the last stage.
    expected = ["first", "last"], [], ["back", "begin", "end"], [], ["back", "begin"]
    calls = [staged, staged, jax.grad(staged), jax.grad(staged), jax.grad(staged, 1)]
    for call, names in zip(calls, expected, strict=True):
        caplog.clear()
        with jax.log_compiles():
            call(jnp.arange(5.0), jnp.ones(5))  # of no other test
        assert [name for name in compiled(caplog.records) if name in ours] == names


def test_derivatives_alone_are_told_from_programs_and_batches():
    seen = []

    def look(x):
        seen.append(is_alone())
        return x

    look(1.0)
    jax.grad(look)(1.0)
    jax.jvp(look, (1.0,), (1.0,))
    jax.grad(jax.jit(look))(1.0)
    jax.jit(jax.grad(look))(1.0)
    jax.grad(lambda x: jnp.sum(jax.vmap(look)(x)))(jnp.ones(2))
    jax.vmap(jax.grad(look))(jnp.ones(2))
    assert seen == [True, True, True, False, False, False, False]


def cubes(x):
    return jnp.sum(x**3, axis=1)


ESTIMATES = {
    "kl": gmmjax.kl_divergence,
    "js": gmmjax.js_divergence,
    "skew": functools.partial(gmmjax.skew_kl_divergence, alpha=0.3),
    "half": functools.partial(gmmjax.renyi_divergence, alpha=0.5),
    "chi2": gmmjax.chi2_divergence,
    "hellinger": gmmjax.squared_hellinger,
    "f": functools.partial(gmmjax.f_divergence, generator=lambda t: jnp.expm1(t) * jnp.tanh(t / 2)),
    "information": lambda key, p, _, **options: gmmjax.mutual_information(key, p, [0], **options),
    "expectation": lambda key, p, _, **options: gmmjax.expectation(key, cubes, p, **options),
}


@pytest.mark.parametrize("name", ESTIMATES)
def test_estimates_alone_are_those_inside_a_program(name, key):
    p, q = random_mixture(0, 2, 3), random_mixture(1, 3, 3)

    def estimate(p, q):
        return ESTIMATES[name](key, p, q, num_samples=512)

    def gradient(p, q):
        return jax.grad(estimate, (0, 1), has_aux=True)(p, q)

    for function in (estimate, gradient):
        for one, other in zip(
            jax.tree.leaves(function(p, q)), jax.tree.leaves(jax.jit(function)(p, q)), strict=True
        ):
            np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-11)
