"""Batches of estimates take the memory of a few, and give the numbers of each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gmmjax
from gmmjax._sampling import batching

X = jnp.asarray(np.random.default_rng(0).normal(size=(7, 3)))
Y = jnp.asarray(np.random.default_rng(1).normal(size=(3,)))


def plain(key, x, y):
    noise = jax.random.normal(key, x.shape)
    return jnp.sum(jnp.sin(x + noise) * y), jnp.cos(x)


def few_at_a_time():
    """The same, two elements at a time."""
    return batching.in_batches(plain, batching.largest_batch() // 2)


def close(a, b):
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


def test_elements_in_turns_are_those_of_a_batch(key):
    keys = jax.random.split(key, 7)
    for axes in ((0, 0, None), (None, 0, None), (0, None, None)):
        arguments = [
            a if axis is None else b
            for a, b, axis in zip((key, X[0], Y), (keys, X, Y), axes, strict=True)
        ]
        close(*(jax.vmap(f, axes)(*arguments) for f in (plain, few_at_a_time())))
    twice = [
        jax.vmap(jax.vmap(f, (None, 0, None)), (0, None, None))(keys, X, Y)
        for f in (plain, few_at_a_time())
    ]
    close(*twice)
    wrong = jax.vmap(plain, (0, 0, None))(keys[::-1], X, Y)
    with pytest.raises(AssertionError, match="Mismatched"):
        close(jax.vmap(few_at_a_time(), (0, 0, None))(keys, X, Y), wrong)


def test_all_derivatives_pass_through(key):
    def total(function):
        def of_batch(x, y):
            return jnp.sum(jax.vmap(lambda x: function(key, x, y)[0])(x) ** 2)

        return of_batch

    numbers = batching.largest_batch() // 2
    ours = batching.estimate_in_batches(lambda arguments: plain(*arguments), numbers)
    bounded = total(lambda *arguments: ours(arguments))
    for derivative in (
        jax.grad,
        jax.hessian,
        lambda f, argnums: jax.jacrev(jax.jacrev(f, argnums), argnums),
    ):
        close(*(derivative(f, argnums=(0, 1))(X, Y) for f in (total(plain), bounded)))
    each = [
        jax.vmap(jax.grad(lambda x, f=f: f(key, x, Y)[0]))(X)
        for f in (plain, lambda *arguments: ours(arguments))
    ]
    close(*each)


def against_a_prior(batch, full):
    """KL and its gradients, as losses of encoders are: single Gaussians against a large prior."""
    shape, scale = (200, 20), (20, 20) if full else (20,)
    one = jnp.broadcast_to(jnp.eye(20) if full else jnp.ones(20), (batch, 1, *scale))
    prior = gmmjax.GMM(jnp.zeros(200), jnp.zeros(shape), jnp.broadcast_to(one[0], (200, *scale)))
    encoded = gmmjax.GMM(jnp.zeros((batch, 1)), jnp.zeros((batch, 1, 20)), one)

    def loss(encoded, prior):
        kl = lambda key, p: gmmjax.kl_divergence(key, p, prior, num_samples=64).value
        return jnp.mean(jax.vmap(kl)(jax.random.split(jax.random.key(0), batch), encoded))

    arguments = jax.tree.map(lambda leaf: leaf.astype("float32"), (encoded, prior))
    compiled = jax.jit(jax.value_and_grad(loss, argnums=(0, 1))).lower(*arguments).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def test_memory_of_a_batch_is_that_of_a_few(monkeypatch):
    used = against_a_prior(64, full=True)
    assert used < 2**27
    monkeypatch.setattr(batching, "largest_batch", lambda: 1 << 40)
    gmmjax._estimates.log_ratios._estimate.clear_cache()
    assert against_a_prior(64, full=True) > 2 * used
    gmmjax._estimates.log_ratios._estimate.clear_cache()
