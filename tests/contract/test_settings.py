"""Settings that users have: strict types, NaN checks, leak checks, guards, other keys, no `jit`."""

import functools
import gc
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import TABLE, cast, random_mixture

import gmmjax

KL = gmmjax.kl_divergence


def quadratic(x):
    return -0.5 * jnp.sum(x**2, axis=1)


def loss(key, q, p):
    return KL(key, p, q, num_samples=64)


OTHERS = {
    "affine": lambda key, p, q: gmmjax.affine(p, [1, 2], 1),
    "mix": lambda key, p, q: gmmjax.mix([p, q], [1, 2]),
    "estimate_to": lambda key, p, q: gmmjax.estimate_to(KL, key, p, q, rtol=0.1),
    "gradient": lambda key, p, q: gmmjax.gradient(KL, key, p, q, num_samples=64),
    "fit": lambda key, p, q: gmmjax.fit(key, loss, q, args=(p,), num_steps=3),
    "adam": lambda key, p, q: gmmjax.fit(
        key, loss, q, args=(p,), num_steps=3, optimizer=optax.adam(0.01)
    ),
    "fit_to_density": lambda key, p, q: gmmjax.fit_to_density(key, quadratic, p, num_steps=3),
    "importance_diagnostics": lambda key, p, q: gmmjax.importance_diagnostics(key, p, quadratic),
}


def test_tracing_mixes_no_types_and_leaves_nothing(key):
    """Tracers end with the function that made them, and single precision stays single.

    In double precision all functions are traced as strictly where they are differentiated.
    """
    kept = []
    p, q = cast((random_mixture(0, 3, 2), random_mixture(1, 3, 2)), jnp.float32)
    jax.clear_caches()
    with jax.numpy_dtype_promotion("strict"), jax.checking_leaks():
        for f in TABLE:
            found = jax.tree.leaves(jax.eval_shape(f.call, key, p, q))
            assert {leaf.dtype for leaf in found} == {jnp.dtype(jnp.float32)}, f.name
        for call in OTHERS.values():
            jax.eval_shape(call, key, p, q)
        with pytest.raises(Exception, match="implicit dtype promotion"):
            jnp.ones(2, jnp.int32) + jnp.ones(2)
        gc.freeze()  # JAX asks all objects who holds the tracer: now only new ones
        with pytest.raises(Exception, match="Leaked"):
            jax.eval_shape(lambda x: kept.append(x + 1), 1.0)
        gc.unfreeze()


# One of each kind: the rest of the table is made of these.
SOME = (
    "log_prob",
    "sample",
    "kl_divergence",
    "js_divergence",
    "renyi_divergence",
    "kl_bounds",
    "ise",
    "mw2_squared",
    "kl_quadrature",
    "fit",
)
some = pytest.mark.parametrize(
    "function", [f for f in TABLE if f.name in SOME], ids=lambda f: f.name
)


@pytest.fixture(scope="module")
def pair():
    """With an absent component: there is something to guard."""
    p, q = random_mixture(0, 3, 2), random_mixture(1, 3, 2)
    return p, q._replace(logits=q.logits.at[2].set(-jnp.inf))


@functools.cache
def usual(function):
    """Its value without any setting; the pair is always the same."""
    p, q = random_mixture(0, 3, 2), random_mixture(1, 3, 2)
    q = q._replace(logits=q.logits.at[2].set(-jnp.inf))
    return jax.device_get(jax.jit(function.call)(jax.random.key(0), p, q))


def assert_close(found, expected):
    def close(a, b):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)

    jax.tree.map(close, jax.device_get(found), expected)


@some
def test_nan_checks_find_nothing(function, pair, key):
    """Infinite are but the logits of absent components."""
    with jax.debug_nans(True):
        assert_close(jax.jit(function.call)(key, *pair), usual(function))
        with pytest.raises(FloatingPointError):
            jnp.log(jnp.float64(-1.0))


