"""How programs are compiled: in less time, side by side, or so that they compute once."""

import functools
import os
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp

from gmmjax._jax import is_outermost, is_traced

P = ParamSpec("P")
R = TypeVar("R")

MOST_SEEN = 1 << 12  # what is remembered holds functions of the user
_seen: set[tuple] = set()  # what has been compiled side by side


def _unless_told(**options: bool | int) -> dict[str, bool | int]:
    """Options of the compiler, without those that the user has chosen in `XLA_FLAGS`."""
    told = os.environ.get("XLA_FLAGS", "")
    return {name: value for name, value in options.items() if name not in told}


# With them every fusion is a module of its own to compile; later releases may not know the option.
# Without them loops that write over what they read run one number at a time.
OLD_EMITTERS: dict[str, bool | int] = (
    _unless_told(xla_cpu_use_fusion_emitters=False)
    if metadata.version("jaxlib").startswith("0.9.")
    else {}
)
QUICKLY = OLD_EMITTERS | _unless_told(
    xla_backend_optimization_level=0, xla_llvm_disable_expensive_passes=True
)
# To wait a little less, where tables are written over.
SOONER = _unless_told(xla_backend_optimization_level=1, xla_cpu_parallel_codegen_split_count=2)
# Half of the wait, for what then runs about as long.
SOON = OLD_EMITTERS | SOONER
# The compiler uses half of a register of 512 bits by itself; with all of it estimates take a tenth
# less time. EM and log-densities gain nothing.
WIDE = _unless_told(xla_cpu_prefer_vector_width=512)
# On a GPU kernels of Triton are tried out for each product while it is compiled: most of the wait,
# and no gain where products are as thin as those of points with factors.
_ON_GPU = _unless_told(xla_gpu_enable_triton_gemm=False)


def jit_quickly(function: Callable[P, R], **options) -> Callable[P, R]:
    """Compile in a fifth of the time what then runs for ten times as long; not inside another
    program.
    """
    return jax.jit(function, compiler_options=QUICKLY, **options)


def jit_with(
    on_cpu: dict[str, bool | int], **options
) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Compile with options of the compiler, where that is ours to choose; a decorator.

    On a GPU with what shortens the wait there. Inside another program, where it is differentiated,
    and on other devices it is `jax.jit`.
    """

    def decorate(function: Callable[..., R]) -> Callable[..., R]:
        plain: Any = jax.jit(function, **options)
        ours: dict[str, Any] = {
            platform: jax.jit(function, compiler_options=compiler_options, **options)
            for platform, compiler_options in {"cpu": on_cpu, "gpu": _ON_GPU}.items()
        }

        def chosen(*arguments) -> Any:
            alone = is_outermost() and not is_traced(arguments)
            return ours.get(jax.default_backend(), plain) if alone else plain

        @functools.wraps(function)
        def call(*args, **kwargs) -> R:
            return chosen(args, kwargs)(*args, **kwargs)

        jitted: Any = call
        jitted.lower = lambda *args: chosen(args).lower(*args)
        jitted.eval_shape = plain.eval_shape
        jitted.clear_cache = lambda: [program.clear_cache() for program in (plain, *ours.values())]
        return jitted

    return decorate


def computed_once(always: jax.Array, function: Callable[..., R], *arguments: Any) -> R:
    """What a function gives, which is not computed again where it is used.

    XLA computes what seems cheap anew wherever it is needed, and slowly where that is in another
    order. It does not look into the branches of a condition: `always` holds, which XLA must not
    know. On other devices than CPUs, where a branch would wait for the CPU, nothing is done.
    """
    if jax.default_backend() != "cpu":
        return function(*arguments)

    def nothing(*arguments):
        shapes = jax.eval_shape(function, *arguments)
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    return jax.lax.cond(always, function, nothing, *arguments)


def is_new(function: Callable, arrays: Any, *static: Hashable) -> bool:
    """Whether this is asked for the first time of a function of arrays of these shapes."""
    leaves, tree = jax.tree.flatten(arrays)
    kinds = [(leaf.shape, leaf.dtype) if hasattr(leaf, "shape") else type(leaf) for leaf in leaves]
    name = function, static, tree, *kinds
    if name in _seen:
        return False
    if len(_seen) >= MOST_SEEN:
        _seen.clear()
    _seen.add(name)
    return True


def compile_side_by_side(calls: Iterable[tuple]) -> None:
    """Compile the programs of `(jitted function, *arguments)`, each on a thread.

    Calls with arguments of these shapes find the programs. They are traced here, where JAX's
    settings are those of the caller, while those before them are compiled.
    """
    with ThreadPoolExecutor() as pool:
        programs = [
            pool.submit(function.lower(*arguments).compile) for function, *arguments in calls
        ]
    for program in programs:
        program.result()
