# ruff: noqa: T201
"""Time of `gmmjax.kl_quadrature` (nine digits and more) against one scikit-learn estimate from 10⁵
draws, in turns.

Run with `python -m pytest -s tests/benchmarks/test_quadrature.py`. Nothing is asserted about time.
"""

import numpy as np
from cases import REFERENCE, random_mixture, reference
from measure import best_blas_threads, seconds, setting, spread
from threadpoolctl import threadpool_limits

import gmmjax
from gmmjax.interop import to_sklearn

DRAWS = 100_000
TURNS = 5


def test_quadrature():
    pairs = {name: reference(name) for name in REFERENCE}
    pairs |= {
        f"plane {k}+{k}": (random_mixture(1, k, 2), random_mixture(2, k, 2)) for k in (2, 5, 10, 20)
    }
    print(f"\n{setting('jax', 'scikit-learn')}; float64\n")
    print(f"| {'pair':18} | D | ours, ms | scikit-learn, ms | ratio |")
    print("| --- | --- | --- | --- | --- |")
    for name, (p, q) in pairs.items():
        theirs = to_sklearn(p), to_sklearn(q)

        def recipe(p=theirs[0], q=theirs[1]):
            x, _ = p.sample(DRAWS)
            return np.mean(p.score_samples(x) - q.score_samples(x))

        ours = lambda p=p, q=q: gmmjax.kl_quadrature(p, q)
        times = []
        ours()  # compile
        with threadpool_limits(best_blas_threads(recipe)):
            for _ in range(TURNS):
                times.append((1e3 * seconds(ours)[0], 1e3 * seconds(recipe)[0]))
        own, other = np.array(times).T
        print(f"| {name:18} | {p.dim} | {spread(own)} | {spread(other)} | {spread(other / own)} |")
