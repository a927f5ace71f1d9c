# ruff: noqa: T201
"""Points per second of a plain Monte-Carlo KL(p‖q): draw from p, average log p − log q; K = D = 10,
full.

Every library does the same job on independent draws, compiled and warm, in turns in one process;
libraries that are not installed are skipped. Run with `python -m pytest -s
tests/benchmarks/test_throughput.py`. Nothing is asserted about time.
"""

import functools
import importlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from measure import as_gmm, as_sklearn, seconds, setting, spread
from pairs import random_pair
from threadpoolctl import threadpool_limits

import gmmjax

POINTS = 131_072  # 32·2¹², which gmmjax does not round
REPETITIONS = 7


def gmmjax_job(pair, dtype):
    """Gmmjax on independent points."""
    with jax.enable_x64(dtype == "float64"):
        p, q = as_gmm(pair.p), as_gmm(pair.q)

    def run(seed):
        with jax.enable_x64(dtype == "float64"):
            key = jax.random.key(seed)
            return gmmjax.kl_divergence(key, p, q, num_samples=POINTS, points=gmmjax.iid).value

    return run


def sklearn_job(pair, threads):
    """scikit-learn, float64, on so many BLAS threads (None: as many as it likes)."""
    importlib.import_module("sklearn.mixture")
    p, q = as_sklearn(pair.p), as_sklearn(pair.q)

    def run(seed):
        del seed  # its generator goes on by itself
        with threadpool_limits(threads):
            x, _ = p.sample(POINTS)
            return np.mean(p.score_samples(x) - q.score_samples(x))

    return run


def jax_job(pair, convert):
    """A JAX library, float32, all under one jit; the mixtures are arguments, so that nothing is
    folded away.
    """
    p, q = as_gmm(pair.p), as_gmm(pair.q)

    @jax.jit
    def estimate(key, p, q):
        p, q = convert(p), convert(q)
        x = p.sample(seed=key, sample_shape=(POINTS,))
        return jnp.mean(p.log_prob(x) - q.log_prob(x))

    return lambda seed: estimate(jax.random.key(seed), p, q)


def numpyro_job(pair):
    """NumPyro names its arguments otherwise."""

    class Renamed(NamedTuple):
        distribution: Any

        def sample(self, seed, sample_shape):
            return self.distribution.sample(seed, sample_shape)

        def log_prob(self, x):
            return self.distribution.log_prob(x)

    return jax_job(pair, lambda g: Renamed(gmmjax.interop.to_numpyro(g)))


def gmmx_job(pair):
    """gmmx, float32, its two methods compiled by itself."""
    p, q = (gmmjax.interop.to_gmmx(as_gmm(mixture)) for mixture in pair[:2])

    @jax.jit
    def estimate(key, p, q):
        x = p.sample(key, POINTS)
        return jnp.mean(p.score_samples(x) - q.score_samples(x))

    return lambda seed: estimate(jax.random.key(seed), p, q)


def gmm_divergence_job(pair, threads):
    """gmm-divergence, float64."""
    module = importlib.import_module("gmm_divergence")
    p, q = (module.GaussianMixture(*mixture) for mixture in pair[:2])

    def run(seed):
        draw = module.sampling.Draw(n_samples=POINTS, rng=np.random.default_rng(seed))
        with threadpool_limits(threads):
            return module.kl_divergence(
                p, q, estimator=module.divergence.MonteCarlo(sampling=draw)
            ).value

    return run


def torch_job(pair, threads):
    """PyTorch, float32, without gradients, on so many threads (None: its choice)."""
    torch = importlib.import_module("torch")
    threads = threads or torch.get_num_threads()
    p, q = (gmmjax.interop.to_torch(as_gmm(mixture)) for mixture in pair[:2])

    def run(seed):
        torch.set_num_threads(threads)
        torch.manual_seed(seed)
        with torch.no_grad():
            x = p.sample((POINTS,))
            return float(torch.mean(p.log_prob(x) - q.log_prob(x)))

    return run


