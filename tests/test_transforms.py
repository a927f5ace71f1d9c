"""Every public function under jit, vmap, grad and both precisions, from one table."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import KINDS, NOT_IN_TABLE, TABLE, cast, random_mixture

import gmmjax

every = pytest.mark.parametrize("function", TABLE, ids=lambda f: f.name)


def scalar(result):
    """A sum over the value of an estimate, or over all leaves of anything else."""
    result = result.value if isinstance(result, gmmjax.Estimate) else result
    return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(result))


def close(a, b, tolerance=1e-11):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance), a, b)


def test_table_is_complete():
    public = {name for name in vars(gmmjax) if not name.startswith("_")} - {"metadata", "plot"}
    assert {f.name for f in TABLE} | NOT_IN_TABLE == public == set(gmmjax.__all__)


@every
def test_compiled_and_batched_is_a_loop_traced_once_and_zero_at_equality(function, key):
    traces = []

    def counted(key, p, q):
        traces.append(1)
        return function.call(key, p, q)

    over_pairs = jax.vmap(counted, in_axes=(None, 0, 0))
    grid = jax.jit(jax.vmap(over_pairs, in_axes=(0, None, None), axis_size=2))
    for seed in (0, 1):
        near, far = random_mixture(seed, 3, 2), random_mixture(seed + 9, 3, 2)
        ps, qs = (near, near), (near, far)
        keys = jax.random.split(jax.random.fold_in(key, seed), 2)
        table = grid(keys, *(jax.tree.map(lambda *leaves: np.stack(leaves), *side) for side in (ps, qs)))
        for i, j in np.ndindex(2, 2):
            close(jax.tree.map(lambda leaf, i=i, j=j: leaf[i, j], table), function.call(keys[i], ps[j], qs[j]))
        if function.zero_at_equality:
            value, stderr = table if isinstance(table, gmmjax.Estimate) else (table, np.zeros_like(table))
            assert (abs(value[:, 0]) <= 3 * stderr[:, 0] + 1e-14).all()
            assert (value[:, 1] > 0.01).all()  # and it can tell two mixtures apart
    assert len(traces) == 1


@every
def test_single_precision_stays_single(function, key):
    p, q = cast((random_mixture(0, 3, 2), random_mixture(1, 3, 2)), jnp.float32)
    leaves = jax.tree.leaves(jax.eval_shape(function.call, key, p, q))
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype(jnp.float32)}


def kinds(function):
    """Two types of covariance, others for the next function; all of them for KL. Dense twins are tested elsewhere."""
    pairs = [KINDS[:2], KINDS[2:4], KINDS[4:]]
    return pairs if function.name == "kl_divergence" else [pairs[TABLE.index(function) % 3]]


@pytest.mark.parametrize(
    ("function", "kinds"), [pytest.param(f, pair, id="-".join((f.name, *pair))) for f in TABLE for pair in kinds(f)]
)
def test_gradient_is_that_of_the_value_forward_and_reverse_in_every_covariance_type(function, kinds, key):
    pair = random_mixture(0, 3, 2, kind=kinds[0]), random_mixture(1, 2, 2, kind=kinds[1])
    direction = random_mixture(2, 3, 2, kind=kinds[0]), random_mixture(3, 2, 2, kind=kinds[1])

    def call(pair):
        result = function.of_one_key(key, *pair)
        return scalar(result), result

    @jax.jit
    def both(pair, direction):
        value, slope, result = jax.linearize(call, pair, has_aux=True)
        (gradient,) = jax.linear_transpose(slope, pair)(jnp.ones_like(value))
        return value, slope(direction), gradient, result

    value, forward, gradient, result = both(pair, direction)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    reverse = sum(np.vdot(g, d) for g, d in zip(*map(jax.tree.leaves, (gradient, direction)), strict=True))
    np.testing.assert_allclose(forward, reverse, rtol=1e-9, atol=1e-9)
    if not function.pathwise:
        direction = tuple(d._replace(logits=0 * d.logits) for d in direction)
        forward = both(pair, direction)[1]
    step = lambda h: both(jax.tree.map(lambda leaf, d: leaf + h * d, pair, direction), direction)[0]
    np.testing.assert_allclose(forward, (step(1e-5) - step(-1e-5)) / 2e-5, rtol=1e-6, atol=1e-9)
    assert {leaf.dtype for leaf in jax.tree.leaves((result, gradient))} == {jnp.dtype(jnp.float64)}


@pytest.mark.parametrize("function", [f for f in TABLE if f.sticks], ids=lambda f: f.name)
def test_what_sticking_the_landing_leaves_out_has_mean_zero(function, key):
    pair = random_mixture(0, 3, 2), random_mixture(1, 3, 2)

    def gap(key):
        default, whole = (jax.grad(lambda g: f(key, *g).value)(pair) for f in (function.call, function.of_one_key))  # noqa: B023
        return jax.tree.map(jnp.subtract, default, whole)

    gaps = jax.tree.leaves(jax.jit(lambda keys: jax.lax.map(gap, keys))(jax.random.split(key, 64)))
    for leaf in gaps:
        assert np.isfinite(leaf).all()
        assert (np.abs(leaf.mean(0)) <= 6 * leaf.std(0) / 8 + 1e-12).all()
    assert max(np.abs(leaf).max() for leaf in gaps) > 1e-6  # and something is left out


def test_a_second_call_compiles_nothing():
    inner = gmmjax._logs.estimate_logs
    inner.clear_cache()
    for seed in range(3):
        gmmjax.kl_divergence(jax.random.key(seed), random_mixture(seed, 3, 2), random_mixture(seed + 9, 2, 2))
    assert inner._cache_size() == 1
