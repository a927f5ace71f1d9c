"""Strict settings for every test: float64 as the reference, no silent rank promotion."""

import gc
import os
from importlib.metadata import version

# Thousands of small programs run once or twice each: compiling them well would take longer than
# running them.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    + " --xla_cpu_parallel_codegen_split_count=1"
    # later ones have nothing else
    + " --xla_cpu_use_fusion_emitters=false" * version("jaxlib").startswith("0.9."),
)

import jax
import pytest
from xdist.scheduler import LoadFileScheduling

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
# nobody reads where an operation of a test comes from
jax.config.update("jax_traceback_in_locations_limit", 0)


@pytest.fixture
def key():
    return jax.random.key(0)


class OneFileOneWorker(LoadFileScheduling):
    """The tests of a file stay on one worker, and share its programs; notebooks share none, and
    fill what is left.
    """

    def _split_scope(self, nodeid):
        return nodeid if "test_notebooks" in nodeid else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config, log):
    return OneFileOneWorker(config, log)


# a quarter of the time would go into looking for garbage, of which there are a few gigabytes
gc.disable()


@pytest.fixture(autouse=True, scope="module")
def few_programs():
    """Compiled programs hold memory maps; Linux grants a process 65,530, and past that the compiler
    crashes.
    """
    yield
    if maps_held() > 20_000:
        jax.clear_caches()
        gc.collect()


def maps_held():
    try:
        with open("/proc/self/maps") as maps:
            return sum(1 for _ in maps)
    except OSError:  # not Linux, which has no such limit
        return 0
