"""A long computation as a Python loop over compiled segments: a bar, Ctrl-C, and checkpoints."""

import os

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._mixture.files import read_arrays, write_arrays
from gmmjax._progress import watched
from gmmjax._validate import warn

# Parameters in the units of the start; before there was a number, in those of x.
_LAYOUT = 2


def run(name: str, advance, state, problem, num_steps: int, progress: bool, checkpoint):
    """Apply `advance(state, start) -> (state, records)` until `num_steps` are done or
    `state.stopped`.

    Returns the last state and the records, arrays `(num_steps,)` that end in NaN where there are
    none. `name` is that of the function which the user called.
    """
    identity = _identity(problem)
    records = [np.full(num_steps, np.nan, problem.init.means.dtype) for _ in range(3)]
    done = 0
    if checkpoint is not None and os.path.exists(checkpoint):
        done, state, records = _resume(checkpoint, identity, state, records)
    bar = {"total": num_steps, "initial": done, "desc": name, "unit": "step"}
    with watched(None, progress, **bar) as shown:
        try:
            pending = None
            while done < num_steps and not state.stopped:
                ahead, new = pending or advance(state, done)
                count = min(len(new[0]), num_steps - done)
                # The next segment runs while this one is shown and written.
                pending = advance(ahead, done + count) if done + count < num_steps else None
                new = [np.asarray(values)[:count] for values in new]
                for record, values in zip(records, new, strict=True):
                    record[done : done + count] = values
                state, done = ahead, done + count
                if shown is not None:
                    _show(shown, new)
                if checkpoint is not None:
                    write_arrays(checkpoint, _contents(done, identity, state, records))
        except KeyboardInterrupt:
            warn(f"{name}: interrupted after {done} of {num_steps} steps; this is the best so far")
    return state, records


def _contents(done, identity, state, records):
    """The arrays of a checkpoint by name."""
    return {"layout": _LAYOUT, "done": done, **identity, **_pack(state), **_pack(records, "record")}


def _resume(path, identity, state, records):
    arrays = read_arrays(path)
    expected = _contents(0, identity, state, records)
    _check(path, arrays, expected, identity)
    done = min(int(arrays["done"]), len(records[0]))
    for i, record in enumerate(records):
        record[:done] = arrays[f"record{i}"][:done]
    leaves, tree = jax.tree.flatten(state)
    restored = [_unpack(arrays[f"state{i}"], leaf) for i, leaf in enumerate(leaves)]
    return done, jax.tree.unflatten(tree, restored), records


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


def _show(shown, new):
    values, stderrs, _ = new
    last = np.flatnonzero(np.isfinite(values))
    if len(last):
        shown.set_postfix_str(
            f"loss {values[last[-1]]:.5g} ± {stderrs[last[-1]]:.1g}", refresh=False
        )
    shown.update(len(values))