def jobs(pair):
    """What is installed, warm."""
    makers = {
        "gmmjax float32": functools.partial(gmmjax_job, dtype="float32"),
        "gmmjax float64": functools.partial(gmmjax_job, dtype="float64"),
        "scikit-learn float64": functools.partial(sklearn_job, threads=None),
        "scikit-learn, 1 thread": functools.partial(sklearn_job, threads=1),
        "gmm-divergence float64": functools.partial(gmm_divergence_job, threads=None),
        "gmm-divergence, 1 thread": functools.partial(gmm_divergence_job, threads=1),
        "numpyro float32": numpyro_job,
        "distrax float32": functools.partial(jax_job, convert=gmmjax.interop.to_distrax),
        "TFP on JAX float32": functools.partial(jax_job, convert=gmmjax.interop.to_tfp),
        "gmmx float32": gmmx_job,
        "torch float32": functools.partial(torch_job, threads=None),
        "torch, 1 thread": functools.partial(torch_job, threads=1),
    }
    ready = {}
    for name, make in makers.items():
        try:
            job = make(pair)
            seconds(lambda job=job: job(0))
        except ImportError as error:
            print(f"{name}: skipped ({error})")
            continue
        ready[name] = job
    return ready


def report(rates):
    """Points per second, and the ratio to the fastest library that is not ours, turn by turn."""
    peers = [name for name in rates if not name.startswith("gmmjax")]
    best = max(peers, key=lambda name: np.median(rates[name]), default=None)
    print(f"{'':25s} million points/s     over the best peer ({best})")
    for name, rate in rates.items():
        ratio = spread(rate / rates[best]) if best else ""
        print(f"{name:25s} {spread(rate / 1e6):20s} {ratio}")


@jax.enable_x64(False)
@jax.numpy_rank_promotion("allow")  # NumPyro needs it
def test_throughput():
    """Print the table; all estimates agree with their mean within the error of independent
    draws.
    """
    pair = random_pair(1010, 10, 10, 10, 1.0)
    print(
        f"\n\nplain estimate of KL(p‖q), K = D = 10, {POINTS} independent draws, {REPETITIONS} "
        "repetitions"
    )
    print(
        setting(
            "jax",
            "scikit-learn",
            "gmm-divergence",
            "numpyro",
            "distrax",
            "tfp-nightly",
            "gmmx",
            "torch",
        )
    )
    ready = jobs(pair)
    runs = {name: [] for name in ready}
    for seed in range(1, REPETITIONS + 1):
        for name, job in ready.items():
            runs[name].append(seconds(lambda job=job, seed=seed: job(seed)))
    report({name: POINTS / np.array([t for t, _ in pairs]) for name, pairs in runs.items()})
    values = {name: np.array([float(value) for _, value in pairs]) for name, pairs in runs.items()}
    check(pair, values)


def check(pair, values):
    """Every library's mean is where that of gmmjax with its default points is."""
    p, q = as_gmm(pair.p), as_gmm(pair.q)
    reference, stderr = gmmjax.kl_divergence(jax.random.key(0), p, q, num_samples=POINTS)
    plain = gmmjax.kl_divergence(
        jax.random.key(0), p, q, num_samples=POINTS, points=gmmjax.iid
    ).stderr
    x = gmmjax.sample(jax.random.key(1), p, POINTS)
    iid_stderr = float(jnp.std(gmmjax.log_prob(p, x) - gmmjax.log_prob(q, x))) / POINTS**0.5
    print(
        f"KL {reference:.5f}; SE: draws {iid_stderr:.1e}, gmmjax.iid {plain:.1e}, default "
        f"{stderr:.1e}"
    )
    for name, estimates in values.items():
        error = np.sqrt(iid_stderr**2 / len(estimates) + float(stderr) ** 2)
        assert abs(estimates.mean() - float(reference)) < 6 * error, name
