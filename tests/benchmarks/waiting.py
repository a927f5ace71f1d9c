"""How long one waits for a first answer, each in a process of its own: `python waiting.py`.

Needs scikit-learn. Prints the table of `waiting.md`; the fastest, the middle and the slowest of
three runs.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 3

MIXTURES = """
import numpy as np, gmmjax
rng = np.random.default_rng(0)
def mixture(K, D):
    factor = rng.normal(size=(K, D, D)) / D**0.5
    covariances = 0.6 * factor @ factor.swapaxes(1, 2) + 0.4 * np.eye(D)
    weights, means = rng.dirichlet(np.full(K, 3.0)), 1.5 * rng.normal(size=(K, D))
    return gmmjax.from_covariances(weights, means, covariances)
for name, K, D in (("p", 10, 10), ("q", 8, 10), ("big", 50, 10), ("p2", 4, 2), ("q2", 3, 2)):
    gmmjax.save(f"{name}.npz", mixture(K, D))
"""

SKLEARN = """
import numpy as np
from sklearn.mixture import GaussianMixture
def model(name):
    arrays = np.load(name)
    g = GaussianMixture(len(arrays["weights"]))
    g.weights_, g.means_, g.covariances_ = (arrays[n] for n in ("weights", "means", "covariances"))
    g.precisions_cholesky_ = np.linalg.cholesky(np.linalg.inv(g.covariances_))
    return g
p, q = model("p.npz"), model("q.npz")
for a, b in ((p, q), (q, p)):
    x = a.sample(100_000)[0]
    ratios = a.score_samples(x) - b.score_samples(x)
    print(ratios.mean(), ratios.std() / len(x) ** 0.5)
"""

FIRST_CALL = """
import time, jax, jax.numpy as jnp, gmmjax
p, q, key = gmmjax.load("p.npz"), gmmjax.load("q.npz"), jax.random.key(0)
jax.block_until_ready(jnp.zeros(3) + 1)
def log_prob(g, x):
    def white(mean, factor):
        return jax.scipy.linalg.solve_triangular(factor, (x - mean).T, lower=True)
    squares = jnp.sum(jax.vmap(white)(g.means, g.scale) ** 2, axis=1)
    peaks = jax.nn.log_softmax(g.logits) - jnp.sum(jnp.log(jnp.diagonal(g.scale, 0, 1, 2)), axis=1)
    return jax.nn.logsumexp(peaks[:, None] - 0.5 * squares, axis=0)
@jax.jit
def recipe(key, p, q):
    keys = jax.random.split(key)
    k = jax.random.categorical(keys[0], p.logits, shape=(16384,))
    z = jax.random.normal(keys[1], (16384, 10))
    x = p.means[k] + jnp.einsum("nij,nj->ni", p.scale[k], z)
    ratios = log_prob(p, x) - log_prob(q, x)
    return jnp.mean(ratios), jnp.std(ratios) / 128
gradient = jax.grad(lambda q: gmmjax.kl_divergence(key, p, q).value)
calls = {
    "recipe": lambda: recipe(key, p, q),
    "kl_divergence": lambda: gmmjax.kl_divergence(key, p, q),
    "gradient": lambda: gradient(q),
    "kl_bounds": lambda: gmmjax.kl_bounds(p, q),
    "js_bounds": lambda: gmmjax.js_bounds(p, q),
}
start = time.perf_counter()
jax.block_until_ready(calls[CALL]())
print(time.perf_counter() - start)
"""

JAX_CACHE = {
    "JAX_COMPILATION_CACHE_DIR": "jax-cache",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


def run(*arguments, **environment):
    """What a process prints, and the seconds that it takes."""
    start = time.perf_counter()
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=True
    )
    return done.stdout, time.perf_counter() - start


def show(label, seconds):
    """A row of the table."""
    low, middle, high = sorted(seconds)
    print(f"| {label} | {middle:.2f} | {low:.2f}–{high:.2f} |", flush=True)


def show_process(label, *arguments):
    show(label, [run(*arguments)[1] for _ in range(RUNS)])


def show_command(label, *arguments):
    """A command of this package without and with what an earlier one has left."""
    first, second = [], []
    for i in range(RUNS):
        cache = tempfile.mkdtemp(prefix=f"cache-{i}-", dir=".")
        for seconds in (first, second):
            seconds.append(run("-m", "gmmjax", *arguments, GMMJAX_CACHE=cache)[1])
    show(f"{label}, first", first)
    show(f"{label}, second", second)


def show_call(name):
    code = FIRST_CALL.replace("CALL]", f"{name!r}]")
    show(f"first call of {name}", [float(run("-c", code)[0]) for _ in range(RUNS)])


def main():
    os.chdir(tempfile.mkdtemp())
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    run("-c", MIXTURES)
    print("| what | seconds | of three |\n|---|---|---|")
    show_process("python -c 'import jax'", "-c", "import jax")
    show_process("scikit-learn's recipe, KL both ways", "-c", SKLEARN)
    show_command("compare, K = 10 and 8, D = 10", "compare", "p.npz", "q.npz")
    show_command("compare, K = 4 and 3, D = 2", "compare", "p2.npz", "q2.npz")
    options = ["big.npz", "--components", "5", "-o", "small.npz"]
    show_command("reduce, 50 to 5, D = 10", "reduce", *options)
    for name in ("recipe", "kl_divergence", "gradient", "kl_bounds", "js_bounds"):
        show_call(name)
    os.environ |= JAX_CACHE
    for name in ("kl_divergence", "gradient"):
        code = FIRST_CALL.replace("CALL]", f"{name!r}]")
        run("-c", code)
        show(f"{name} from JAX's cache", [float(run("-c", code)[0]) for _ in range(RUNS)])


if __name__ == "__main__":
    main()
