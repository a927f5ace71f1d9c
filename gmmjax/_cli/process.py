"""The command line in a process of its own, which it may settle as it likes: `gmmjax`."""

import gc
import os

import jax

from gmmjax import _jax, _kept
from gmmjax._cli import cache
from gmmjax._cli.main import main
from gmmjax._cli.programs import OfJax, finder
from gmmjax._compile import OLD_EMITTERS

# What is computed takes milliseconds, and compiling it well would take longer.
OPTIONS = OLD_EMITTERS | {
    "xla_backend_optimization_level": 1,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_parallel_codegen_split_count": 2,
}


def run() -> int:
    """Run one command, with programs of earlier ones; gives the exit code."""
    settle()
    try:
        return main()
    finally:
        store = cache.in_use()
        if store is not None:
            store.trim()
        # A process that ends searches all of JAX for garbage, which it need not.
        gc.freeze()


def settle() -> None:
    """Choose how this process compiles, and where it keeps programs; before anything compiles."""
    flags = [f"--{name}={str(value).lower()}" for name, value in OPTIONS.items()]
    os.environ.setdefault("XLA_FLAGS", " ".join(flags))
    # Tracing makes much garbage of which little is in circles.
    gc.set_threshold(100_000, 50, 100)
    # XLA writes two lines of alarm for every program that it reads, on the machine that wrote it.
    jax.config.update("jax_logging_level", "CRITICAL")
    store = cache.open_store()
    if store is not None:
        cache.use(store)
        _kept.find_with(finder(store))
        _jax.keep_programs(str(store.folder), OfJax(store))
