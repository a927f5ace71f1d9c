"""Estimates on a GPU: the numbers of the processor, and how long they take there.

`tests/benchmarks/gpu.sh` runs it. float32, compiled and warm, median of ten calls; each value is
compared with that of the processor for the same key, in units of the stated error.
"""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np

import gmmjax

NUM_CALLS = 10


def mixture(seed, num_components, dim, spread=1.0):
    """A random mixture with full covariances."""
    rng = np.random.default_rng(seed)
    factors = np.eye(dim) + 0.1 * rng.normal(size=(num_components, dim, dim))
    means = spread * rng.normal(size=(num_components, dim))
    logits = np.log(rng.dirichlet(np.full(num_components, 2.0)))
    return gmmjax.GMM(*(jnp.asarray(leaf, jnp.float32) for leaf in (logits, means, factors)))


def clock(call):
    """Seconds of the first call, and the median of the next."""
    seconds = []
    for seed in range(NUM_CALLS + 1):
        key = jax.random.key(seed)
        start = time.perf_counter()
        jax.block_until_ready(call(key))
        seconds.append(time.perf_counter() - start)
    return seconds[0], float(np.median(seconds[1:]))


def kl(num_samples, p, q, key):
    return gmmjax.kl_divergence(key, p, q, num_samples=num_samples)


def js(p, q, key):
    return gmmjax.js_divergence(key, p, q)


@jax.jit
def gradient(p, q, key):
    """KL, and its error plus 0 times the gradient, so that nothing is left out."""
    value_and_grad = jax.value_and_grad(gmmjax.kl_divergence, argnums=2, has_aux=True)
    (value, stderr), slopes = value_and_grad(key, p, q)
    return gmmjax.Estimate(value, stderr + 0 * sum(map(jnp.sum, slopes)))


def matrix(models, key):
    found = gmmjax.pairwise(gmmjax.kl_divergence, key, models, num_samples=4096)
    return gmmjax.Estimate(found.value[0, 1], found.stderr[0, 1])


def calls():
    """What is measured, by name."""
    p, q = mixture(0, 10, 10), mixture(1, 8, 10)
    large = mixture(2, 1000, 3, 10.0), mixture(3, 1000, 3, 10.0)
    models = gmmjax.stack([mixture(seed, 10, 10) for seed in range(64)])
    return {
        "KL, K = 10 and 8, D = 10, 16,384 points": functools.partial(kl, 16_384, p, q),
        "the same, 2²² points": functools.partial(kl, 1 << 22, p, q),
        "its value and gradient in q, 16,384 points": functools.partial(gradient, p, q),
        "JS, 16,384 points": functools.partial(js, p, q),
        "KL, K = 1,000, D = 3, 16,384 points": functools.partial(kl, 16_384, *large),
        "KL matrix of 64 models, 4,096 points": functools.partial(matrix, models),
    }


def on_processor(name):
    """The same call on the processor, for the first key."""
    with jax.default_device(jax.devices("cpu")[0]):
        found = calls()[name](jax.random.key(0))
    return float(found.value), float(found.stderr)


def main():
    """Print the table."""
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}")
    print("| call | first, s | then, ms | from the processor, standard errors |\n|---|---|---|---|")
    for name, call in calls().items():
        first, warm = clock(call)
        value, stderr = on_processor(name)
        gap = abs(float(call(jax.random.key(0)).value) - value) / stderr
        print(f"| {name} | {first:.1f} | {1e3 * warm:.2f} | {gap:.2g} |", flush=True)


if __name__ == "__main__":
    main()
