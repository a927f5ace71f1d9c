"""Several threads at once, and processes that are not forked, get the numbers of one.

Caches of programs, context variables and files are shared between threads. Under the plugin
pytest-run-parallel, by hand, tests of validation, properties, threads and plots and part of the
table of transforms pass in four threads each, but for nine that draw: pyplot has one current figure
for all threads.
"""

import functools
import multiprocessing
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import jax
import numpy as np
import pytest
from cases import TABLE, random_mixture

import gmmjax
from gmmjax._sampling import settings

THREADS = 4
# The table's functions that compile fast, and one of each kind beside them.
FUNCTIONS = [
    f
    for f in TABLE
    if f.name
    in {
        "weights",
        "stack",
        "log_prob",
        "sample",
        "kl_divergence",
        "js_divergence",
        "expectation",
        "ise",
        "mw2_squared",
        "kl_variational",
        "pairwise",
        "runnalls",
    }
]


def in_threads(call):
    """Its results in threads that begin together."""
    barrier = threading.Barrier(THREADS)

    def run(_):
        barrier.wait()
        return jax.device_get(call())

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(run, range(THREADS)))


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.name)
def test_threads_that_compile_at_once(function, key):
    p, q = random_mixture(0, 3, 3), random_mixture(1, 3, 3)  # a shape of these tests alone
    found = in_threads(functools.partial(function.call, key, p, q))
    expected = jax.device_get(function.call(key, p, q))
    for result in found:
        jax.tree.map(np.testing.assert_array_equal, result, expected)


def test_a_context_is_that_of_its_thread():
    """How many estimates share the cache is said to one thread; a global would be seen by all."""
    inside, done = threading.Event(), threading.Event()

    def other():
        with settings.sharing(7):
            inside.set()
            done.wait(timeout=10)

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(timeout=10)
    seen = settings.check_sampling(1, 1, gmmjax.iid).num_sharing
    done.set()
    thread.join()
    assert seen == 1


def test_threads_that_save_to_one_file_leave_a_whole_one(tmp_path):
    mixtures = [random_mixture(seed, 3, 2) for seed in range(THREADS)]
    names = iter(range(THREADS))
    lock = threading.Lock()

    def write():
        with lock:
            g = mixtures[next(names)]
        for _ in range(20):
            gmmjax.save(tmp_path / "g.npz", g)
        return np.zeros(())

    in_threads(write)
    found = gmmjax.load(tmp_path / "g.npz")
    assert any(np.allclose(found.means, g.means) for g in mixtures)
    assert [path.name for path in tmp_path.iterdir()] == ["g.npz"]


def kl_of(seed):
    """In a process of its own."""
    jax.config.update("jax_enable_x64", True)
    p, q = random_mixture(seed, 2, 2), random_mixture(seed + 9, 2, 2)
    return float(gmmjax.kl_divergence(jax.random.key(0), p, q, num_samples=256).value)


def test_processes_that_are_not_forked():
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawned) as pool:
        found = list(pool.map(kl_of, range(2), timeout=120))
    np.testing.assert_allclose(found, [kl_of(seed) for seed in range(2)], rtol=1e-12)
