"""Names of JAX that it does not promise to keep, in one place."""

from typing import Protocol

import jax
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun


class Programs(Protocol):
    """Where compiled programs are kept: bytes by name."""

    def get(self, key: str) -> bytes | None: ...

    def put(self, key: str, value: bytes) -> None: ...


def is_traced(*values) -> bool:
    """Whether any leaf of these trees is traced: a value that `jit`, `grad` or `vmap` hides."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(values))


def evaluate(traced: ClosedJaxpr, constants, x):
    """The result of a traced function of one argument, with other constants in it."""
    return jaxpr_as_fun(ClosedJaxpr(traced.jaxpr, constants))(x)[0]


def keep_programs(folder: str, programs: Programs) -> None:
    """Have JAX keep every program that it compiles, small ones too, for the rest of this process.

    Its own files are not written whole or not at all: what a killed process leaves is read, and
    warned of, for ever.
    """
    from jax._src import compilation_cache

    if not hasattr(compilation_cache, "get_file_cache"):
        return
    compilation_cache.get_file_cache = lambda path: (programs, path)
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