@some
def test_infinity_checks_find_nothing(function, key):
    """Where all components are present nothing is infinite by design."""
    pair = random_mixture(0, 3, 2), random_mixture(1, 3, 2)
    with jax.debug_infs(True):
        found = jax.jit(function.call)(key, *pair)
        with pytest.raises(FloatingPointError):
            jnp.exp(jnp.float64(1e3))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


@some
def test_no_hidden_transfers(function, pair, key):
    """A compiled call moves nothing between host and device."""
    compiled = jax.jit(function.call)
    key, pair = jax.device_put((key, pair))
    compiled(key, *pair)
    with jax.transfer_guard("disallow"):
        found = compiled(key, *pair)
        with pytest.raises(Exception, match="Disallowed"):
            jnp.ones(2) + np.ones(2)
    assert_close(found, usual(function))


@some
def test_other_keys(function, pair):
    """Those of `rbg`, the usual choice on TPUs, give another estimate of the same number."""
    found = jax.jit(function.call)(jax.random.key(0, impl="rbg"), *pair)
    expected = usual(function)
    if not isinstance(found, gmmjax.Estimate):
        assert all(np.isfinite(leaf).any() for leaf in jax.tree.leaves(found))
        return
    assert found.value != expected.value
    assert abs(found.value - expected.value) < 6 * np.hypot(found.stderr, expected.stderr)


@pytest.mark.parametrize("name", ["log_prob", "ise", "mw2_squared", "sample"])
def test_without_jit(name, pair, key):
    """To step through with a debugger."""
    (function,) = [f for f in TABLE if f.name == name]
    with jax.disable_jit():
        assert_close(function.call(key, *pair), usual(function))


@pytest.mark.parametrize("name", ["kl_divergence", "js_divergence", "kl_bounds"])
def test_the_compiler_of_users(name, pair, key):
    """These tests compile with less than users do."""
    (function,) = [f for f in TABLE if f.name == name]
    options = {
        "xla_backend_optimization_level": 3,
        "xla_llvm_disable_expensive_passes": False,
        "xla_cpu_use_fusion_emitters": True,
    }

    def with_gradient(pair):
        def first(pair):
            result = function.call(key, *pair)
            return jax.tree.leaves(result)[0], result

        return jax.value_and_grad(first, has_aux=True)(pair)

    (_, expected), gradient = jax.device_get(jax.jit(with_gradient)(pair))
    found = jax.jit(with_gradient, compiler_options=options)(pair)
    assert_close(found, ((jax.tree.leaves(expected)[0], expected), gradient))


READ = """
import sys, jax, numpy as np
jax.config.update("jax_enable_x64", True)
program = jax.export.deserialize(open(sys.argv[1], "rb").read())
given = np.load(sys.argv[2])
arguments = [given[f"arr_{i}"] for i in range(len(given.files))]
assert "gmmjax" not in sys.modules
found = program.call(jax.random.key_data(jax.random.key(0)), *arguments)
np.savez(sys.argv[3], *jax.tree.leaves(found))
"""


def test_an_exported_program_gives_the_same_in_another_process(pair, key, tmp_path):
    """KL and its gradient, without this package."""
    paths = [str(tmp_path / name) for name in ("program", "given.npz", "found.npz")]
    leaves, tree = jax.tree.flatten(pair)

    def kl(key, *leaves):
        p, q = jax.tree.unflatten(tree, leaves)
        return KL(jax.random.wrap_key_data(key), p, q, num_samples=256)

    places = tuple(range(1, 1 + len(leaves)))
    program = jax.jit(jax.value_and_grad(kl, argnums=places, has_aux=True))
    key = jax.random.key_data(key)
    Path(paths[0]).write_bytes(jax.export.export(program)(key, *leaves).serialize())
    np.savez(paths[1], *leaves)
    subprocess.run([sys.executable, "-c", READ, *paths], check=True, timeout=120)
    with np.load(paths[2]) as found:
        assert_close(list(found.values()), jax.device_get(jax.tree.leaves(program(key, *leaves))))
