"""Results turn by turn in Python, with a bar, and a checkpoint from which a killed run goes on."""

import hashlib
import os
import time
from collections.abc import Callable

import jax
import numpy as np

from gmmjax._mixture.files import read_arrays, write_arrays
from gmmjax._progress import bar

INTERVAL = 2.0  # seconds between two writes, at least


def compute_in_turns(compute: Callable, num_turns: int, progress: bool, checkpoint, inputs):
    """The results of compute(0), compute(1), … as a tree of NumPy's arrays `(turns, …)`.

    Args:
      compute: one turn, a tree of arrays.
      num_turns: how many there are.
      progress: whether to show a bar.
      checkpoint: a path, or None.
      inputs: all that the results depend on, a tree of arrays and of what has a `repr`.
    """
    leaves, tree = jax.tree.flatten(jax.eval_shape(compute, 0))
    table = [np.zeros((num_turns, *leaf.shape), leaf.dtype) for leaf in leaves]
    file = None if checkpoint is None else _Checkpoint(checkpoint, inputs, table)
    done = 0 if file is None else file.read()
    turns = range(done, num_turns)
    try:
        for turn in bar(turns, total=num_turns, initial=done) if progress else turns:
            for rows, leaf in zip(table, jax.tree.leaves(compute(turn)), strict=True):
                rows[turn] = leaf
            done = turn + 1
            if file is not None and file.is_due():
                file.write(done)
    finally:
        if file is not None:
            file.write(done)
    return jax.tree.unflatten(tree, table)


class _Checkpoint:
    """A file with the turns of a table that are done."""

    def __init__(self, path, inputs, table):
        self.path, self.table = path, table
        self.digest = _digest(inputs)
        self.written = time.monotonic()

    def is_due(self):
        return time.monotonic() >= self.written + INTERVAL

    def write(self, done):
        rows = {f"rows{i}": rows[:done] for i, rows in enumerate(self.table)}
        write_arrays(self.path, {"done": done, "inputs": self.digest, **rows})
        self.written = time.monotonic()

    def read(self):
        """Fill the table with what the file holds, if there is one; how many turns these are."""
        if not os.path.exists(self.path):
            return 0
        arrays = read_arrays(self.path)
        names = {"done", "inputs", *(f"rows{i}" for i in range(len(self.table)))}
        if set(arrays) != names:
            raise ValueError(f"checkpoint: {self.path} is not a matrix that pairwise has begun")
        if str(arrays["inputs"]) != self.digest:
            raise ValueError(
                f"checkpoint: {self.path} is the beginning of another matrix: the function, its "
                "keywords, the key, the mixtures or the chunk differ; move it away to begin anew"
            )
        done = int(arrays["done"])
        for i, rows in enumerate(self.table):
            rows[:done] = arrays[f"rows{i}"]
        return done


def _digest(inputs):
    """A word for all inputs together."""
    leaves, tree = jax.tree.flatten(inputs)
    found = hashlib.sha256(str(tree).encode())
    for leaf in leaves:
        if isinstance(leaf, jax.Array) and jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        if isinstance(leaf, jax.Array | np.ndarray):
            array = np.asarray(leaf)
            found.update(f"{array.dtype} {array.shape}".encode())
            found.update(array.tobytes())
        else:
            found.update(str(leaf).encode())
    return found.hexdigest()
