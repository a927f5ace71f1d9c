"""Every public function under jit, vmap, grad and both precisions, from one table."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import KINDS, NOT_IN_TABLE, TABLE, cast, random_mixture

import gmmjax

# One function after the other, so that its tests share what is compiled.
every = pytest.mark.parametrize("function", TABLE, ids=lambda f: f.name, scope="module")


def scalar(result):
    """A sum over the value of an estimate, or over all leaves of anything else."""
    result = result.value if isinstance(result, gmmjax.Estimate) else result
    return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(result))


def close(a, b, tolerance=1e-11):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance), a, b)


def test_table_is_complete():
    public = {name for name in vars(gmmjax) if not name.startswith("_")} - {"metadata", "plot"}
    assert {f.name for f in TABLE} | NOT_IN_TABLE == public == set(gmmjax.__all__)


@functools.cache
def compiled(function):
    """The function under `jit`, and how often it was traced."""
    traces = []

    def counted(key, p, q):
        traces.append(1)
        return function.call(key, p, q)

    return jax.jit(counted), traces


@every
def test_jit_traces_once(function, key):
    call, traces = compiled(function)
    for seed in range(3):
        key, p, q = jax.random.key(seed), random_mixture(seed, 3, 2), random_mixture(seed + 9, 2, 2)
        result = call(key, p, q)
    assert len(traces) == 1
    close(result, function.call(key, p, q))


@every
def test_vmap_is_a_loop(function, key):
    ps = [random_mixture(s, 3, 2) for s in range(3)]
    qs = [random_mixture(s, 2, 2) for s in range(3, 6)]
    keys = jax.random.split(key, 2)
    over_pairs = jax.vmap(function.call, in_axes=(None, 0, 0))
    grid = jax.vmap(over_pairs, in_axes=(0, None, None), axis_size=2)
    table = jax.jit(grid)(keys, gmmjax.stack(ps), gmmjax.stack(qs))
    for i, j in np.ndindex(2, 3):
        close(jax.tree.map(lambda leaf, i=i, j=j: leaf[i, j], table), compiled(function)[0](keys[i], ps[j], qs[j]))


@every
def test_single_precision_stays_single(function, key):
    p, q = cast((random_mixture(0, 3, 2), random_mixture(1, 2, 2)), jnp.float32)

    def value(p):
        result = function.call(key, p, q)
        return scalar(result), result

    leaves = jax.tree.leaves(jax.eval_shape(jax.value_and_grad(value, has_aux=True), p))
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype(jnp.float32)}


def kinds(function):
    """Two types of covariance, others for the next function; all of them for one function of each engine."""
    pairs = [KINDS[:2], KINDS[2:4], KINDS[4:]]
    thorough = function.name in {"log_prob", "kl_divergence", "renyi_divergence", "ise", "kl_bounds", "mw2_squared"}
    return pairs if thorough else [pairs[TABLE.index(function) % 3]]


def with_kinds(functions, kinds):
    cases = [(function, pair) for function in functions for pair in kinds(function)]
    ids = [f"{function.name}-{'-'.join(pair)}" for function, pair in cases]
    return pytest.mark.parametrize(("function", "kinds"), cases, ids=ids)


@with_kinds(TABLE, kinds)
def test_gradient_is_finite_in_every_covariance_type_and_forward_mode_is_reverse_mode(function, kinds, key):
    pair = random_mixture(0, 3, 2, kind=kinds[0]), random_mixture(1, 2, 2, kind=kinds[1])
    direction = random_mixture(2, 3, 2, kind=kinds[0]), random_mixture(3, 2, 2, kind=kinds[1])

    def call(p, q):
        result = function.call(key, p, q)
        return scalar(result), result

    @jax.jit
    def both(pair, direction):
        (value, result), gradient = jax.value_and_grad(call, argnums=(0, 1), has_aux=True)(*pair)
        return value, result, gradient, jax.jvp(lambda p, q: call(p, q)[0], pair, direction)[1]

    value, result, gradient, forward = both(pair, direction)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    reverse = sum(np.vdot(g, d) for g, d in zip(*map(jax.tree.leaves, (gradient, direction)), strict=True))
    np.testing.assert_allclose(forward, reverse, rtol=1e-9, atol=1e-9)
    assert {leaf.dtype for leaf in jax.tree.leaves((result, gradient))} == {jnp.dtype(jnp.float64)}


def test_a_second_call_compiles_nothing():
    inner = gmmjax._logs.estimate_logs
    inner.clear_cache()
    for seed in range(3):
        gmmjax.kl_divergence(jax.random.key(seed), random_mixture(seed, 3, 2), random_mixture(seed + 9, 2, 2))
    assert inner._cache_size() == 1


@with_kinds([f for f in TABLE if f.zero_at_equality], lambda function: kinds(function)[:1])
def test_zero_at_equality(function, kinds, key):
    p, far = random_mixture(0, 3, 2, kind=kinds[0]), random_mixture(1, 3, 2, kind=kinds[0])
    value, stderr = with_error(function.call(key, p, p))
    assert abs(value) <= 3 * stderr + 1e-14
    assert with_error(function.call(key, p, far))[0] > 0.01  # and it can tell two mixtures apart


def with_error(result):
    """The value of anything, and its standard error: 0 if it is deterministic."""
    return result if isinstance(result, gmmjax.Estimate) else (result, 0.0)
