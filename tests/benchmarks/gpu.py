"""Estimates on a GPU: the numbers of the processor, and how long they take there.

`tests/benchmarks/gpu.sh` runs it, first as `gpu.py functions 0 8` and so on: every eighth of the
table of public functions, compared with the processor, in processes of their own, for nearly all of
it is compilation. Then alone: float32, compiled and warm, median of ten calls; each value is
compared with that of the processor for the same key, in units of the stated error. Last come other
libraries on the same card, where they are installed.
"""

import functools
import importlib.util
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

import gmmjax

NUM_CALLS = 10
LIMIT = 200  # seconds from the start, after which no further function is tried
DRAWS = 100_000  # of other libraries


def mixture(seed, num_components, dim, spread=1.0):
    """A random mixture with full covariances."""
    rng = np.random.default_rng(seed)
    factors = np.tril(np.eye(dim) + 0.1 * rng.normal(size=(num_components, dim, dim)))
    means = spread * rng.normal(size=(num_components, dim))
    logits = np.log(rng.dirichlet(np.full(num_components, 2.0)))
    return gmmjax.GMM(*(jnp.asarray(leaf, jnp.float32) for leaf in (logits, means, factors)))


def clock(call, num_calls=NUM_CALLS):
    """Seconds of the first call, and the median of the next."""
    seconds = []
    for seed in range(num_calls + 1):
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


def kl_of_fit(key, q, p):
    return gmmjax.kl_divergence(key, p, q)


def fit(p, q, key):
    return gmmjax.fit(key, kl_of_fit, q, args=(p,)).loss


def reduction(p, key):
    return gmmjax.reduce_mixture(key, p, 10).loss


def calls():
    """What is measured, by name."""
    p, q = mixture(0, 10, 10), mixture(1, 8, 10)
    large = mixture(2, 1000, 3, 10.0), mixture(3, 1000, 3, 10.0)
    huge = mixture(4, 100_000, 3, 50.0), mixture(5, 100_000, 3, 50.0)
    models = gmmjax.stack([mixture(seed, 10, 10) for seed in range(64)])
    return {
        "KL, K = 10 and 8, D = 10, 16,384 points": functools.partial(kl, 16_384, p, q),
        "the same, 2²² points": functools.partial(kl, 1 << 22, p, q),
        "its value and gradient in q, 16,384 points": functools.partial(gradient, p, q),
        "JS, 16,384 points": functools.partial(js, p, q),
        "KL, K = 1,000, D = 3, 16,384 points": functools.partial(kl, 16_384, *large),
        "KL, K = 100,000, D = 3, 16,384 points": functools.partial(kl, 16_384, *huge),
        "KL matrix of 64 models, 4,096 points": functools.partial(matrix, models),
    }


def on_processor(name):
    """The same call on the processor, for the first key."""
    with jax.default_device(jax.devices("cpu")[0]):
        found = calls()[name](jax.random.key(0))
    return float(found.value), float(found.stderr)


def measure_calls():
    """Print the table of this library."""
    print("| call | first, s | then, ms | from the processor, standard errors |\n|---|---|---|---|")
    for name, call in calls().items():
        first, warm = clock(call)
        value, stderr = on_processor(name)
        gap = abs(float(call(jax.random.key(0)).value) - value) / stderr
        print(f"| {name} | {first:.1f} | {1e3 * warm:.2f} | {gap:.2g} |", flush=True)
    p, q = mixture(0, 10, 10), mixture(1, 8, 10)
    searches = {
        "`fit`, K = 10 to 8, D = 10": functools.partial(fit, p, q),
        "`reduce_mixture`, K = 100 to 10, D = 3": functools.partial(
            reduction, mixture(6, 100, 3, 3.0)
        ),
    }
    for name, call in searches.items():
        first, warm = clock(call, num_calls=1)
        print(f"| {name} | {first:.1f} | {1e3 * warm:.0f} | |", flush=True)


