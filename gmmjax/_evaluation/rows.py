"""Rows of a matrix: all in one program, on the devices where they live, or turn by turn."""

import jax
import jax.numpy as jnp

from gmmjax._compile import WIDE, jit_with
from gmmjax._evaluation import turns
from gmmjax._jax import is_traced
from gmmjax._mixture.gmm import index
from gmmjax._sampling import settings


def _row(call, row, qs, arrays):
    """One row of the table, a chunk of columns at a time."""
    key, p, chunks = row

    @jax.checkpoint
    def chunk(columns):
        with settings.sharing(len(columns)):
            return jax.vmap(lambda q: call(key, (p, q), arrays))(index(qs, columns))

    return jax.lax.map(chunk, chunks)


@jit_with(WIDE, static_argnums=(0, 1))
def compute(call, home, rows, qs, arrays):
    def of_all(rows, qs, arrays):
        return jax.lax.map(lambda row: _row(call, row, qs, arrays), rows)

    if home is None:
        return of_all(rows, qs, arrays)
    specs = home.spec, jax.P(), jax.P()
    where_they_live = jax.shard_map(
        of_all, mesh=home.mesh, in_specs=specs, out_specs=home.spec, check_vma=False
    )
    return where_they_live(rows, qs, arrays)


def compute_in_turns(call, home, rows, qs, arrays, progress, checkpoint):
    """The same turn by turn in Python, in each of which every device computes one row."""
    if is_traced(rows, qs, arrays):
        raise TypeError(
            "progress, checkpoint: need concrete values; leave them off under jit, grad and vmap"
        )
    num_rows = len(rows[0])
    width = 1 if home is None else num_rows // home.shard_shape((num_rows,))[0]

    def of_turn(turn):
        dealt = _turn(home, width, rows, turn)
        return _everywhere(home, compute(call, home, dealt, qs, arrays))

    name = getattr(call.function, "__qualname__", repr(call.function))
    inputs = name, call.keywords, rows, qs, arrays, width
    table = turns.compute_in_turns(of_turn, num_rows // width, progress, checkpoint, inputs)
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf.swapaxes(0, 1).reshape(-1, *leaf.shape[2:])), table
    )


@jax.jit(static_argnums=(0, 1))
def _turn(home, width, rows, turn):
    """A row for each of so many devices, those that have it."""

    def pick(leaf):
        parts = jnp.asarray(leaf).reshape(width, -1, *leaf.shape[1:])
        picked = jax.lax.dynamic_index_in_dim(parts, turn, axis=1, keepdims=False)
        return picked if home is None else jax.lax.with_sharding_constraint(picked, home)

    return jax.tree.map(pick, rows)


def _everywhere(home, tree):
    """Results on all devices, so that every process can read them."""
    if home is None:
        return tree
    return jax.device_put(tree, jax.NamedSharding(home.mesh, jax.P()))


def home(ps):
    """The sharding of the rows of a batch that is spread over devices, else None."""
    sharding = None if is_traced(ps) else getattr(ps.means, "sharding", None)
    if not isinstance(sharding, jax.NamedSharding) or not any(sharding.spec[:1]):
        return None
    return jax.NamedSharding(sharding.mesh, jax.P(sharding.spec[0]))
