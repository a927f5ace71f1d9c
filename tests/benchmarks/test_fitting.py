# ruff: noqa: T201
"""Variational inference with mixtures on targets that anyone can build.

Run with `python -m pytest -s -n 0 tests/benchmarks/test_fitting.py`; `-k arm` for one of them.
The ELBO is estimated on 65,536 fresh points; evaluations and processor seconds are those of a fit
after the first one, which compiles. Medians of five keys.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from measure import clocks, setting, spread

import gmmjax

KEYS = 5
GOALS = np.array([[7.0, 0.0], [-7.0, 0.0], [0.0, 7.0], [0.0, -7.0]])


def logistic_regression():
    """Coefficients of a logistic regression of 569 rows on 30 columns, under N(0, 100 I)."""
    from sklearn.datasets import load_breast_cancer

    columns, label = load_breast_cancer(return_X_y=True)
    design = np.column_stack([np.ones(len(label)), columns / columns.std(axis=0)])
    signed = jnp.asarray(design * np.where(label == 1, 1.0, -1.0)[:, None])

    def log_density(x):
        margin = jnp.matmul(x, signed.T.astype(x.dtype), precision="highest")
        return -jnp.sum(jnp.logaddexp(0, -margin), axis=1) + normal(x, 10.0)

    return log_density, np.full(31, 10.0), np.full(31, 10.0)


def normal(x, deviation):
    """Log-density of independent normals of mean zero."""
    deviation = jnp.broadcast_to(jnp.asarray(deviation, x.dtype), x.shape[1:])
    peak = jnp.sum(jnp.log(deviation)) + 0.5 * len(deviation) * jnp.log(2 * jnp.pi)
    return -0.5 * jnp.sum((x / deviation[None]) ** 2, axis=1) - peak.astype(x.dtype)


def mixture_of_normals():
    """Ten normals in 20 dimensions, far apart; log Z = 0."""
    rng = np.random.default_rng(0)
    factors = np.tril(rng.normal(size=(10, 20, 20))) / 4 + np.eye(20)
    means = rng.uniform(-50, 50, size=(10, 20))
    p = gmmjax.GMM(jnp.zeros(10), jnp.asarray(means), jnp.asarray(factors))
    return lambda x: gmmjax.log_prob(p, x), np.full(20, 31.6), np.full(20, 31.6)


def mixture_of_students():
    """Ten t distributions of two degrees of freedom in 20 dimensions; log Z = 0."""
    rng = np.random.default_rng(1)
    means = jnp.asarray(rng.uniform(-10, 10, size=(10, 20)))
    constant = jax.scipy.special.gammaln(11.0) - 10 * np.log(2 * np.pi)

    def log_density(x):
        squares = jnp.sum((x[:, None] - means[None].astype(x.dtype)) ** 2, axis=2)
        parts = constant - 11 * jnp.log1p(squares / 2)
        return (jax.nn.logsumexp(parts, axis=1) - np.log(10)).astype(x.dtype)

    return log_density, np.full(20, 10.0), np.full(20, 10.0)


def arm():
    """Angles of a planar arm of ten joints, whose tip is near one of four goals."""
    deviation = np.r_[1.0, np.full(9, 0.2)]

    def log_density(x):
        heading = jnp.cumsum(x, axis=1)
        tip = jnp.stack([jnp.sum(jnp.cos(heading), 1), jnp.sum(jnp.sin(heading), 1)], axis=1)
        squares = jnp.min(jnp.sum((tip[:, None] - GOALS[None].astype(x.dtype)) ** 2, 2), axis=1)
        hit = -0.5e4 * squares - np.log(2 * np.pi * 1e-4)
        return normal(x, deviation) + hit.astype(x.dtype)

    return log_density, deviation, deviation / 4


def start(target, count, seed):
    """Components of one size at means drawn about 0, or one broad component."""
    _, spread_of_means, deviation = target
    dim = len(deviation)
    means = spread_of_means * np.random.default_rng(seed).normal(size=(count, dim))
    scale = np.broadcast_to(np.diag(deviation), (count, dim, dim))
    if count == 1:
        means = 0 * means
    return gmmjax.GMM(*(jnp.asarray(leaf, jnp.float32) for leaf in (np.zeros(count), means, scale)))


CASES = {
    "regression-1": (logistic_regression, 1, {"num_steps": 80}),
    "regression-5": (logistic_regression, 5, {"num_steps": 95, "samples_per_component": 200}),
    "regression-64": (logistic_regression, 64, {"num_steps": 350, "samples_per_component": 150}),
    "normals": (mixture_of_normals, 1, {"num_steps": 100, "max_components": 32}),
    "students": (
        mixture_of_students,
        1,
        {"num_steps": 400, "samples_per_component": 90, "max_components": 72},
    ),
    "arm-10": (arm, 10, {"num_steps": 480, "samples_per_component": 60}),
    "arm-256": (arm, 256, {"num_steps": 110, "samples_per_component": 42}),
}


@pytest.mark.parametrize("name", CASES)
def test_fitting(name):
    """Print one row."""
    with jax.enable_x64(False):
        make, count, options = CASES[name]
        target = make()
        rows = [measure(target, count, seed, options) for seed in (0, *range(KEYS))][1:]
        elbo, evaluations, seconds, ess, khat = np.array(rows).T
        print(f"\n{setting('jax')}")
        print(
            f"{name:14s} ELBO {spread(elbo, '.3f')}  evaluations {np.median(evaluations):,.0f}  "
            f"seconds {np.median(seconds):.2f}  ESS {np.median(ess):.3f}  k {np.median(khat):.2f}",
            flush=True,
        )


def measure(target, count, seed, options):
    """ELBO, evaluations, processor seconds, ESS per draw and Pareto k of one fit."""
    key, init = jax.random.key(seed), start(target, count, seed)
    time, result = clocks(lambda: gmmjax.fit_to_density(key, target[0], init, **options))
    fresh = jax.random.key(1000 + seed)
    elbo = -gmmjax.kl_to_density(fresh, result.gmm, target[0], num_samples=65_536).value
    found = gmmjax.importance_diagnostics(fresh, result.gmm, target[0])
    return elbo, result.num_evaluations, time[1], found.ess / 16_384, found.khat
