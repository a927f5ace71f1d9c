"""What the benchmarks share: mixtures as the libraries want them, clocks, and how spreads are
written.
"""

import os
import platform
import time
from importlib import metadata

import jax
import numpy as np
from threadpoolctl import threadpool_limits

import gmmjax


def as_gmm(mixture):
    """For gmmjax, in the default dtype of the moment."""
    return gmmjax.from_covariances(*mixture)


def as_sklearn(mixture, seed=0):
    """A fitted `GaussianMixture` without a fit; its draws go on from call to call."""
    from sklearn.mixture import GaussianMixture

    g = GaussianMixture(len(mixture.weights), random_state=np.random.RandomState(seed))
    g.weights_, g.means_, g.covariances_ = mixture
    factors = np.linalg.cholesky(mixture.covariances)
    g.precisions_cholesky_ = np.linalg.inv(factors).swapaxes(1, 2)
    return g


def seconds(call):
    """Wall time of one call, and what it returned once it is ready."""
    start = time.perf_counter()
    result = jax.block_until_ready(call())
    return time.perf_counter() - start, result


def clocks(call):
    """Wall and processor time of one call, and what it returned once it is ready."""
    start = np.array([time.perf_counter(), time.process_time()])
    result = jax.block_until_ready(call())
    return np.array([time.perf_counter(), time.process_time()]) - start, result


def best_blas_threads(call):
    """The faster of one BLAS thread and as many as BLAS likes (None), for many small products run
    ill in parallel.
    """
    times = {}
    for limit in (1, None):
        with threadpool_limits(limit):
            times[limit] = seconds(call)[0]
    return min(times, key=times.get)


def spread(values, digits=".3g"):
    """`median [min–max]`."""
    return f"{np.median(values):{digits}} [{np.min(values):{digits}}–{np.max(values):{digits}}]"


def setting(*libraries):
    """One line on where a table comes from: numbers from elsewhere are not to be compared with
    it.
    """
    versions = []
    for name in libraries:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            versions.append(f"{name} missing")
    cores, load = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        os.getloadavg(),
    )
    where = f"{jax.default_backend()}, {platform.machine()}, {cores} cores, load {load[0]:.1f}"
    return f"{where}; numpy {np.__version__}, {', '.join(versions)}"
