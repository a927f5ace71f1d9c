"""How the suite keeps compilation within bounds: nearly all of its time and memory goes there."""

import gc
import os
from importlib.metadata import version

from xdist.scheduler import LoadFileScheduling

# Thousands of small programs run once or twice each: compiling them well would take longer than
# running them. Releases of jaxlib after 0.9 have nothing but fusion emitters.
OLD_EMITTERS = version("jaxlib").startswith("0.9.")
FLAGS = [
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
    *(["--xla_cpu_use_fusion_emitters=false"] if OLD_EMITTERS else []),
]

# Linux grants a process 65,530 memory maps, which compiled programs hold; past that the compiler
# crashes.
MOST_MAPS = 20_000


def compile_cheaply():
    """Choose XLA's flags; to be called before JAX is imported."""
    os.environ.setdefault("XLA_FLAGS", " ".join(FLAGS))
    # Nobody reads where an operation of a test comes from.
    os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")


def leave_garbage():
    """Switch the collector off: a quarter of the time would go into looking through gigabytes."""
    gc.disable()


def forget_programs_beyond(most):
    """Drop all compiled programs once they hold more memory maps than that."""
    import jax

    if maps_held() > most:
        jax.clear_caches()
        gc.collect()


def maps_held():
    """How many memory maps this process holds; 0 where the system has no such limit."""
    try:
        with open("/proc/self/maps") as maps:
            return sum(1 for _ in maps)
    except OSError:
        return 0


class OneFileOneWorker(LoadFileScheduling):
    """The tests of a file stay on one worker, and share its programs.

    Notebooks share few, and fill what is left. Since pytest 9.2 the group marks of xdist are no
    longer heard, which would have said the same.
    """

    def _split_scope(self, nodeid):
        return nodeid if "test_notebooks" in nodeid else super()._split_scope(nodeid)
