"""Estimates of many components: what is linear stands for tables of pairs, to the same numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import cast, random_mixture

import gmmjax
from gmmjax._matrices import tiles
from gmmjax._pairs import components
from gmmjax._sampling import allocation

P, Q = random_mixture(0, 3, 2), random_mixture(1, 2, 2)
Q = Q._replace(scale=Q.scale.at[1].multiply(1e-4))  # a mode that no point meets


def forget():
    for module in (
        gmmjax._estimates.log_ratios._estimate,
        gmmjax._estimates.expectation._estimate,
    ):
        module.clear_cache()


@pytest.fixture
def as_if_many(monkeypatch):
    """Every mixture counts as one of many components."""
    forget()
    monkeypatch.setattr(components, "MAX_PAIRS", 0)
    monkeypatch.setattr(allocation, "FEW", 0)
    monkeypatch.setattr(tiles, "largest_table", lambda: 0)
    yield
    forget()


kl = functools.partial(gmmjax.kl_divergence, num_samples=512)


def value_and_gradients(key):
    return jax.value_and_grad(
        functools.partial(kl, control_variate=False), argnums=(1, 2), has_aux=True
    )(key, P, Q)


def test_many_components_are_estimated_as_few_without_a_control(key, request, monkeypatch):
    few, controlled = value_and_gradients(key), kl(key, P, Q)
    request.getfixturevalue("as_if_many")
    many = value_and_gradients(key)
    for a, b in zip(jax.tree.leaves(many), jax.tree.leaves(few), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)
    # The twin: tables, had they been made after all, would have changed the value by the control.
    np.testing.assert_allclose(kl(key, P, Q), few[0], rtol=1e-9)
    assert abs(few[0][0] - controlled.value) > 1e-6
    monkeypatch.setattr(gmmjax._sampling.spikes, "MIN_HITS", 0)
    forget()
    assert kl(key, P, Q).stderr < few[0][1]  # what hides is in the error


def square(x):
    return x[:, 0] ** 2


def test_any_expectation_is_that_of_few(key, request):
    few = gmmjax.expectation(key, square, P, num_samples=512)
    request.getfixturevalue("as_if_many")
    many = gmmjax.expectation(key, square, P, num_samples=512)
    np.testing.assert_allclose(many, few, rtol=1e-9)
    other = gmmjax.expectation(jax.random.key(1), square, P, num_samples=512)
    assert abs(other.value - few.value) > 1e-9 * few.value


def test_allocation_of_many_is_that_of_few(monkeypatch):
    g = random_mixture(2, 40, 2)
    g = g._replace(logits=g.logits.at[jnp.array([0, 7])].set(-jnp.inf))
    positions = (jnp.arange(512.0) + 0.5) / 512
    for num_points in (64, 512):  # with and without whole powers of two
        few = allocation.allocate(g, num_points)
        table = allocation.choose(few, positions)
        with monkeypatch.context() as patch:
            patch.setattr(allocation, "FEW", 0)
            many = allocation.allocate(g, num_points)
            index = allocation.choose(many, positions)
        np.testing.assert_array_equal(many.share, few.share)
        np.testing.assert_array_equal(index, jnp.argmax(table, axis=0))
        assert len(set(np.asarray(index))) > 30


@pytest.mark.parametrize("gradient", [False, True])
def test_memory_with_many_components_is_that_of_tiles(gradient, key):
    p, q = (cast(random_mixture(seed, 4096, 3), "float32") for seed in (0, 1))
    call = lambda p, q: gmmjax.kl_divergence(key, p, q, num_samples=1024).value
    call = jax.value_and_grad(call, argnums=(0, 1)) if gradient else call
    used = jax.jit(call).lower(p, q).compile().memory_analysis().temp_size_in_bytes
    # One table of all pairs and coordinates would take 192 MiB.
    assert used < 2**26
