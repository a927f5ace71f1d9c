# ruff: noqa: T201
"""KL against what it cannot do without: whitening every point, an exponential per component, normal
numbers.

All are compiled, float32, and run in turns in one process. Run with
`python -m pytest -n 0 -s tests/benchmarks/test_limit.py`. Nothing is asserted about time.
"""

import jax
import jax.numpy as jnp
import numpy as np
from measure import as_gmm, seconds, setting, spread
from pairs import random_pair

import gmmjax

POINTS = 131_072
BLOCK = 4096
REPETITIONS = 9


@jax.jit
def whiten(factors, x):
    """One product `(2 K D, D) @ (D, n)` and its squares, a block of points at a time so that it
    stays in cache.
    """
    squares = lambda total, x: (total + jnp.sum(jnp.matmul(factors, x) ** 2, axis=0), None)
    return jax.lax.scan(squares, jnp.zeros(BLOCK), x)[0]


@jax.jit
def exponentials(tables):
    """One of each of 2 K numbers per point."""
    return jax.lax.scan(
        lambda total, table: (total + jnp.sum(jnp.exp(table), axis=0), None),
        jnp.zeros(BLOCK),
        tables,
    )


@jax.jit
def normals(key):
    """D numbers per point, from JAX's generator."""
    keys = jax.random.split(key, POINTS // BLOCK)
    return jax.lax.map(lambda key: jax.random.normal(key, (10, BLOCK)), keys)


@jax.enable_x64(False)
def test_limit():
    """Print milliseconds of each part, of their sum, and of KL by both kinds of points."""
    pair = random_pair(1010, 10, 10, 10, 1.0)
    p, q = as_gmm(pair.p), as_gmm(pair.q)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(POINTS // BLOCK, 10, BLOCK)), jnp.float32)
    tables = jnp.asarray(rng.normal(size=(POINTS // BLOCK, 20, BLOCK)), jnp.float32)
    factors = jnp.concatenate([g.scale.reshape(100, 10) for g in (p, q)])
    parts = {
        "product": lambda _: whiten(factors, x),
        "exp": lambda _: exponentials(tables),
        "normals": lambda seed: normals(jax.random.key(seed)),
    }
    kl = lambda points: (
        lambda seed: gmmjax.kl_divergence(  # noqa: E731
            jax.random.key(seed), p, q, num_samples=POINTS, points=points
        )
    )
    jobs = parts | {"KL": kl(gmmjax.sobol), "KL, iid": kl(gmmjax.iid)}
    times = {name: [] for name in jobs}
    for seed in range(REPETITIONS + 1):
        for name, job in jobs.items():
            times[name].append(1e3 * seconds(lambda job=job, seed=seed: job(seed))[0])
    times = {name: np.array(values[1:]) for name, values in times.items()}  # the first compiles
    total = sum(times[name] for name in parts)
    print(f"\n\nK = D = 10, {POINTS} points, float32; {setting('jax')}")
    for name, values in (times | {"sum of parts": total}).items():
        print(f"{name:13s} {spread(values)} ms")
    for name in ("KL", "KL, iid"):
        print(f"{name} over the sum of the parts: {spread(times[name] / total)}")
