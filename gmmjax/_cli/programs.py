"""Compiled programs that outlive the command that compiled them."""

import pickle
import zlib
from collections.abc import Callable

import jax
from jax.experimental import serialize_executable

from gmmjax._cli.cache import surroundings
from gmmjax._cli.store import Store

KEPT = "jit_kept_"  # how the programs are called that are kept here, and by JAX not once more
AT_ONCE: dict[str, str | bool] = {"xla_backend_optimization_level": "0"}


def compiled(
    store: Store | None, function: Callable, *arguments, quickly: bool = False, **options
) -> Callable:
    """The program of `function(*arguments, **options)`, neither traced nor compiled where stored.

    Args:
      store: where programs are kept, if anywhere.
      function: of this package, whose sources are part of a program's name.
      arguments: trees of arrays.
      quickly: compile in half of the time what then runs for eight times as long.
      options: hashable, and constants of the program.
    """
    if store is None:
        return _compile(function, arguments, options, quickly)
    name = _name(function, arguments, options | {"quickly": quickly})
    program = _unpack(store.read(name))
    if program is None:
        program = _compile(function, arguments, options, quickly)
        content = _pack(program)
        if content is not None:
            store.write(name, content)
    return program


def finder(store: Store) -> Callable[..., Callable]:
    """What finds quick programs in a store, and those that it has found at once."""
    found = {}

    def find(function, *arguments, **options):
        name = _name(function, arguments, options)
        if name not in found:
            found[name] = compiled(store, function, *arguments, quickly=True, **options)
        return found[name]

    return find


def _compile(function, arguments, options, quickly):
    def kept(*arguments):
        return function(*arguments, **options)

    kept.__name__ = KEPT.removeprefix("jit_") + function.__name__
    return jax.jit(kept).lower(*arguments).compile(AT_ONCE if quickly else None)


def _name(function, arguments, options):
    called = f"{function.__module__}.{function.__qualname__}{sorted(options.items())}"
    leaves, structure = jax.tree.flatten(arguments)
    shapes = [(leaf.shape, str(leaf.dtype)) for leaf in leaves]
    devices = [(device.platform, device.device_kind) for device in jax.devices()]
    settings = jax.config.read("jax_enable_x64")
    return "\n".join(map(str, (called, structure, shapes, devices, settings, surroundings())))


def _pack(program):
    try:
        return zlib.compress(pickle.dumps(serialize_executable.serialize(program)), level=1)
    except Exception:  # whatever a backend says that cannot write its programs down
        return None


def _unpack(content):
    """A program from bytes that are known to be as this command wrote them."""
    if content is None:
        return None
    try:
        return serialize_executable.deserialize_and_load(*pickle.loads(zlib.decompress(content)))
    except Exception:  # whatever a backend says that cannot read them
        return None


class OfJax:
    """The same store for the programs that JAX compiles on its own."""

    def __init__(self, store: Store):
        self._store = store

    def get(self, key: str) -> bytes | None:
        """What JAX keeps under a key."""
        return self._store.read(_of_jax(key))

    def put(self, key: str, value: bytes) -> None:
        """Keep it, if it is not kept already."""
        if not key.startswith(KEPT):
            self._store.write(_of_jax(key), value)


def _of_jax(key):
    return f"{key}\n{surroundings()}"
