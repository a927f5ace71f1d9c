"""Names of JAX that it does not promise to keep, in one place."""

from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeVar

import jax
from jax import core
from jax.core import Tracer
from jax.extend import core as extended
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun

P = ParamSpec("P")
R = TypeVar("R")


class Programs(Protocol):
    """Where compiled programs are kept: bytes by name."""

    def get(self, key: str) -> bytes | None: ...

    def put(self, key: str, value: bytes) -> None: ...


def is_traced(*values) -> bool:
    """Whether any leaf of these trees is traced: a value that `jit`, `grad` or `vmap` hides."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(values))


def is_outermost() -> bool:
    """Whether a program called now is compiled on its own, and not as a part of another.

    Where JAX no longer says so, it is not.
    """
    return _kinds_of_traces() == ["EvalTrace"]


def is_alone() -> bool:
    """The same, or that only derivatives are taken."""
    *around, outermost = _kinds_of_traces()
    return outermost == "EvalTrace" and {*around} <= {"JVPTrace", "LinearizeTrace"}


def evaluated(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """The result of a function of values, whatever JAX is doing.

    Where it linearises a program it would cut others into what is known and what is not, and
    compile that anew.
    """
    if not hasattr(extended, "take_current_trace"):
        return function(*args, **kwargs)
    with extended.take_current_trace():
        return function(*args, **kwargs)


def _kinds_of_traces():
    """The names of what JAX is doing, from the innermost on."""
    if hasattr(extended, "take_current_trace"):
        with extended.take_current_trace() as trace:
            return _names(trace)
    return _names(getattr(getattr(core, "trace_ctx", None), "trace", None))


def _names(trace):
    names = []
    while trace is not None:
        names.append(type(trace).__name__)
        trace = getattr(trace, "parent_trace", None)
    return names or ["unknown"]


def evaluate(program: Jaxpr, constants, x):
    """The result of a traced function of one argument, with constants in it."""
    return jaxpr_as_fun(ClosedJaxpr(program, constants))(x)[0]


def on_mesh_of(function: Callable[..., R], args: tuple, kwargs: dict) -> Callable[..., R]:
    """The function for arguments that may lie on a mesh of explicit axes, JAX's default.

    Inside such axes are left to the compiler: every operation on a batch would otherwise have to
    say how its result lies. The result is whole on each device, but for axes of `vmap`.
    """
    leaves, tree = jax.tree.flatten((args, kwargs))
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)]
    meshes = [jax.typeof(leaves[i]).sharding.mesh for i in places]
    explicit = [mesh for mesh in meshes if jax.sharding.AxisType.Explicit in mesh.axis_types]
    if not explicit:
        return function
    whole = jax.NamedSharding(explicit[0], jax.P())

    def call(*arrays):
        for i, array in zip(places, arrays, strict=True):
            leaves[i] = array
        args, kwargs = jax.tree.unflatten(tree, leaves)
        return function(*args, **kwargs)

    arrays = [leaves[i] for i in places]
    on_auto_axes: Any = jax.sharding.auto_axes(call, out_sharding=whole)
    return lambda *_, **__: on_auto_axes(*arrays)


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
