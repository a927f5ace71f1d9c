# ruff: noqa: T201
"""Points per second of a plain Monte-Carlo KL(p‖q): draw from p, average log p − log q; K = D = 10, full.

Every library does the same job on independent draws, compiled and warm, in turns in one process; libraries that
are not installed are skipped. Run with `python -m pytest -s tests/benchmarks/test_throughput.py`. Nothing is
asserted about time.
"""

import functools
import importlib

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


def numpyro_job(pair):
    """NumPyro, float32, all under one jit; the distributions are arguments, so that nothing is folded away."""
    dist = importlib.import_module("numpyro.distributions")

    def build(mixture):
        scale_tril = jnp.asarray(np.linalg.cholesky(mixture.covariances), jnp.float32)
        weights, means = (jnp.asarray(value, jnp.float32) for value in mixture[:2])
        components = dist.MultivariateNormal(means, scale_tril=scale_tril)
        return dist.MixtureSameFamily(dist.Categorical(probs=weights), components)

    @jax.jit
    def estimate(key, p, q):
        x = p.sample(key, (POINTS,))
        return jnp.mean(p.log_prob(x) - q.log_prob(x))

    p, q = build(pair.p), build(pair.q)
    return lambda seed: estimate(jax.random.key(seed), p, q)


def torch_job(pair, threads):
    """PyTorch, float32, without gradients, on so many threads (None: its choice)."""
    torch = importlib.import_module("torch")
    threads = threads or torch.get_num_threads()
    dist = torch.distributions

    def build(mixture):
        scale_tril = np.linalg.cholesky(mixture.covariances)
        weights, means, scale_tril = (torch.tensor(v, dtype=torch.float32) for v in (*mixture[:2], scale_tril))
        components = dist.MultivariateNormal(means, scale_tril=scale_tril)
        return dist.MixtureSameFamily(dist.Categorical(probs=weights), components)

    p, q = build(pair.p), build(pair.q)

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
        "sklearn f64 1 thread": functools.partial(sklearn_job, threads=1),
        "numpyro float32": numpyro_job,
        "torch float32": functools.partial(torch_job, threads=None),
        "torch f32 1 thread": functools.partial(torch_job, threads=1),
    }
    ready = {}
    for name, make in makers.items():
        try:
            ready[name] = make(pair)
        except ImportError as error:
            print(f"{name}: skipped ({error})")
            continue
        seconds(lambda name=name: ready[name](0))
    return ready


def report(rates):
    """Points per second, and the ratio to the fastest library that is not ours, turn by turn."""
    peers = [name for name in rates if not name.startswith("gmmjax")]
    best = max(peers, key=lambda name: np.median(rates[name]), default=None)
    print(f"{'':21s} million points/s     over the best peer ({best})")
    for name, rate in rates.items():
        ratio = spread(rate / rates[best]) if best else ""
        print(f"{name:21s} {spread(rate / 1e6):20s} {ratio}")


@jax.enable_x64(False)
@jax.numpy_rank_promotion("allow")  # NumPyro needs it
def test_throughput():
    """Print the table; all estimates agree with their mean within the error of independent draws."""
    pair = random_pair(1010, 10, 10, 10, 1.0)
    print(f"\n\nplain estimate of KL(p‖q), K = D = 10, {POINTS} independent draws, {REPETITIONS} repetitions")
    print(setting("jax", "sklearn", "numpyro", "torch"))
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
    plain = gmmjax.kl_divergence(jax.random.key(0), p, q, num_samples=POINTS, points=gmmjax.iid).stderr
    x = gmmjax.sample(jax.random.key(1), p, POINTS)
    iid_stderr = float(jnp.std(gmmjax.log_prob(p, x) - gmmjax.log_prob(q, x))) / POINTS**0.5
    print(f"KL {reference:.5f}; SE: draws {iid_stderr:.1e}, gmmjax.iid {plain:.1e}, default {stderr:.1e}")
    for name, estimates in values.items():
        error = np.sqrt(iid_stderr**2 / len(estimates) + float(stderr) ** 2)
        assert abs(estimates.mean() - float(reference)) < 6 * error, name
