"""A fit in a file, from which a killed one goes on."""

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._mixture.files import read_arrays, write_arrays

# Parameters in the units of the start; before there was a number, in those of x.
_LAYOUT = 2


def write(path, done: int, problem, state, records) -> None:
    """Keep a fit after so many steps in a file."""
    write_arrays(path, _contents(done, _identity(problem), state, records))


def read(path, problem, state, records):
    """How many steps are done, the state, and the records with these filled in."""
    arrays, identity = read_arrays(path), _identity(problem)
    _check(path, arrays, _contents(0, identity, state, records), identity)
    done = min(int(arrays["done"]), len(records[0]))
    for i, record in enumerate(records):
        record[:done] = arrays[f"record{i}"][:done]
    leaves, tree = jax.tree.flatten(state)
    restored = [_unpack(arrays[f"state{i}"], leaf) for i, leaf in enumerate(leaves)]
    return done, jax.tree.unflatten(tree, restored), records


def _contents(done, identity, state, records):
    """The arrays of a checkpoint by name."""
    return {"layout": _LAYOUT, "done": done, **identity, **_pack(state), **_pack(records, "record")}


def _check(path, arrays, expected, identity):
    """Refuse arrays that are not those of this fit."""
    if "state0" in arrays and arrays.get("layout") != _LAYOUT:
        raise ValueError(
            f"checkpoint: {path} was written by another version of gmmjax, whose parameters mean "
            "something else; move it away to begin anew"
        )
    for name, value in expected.items():
        if name not in arrays:
            raise ValueError(
                f"checkpoint: {path} is not the state of this fit: it has no array {name!r}"
            )
        saved, value = arrays[name], np.asarray(value)
        any_length = name.startswith("record")  # the number of steps may change
        if saved.dtype != value.dtype or (not any_length and saved.shape != value.shape):
            raise ValueError(
                f"checkpoint: {path} is not the state of this fit: "
                f"{name} is {saved.dtype} {saved.shape}, expected {value.dtype} {value.shape}"
            )
        if name in identity and not np.array_equal(saved, value, equal_nan=value.dtype.kind == "f"):
            raise ValueError(f"checkpoint: {path} is the state of another fit: {name} differs")


def _identity(problem):
    """What makes two fits the same, but for the loss and the optimiser, which are code."""
    return _pack(problem, "problem")


def _pack(tree, name="state"):
    return {f"{name}{i}": _plain(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}


def _plain(leaf):
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _unpack(array, like):
    return (
        jax.random.wrap_key_data(array, impl=jax.random.key_impl(like))
        if _is_key(like)
        else jnp.asarray(array)
    )


def _is_key(leaf):
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