def with_torch(p, q):
    """KL by plain draws with torch's distributions on the card."""
    import torch

    def model(g):
        logits, means, factors = (torch.tensor(np.array(leaf), device="cuda") for leaf in g)
        parts = torch.distributions.MultivariateNormal(means, scale_tril=torch.tril(factors))
        weights = torch.distributions.Categorical(logits=logits)
        return torch.distributions.MixtureSameFamily(weights, parts, validate_args=False)

    p, q = model(p), model(q)

    def call(_):
        x = p.sample((DRAWS,))
        return float((p.log_prob(x) - q.log_prob(x)).mean())

    return call


def with_sklearn(p, q):
    """The same with scikit-learn's mixture, on arrays of torch on the card."""
    import torch
    from sklearn import config_context
    from sklearn.mixture import GaussianMixture

    def model(g):
        covariances = np.array(gmmjax.covariances(g), np.float32)
        found = GaussianMixture(g.num_components)
        parts = np.array(gmmjax.weights(g)), np.array(g.means), covariances
        found.weights_, found.means_, found.covariances_ = (
            torch.tensor(part, device="cuda") for part in parts
        )
        inverse = np.linalg.inv(np.linalg.cholesky(covariances)).swapaxes(1, 2)
        found.precisions_cholesky_ = torch.tensor(np.ascontiguousarray(inverse), device="cuda")
        return found

    first, second = model(p), model(q)

    def call(key):
        # It draws on the processor; the draws are given to it, and cost it nothing.
        x = torch.tensor(np.array(gmmjax.sample(key, p, DRAWS)), device="cuda")
        with config_context(array_api_dispatch=True):
            gaps = first.score_samples(x) - second.score_samples(x)
        return float(gaps.mean())

    return call


def measure_others():
    """Print KL with plain draws by other libraries, where they are installed."""
    p, q = mixture(0, 10, 10), mixture(1, 8, 10)
    print(
        f"\n| KL with {DRAWS:,} draws, K = 10 and 8, D = 10 | first, s | then, ms |\n|---|---|---|"
    )
    for name, module, make in (
        ("torch.distributions", "torch", with_torch),
        ("scikit-learn's GaussianMixture, array API", "sklearn", with_sklearn),
    ):
        if importlib.util.find_spec(module) is None or importlib.util.find_spec("torch") is None:
            print(f"| {name} | not installed | |")
            continue
        try:
            first, warm = clock(make(p, q))
            print(f"| {name} | {first:.1f} | {1e3 * warm:.2f} |", flush=True)
        except Exception as error:  # a library that does not run on this card is a result too
            print(f"| {name} | {type(error).__name__}: {str(error)[:80]} | |", flush=True)


def check_functions(which, of):
    """Compare every `of`-th function of the table with the processor, until time is up."""
    from cases import TABLE

    start = time.perf_counter()
    p, q = mixture(0, 3, 2), mixture(1, 2, 2)
    for function in TABLE[which::of]:
        if time.perf_counter() - start > LIMIT:
            print(f"{function.name}: not reached", flush=True)
            continue
        print(f"{function.name}: {compared(function, p, q)}", flush=True)


def compared(function, p, q):
    """What the largest difference from the processor is, relative where numbers are above 1."""
    try:
        here = jax.tree.leaves(function.call(jax.random.key(0), p, q))
        with jax.default_device(jax.devices("cpu")[0]):
            there = jax.tree.leaves(function.call(jax.random.key(0), p, q))
    except Exception as error:  # a function that does not run on this card is a result too
        return f"FAILED, {type(error).__name__}: {str(error)[:300]}"
    gaps = [0.0]
    for a, b in zip(here, there, strict=True):
        a, b = np.asarray(a, float), np.asarray(b, float)
        if not (np.isnan(a) == np.isnan(b)).all():
            return "DIFFERS, NaN"
        same = (a == b) | np.isnan(a)
        with np.errstate(invalid="ignore"):
            gap = np.where(same, 0.0, np.abs(a - b) / np.maximum(np.abs(b), 1))
        gaps.append(float(gap.max(initial=0.0)))
    word = "agrees" if max(gaps) < 1e-3 else "DIFFERS"
    return f"{word}, {max(gaps):.1e}"


def main():
    """Print all tables, or a part of that of functions."""
    if sys.argv[1:2] == ["functions"]:
        check_functions(*map(int, sys.argv[2:]))
        return
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}")
    measure_calls()
    measure_others()


if __name__ == "__main__":
    main()
