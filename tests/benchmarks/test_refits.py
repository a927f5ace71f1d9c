# ruff: noqa: T201
"""Two hundred refits to resampled rows, against a loop over scikit-learn.

Run with `python -m pytest -s -n 0 tests/benchmarks/test_refits.py`. Both start at the fit of all
rows and stop where a step brings less than 10⁻⁴ nats to the likelihood of all rows. scikit-learn
does 20 refits, on the better of one and all BLAS threads, and its time is multiplied by ten.
"""

import jax
import jax.numpy as jnp
import numpy as np
from measure import best_blas_threads, seconds, setting, spread
from threadpoolctl import threadpool_limits

import gmmjax

NUM_ROWS, NUM_COMPONENTS, DIM = 2000, 3, 5
FEW = 20


def rows():
    """Rows of three components that overlap a little."""
    rng = np.random.default_rng(0)
    means = 1.5 * rng.normal(size=(NUM_COMPONENTS, DIM))
    factors = 0.4 * rng.normal(size=(NUM_COMPONENTS, DIM, DIM)) + np.eye(DIM)
    label = rng.integers(NUM_COMPONENTS, size=NUM_ROWS)
    noise = np.einsum("nij,nj->ni", factors[label], rng.normal(size=(NUM_ROWS, DIM)))
    return means[label] + noise, means, factors


def test_refits():
    """Print seconds of both, and their ratio."""
    from sklearn.mixture import GaussianMixture

    with jax.enable_x64(True):
        x, means, factors = rows()
        covariances = factors @ factors.swapaxes(1, 2)
        start = gmmjax.from_covariances(np.ones(NUM_COMPONENTS), means, covariances)
        g = gmmjax.em(x, start).gmm
        model = gmmjax.interop.to_sklearn(g)
        options = {
            "weights_init": model.weights_,
            "means_init": model.means_,
            "precisions_init": model.precisions_,
            "tol": 1e-4 / NUM_ROWS,
            "max_iter": 1000,
        }
        resamples = np.random.default_rng(1).integers(NUM_ROWS, size=(FEW, NUM_ROWS))

        def loop():
            return [GaussianMixture(NUM_COMPONENTS, **options).fit(x[i]) for i in resamples]

        def batch():
            return gmmjax.refits(jax.random.key(2), g, jnp.asarray(x))

        batch()
        ours = [seconds(batch)[0] for _ in range(7)]
        with threadpool_limits(best_blas_threads(loop)):
            theirs = [10 * seconds(loop)[0] for _ in range(3)]
        print(f"\n{setting('jax', 'scikit-learn')}")
        print(f"gmmjax {spread(ours)} s, scikit-learn {spread(theirs)} s, ", end="")
        print(f"ratio {np.median(theirs) / np.median(ours):.0f}")
