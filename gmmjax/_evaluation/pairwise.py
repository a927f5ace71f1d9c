"""A divergence between all pairs of two stacks of mixtures."""

import functools
import inspect
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gmmjax._mixture.gmm import GMM, check_shapes
from gmmjax._progress import bar
from gmmjax._properties import properties
from gmmjax._sampling import settings
from gmmjax._sampling.blocks import pairs_together
from gmmjax._validate import check_count, check_function, check_key


def pairwise(
    divergence: Callable,
    key,
    ps: GMM,
    qs: GMM | None = None,
    *,
    chunk: int | None = None,
    symmetric: bool | None = None,
    progress: bool = False,
    **keywords,
):
    r"""Matrix of a divergence over all pairs, :math:`d_{ij} = d(p_i, q_j)`, in its units and with
    its noise.

    Row i of an estimate uses one key, the i-th of `jax.random.split(key, M)`: the points of p_i are
    drawn once for its whole row, or for a chunk of it, and they are the same for the whole row.
    Errors are therefore correlated within a row (common random numbers: differences along it are
    more precise than their `stderr` say), and independent between rows. The numbers do not depend
    on `chunk`, except with `points=gmmjax.iid`. Differentiable in `ps`, `qs` and keywords that are
    arrays; gradients recompute each chunk instead of storing it. One compilation per shape, for one
    and the same function object.

    Args:
      divergence: any `f(key, p, q, **keywords)` or `f(p, q, **keywords)`, of this package or your
        own, that can be lifted by `jax.vmap`.
      key: a JAX key, or None for a deterministic function.
      ps: M mixtures as one batch, see `gmmjax.stack`.
      qs: N mixtures as one batch. Without them all pairs of `ps`; the diagonal of a function of
        this package that is a divergence is then exactly 0, with stderr 0.
      chunk: how many pairs of a row are evaluated at a time, at most, which bounds the memory: a
        Python int. By default what a cache holds: on a CPU 64 pairs of small mixtures, 4 of large
        ones or without a key.
      symmetric: whether d(p, q) = d(q, p), so that without `qs` half of the pairs are enough. By
        default what is known of the functions of this package, and False for others.
      progress: show a bar, row by row (needs `tqdm`; not under `jit` or `grad`).
      **keywords: passed on to `divergence`; arrays are traced, everything else is static.

    Returns:
      What `divergence` returns, its leaves with two leading axes `(M, N)`: an array, an `Estimate`,
      `Bounds`.

    Raises:
      TypeError: `ps` or `qs` is not a `GMM`, or a key is missing, wrong, or not wanted.
      ValueError: `ps` or `qs` is not a batch, shapes disagree, `chunk` < 1, or `symmetric` is set
        along with `qs`.
      ImportError: `progress` without tqdm.

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> gaussian = lambda m: gmmjax.GMM(jnp.zeros(1), jnp.full((1, 1), m), jnp.ones(1))
      >>> ps = gmmjax.stack([gaussian(0.0), gaussian(1.0), gaussian(3.0)])
      >>> print(gmmjax.pairwise(gmmjax.mw2_squared, None, ps))
      [[0. 1. 9.]
       [1. 0. 4.]
       [9. 4. 0.]]
      >>> gmmjax.pairwise(gmmjax.kl_divergence, jax.random.key(0), ps, num_samples=256).stderr.shape
      (3, 3)
    """
    _check_divergence(divergence, key)
    rows, others = _check_batch("ps", ps), None if qs is None else _check_batch("qs", qs)
    if qs is not None and symmetric:
        raise ValueError("symmetric: halves the pairs of one batch, but qs is another one")
    if qs is not None and qs.means.shape[-1] != ps.means.shape[-1]:
        raise ValueError(
            f"qs: has means {qs.means.shape}, of another dimension than ps, with means {ps.means.shape}"
        )
    chunk = _chunk(key, ps) if chunk is None else check_count("chunk", chunk)
    known = properties(functools.partial(divergence, **keywords))
    symmetric = known.symmetric if symmetric is None else symmetric
    layout = (
        _rectangle(rows, others) if others else _all_pairs(rows, symmetric, known.zero_at_equality)
    )
    arrays = {k: v for k, v in keywords.items() if isinstance(v, jax.Array | np.ndarray)}
    call = _Call(
        divergence, key is not None, tuple((k, v) for k, v in keywords.items() if k not in arrays)
    )
    keys = jax.random.split(jax.random.key(0) if key is None else key, rows)
    compute = _loop if progress else _map
    table = compute(call, (keys, ps, layout.blocks(chunk)), ps if qs is None else qs, arrays)
    return jax.tree.map(layout.gather, table)


def _chunk(key, ps):
    """As many pairs as a cache holds: tables of points, or of pairs of components."""
    return (
        pairs_together(*ps.means.shape[-2:])
        if key is not None or jax.default_backend() != "cpu"
        else 4
    )


class _Call(NamedTuple):
    """How to call a divergence: what is static about it."""

    function: Callable
    keyed: bool
    keywords: tuple

    def __call__(self, key, p, q, arrays):
        first = (key,) if self.keyed else ()
        return self.function(*first, p, q, **dict(self.keywords), **arrays)


class _Layout(NamedTuple):
    """Which columns a row computes, `(M, C)`, and where entry (i, j) is then found: its row and
    place, or −1 for 0.
    """

    columns: np.ndarray
    row: np.ndarray
    place: np.ndarray

    def blocks(self, chunk):
        """The columns of a row in equal blocks of at most `chunk`, `(M, B, chunk)`; the last ones
        may repeat.
        """
        count = -(-self.columns.shape[1] // chunk)
        size = -(-self.columns.shape[1] // count)
        filled = np.minimum(np.arange(count * size), self.columns.shape[1] - 1)
        return self.columns[:, filled].reshape(-1, count, size)

    def gather(self, table):
        """Entries `(M, N, …)` of a table `(M, B, chunk, …)`."""
        entries = table.reshape(table.shape[0], -1, *table.shape[3:])[self.row, self.place]
        zero = (self.place < 0).reshape(self.place.shape + (1,) * (entries.ndim - 2))
        return jnp.where(zero, 0, entries)


def _rectangle(rows, others):
    row, place = np.indices((rows, others))
    return _Layout(place, row, place)


def _all_pairs(size, symmetric, zero_diagonal):
    """Row i computes pairs with i + first … i + last, modulo the size: the same number in every
    row.
    """
    last = size // 2 if symmetric else size - 1
    first = 1 if zero_diagonal and size > 1 else 0
    columns = (np.arange(size)[:, None] + np.arange(first, last + 1)) % size
    row, column = np.indices((size, size))
    steps = (column - row) % size
    mirrored = (steps > last) | ((2 * steps == size) & symmetric & (row > column))
    row, steps = np.where(mirrored, column, row), np.where(mirrored, size - steps, steps)
    place = steps - first
    if zero_diagonal:
        np.fill_diagonal(place, -1)
    return _Layout(columns, row, place)


def _row(call, row, qs, arrays):
    """One row of the table, a block of columns at a time."""
    key, p, blocks = row

    @jax.checkpoint
    def block(columns):
        some = jax.tree.map(lambda leaf: leaf[columns], qs)
        with settings.together(len(columns)):
            return jax.vmap(lambda q: call(key, p, q, arrays))(some)

    return jax.lax.map(block, blocks)


@jax.jit(static_argnums=0)
def _map(call, rows, qs, arrays):
    return jax.lax.map(lambda row: _row(call, row, qs, arrays), rows)


_compiled_row = jax.jit(_row, static_argnums=0)


def _loop(call, rows, qs, arrays):
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((rows, qs, arrays))):
        raise TypeError(
            "progress: a bar needs concrete values; leave it off under jit, grad and vmap"
        )
    take = lambda i: jax.tree.map(lambda leaf: leaf[i], rows)
    table = [
        jax.block_until_ready(_compiled_row(call, take(i), qs, arrays))
        for i in bar(range(len(rows[0])))
    ]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *table)


def _check_divergence(divergence, key):
    check_function("divergence", divergence)
    if key is not None:
        check_key(key)
    try:
        first = next(iter(inspect.signature(divergence).parameters), None)
    except (TypeError, ValueError):  # not every callable has a signature
        return
    name = getattr(divergence, "__name__", "divergence")
    if first == "key" and key is None:
        raise TypeError(
            f"key: {name} is an estimate and needs a JAX key such as jax.random.key(0), got None"
        )
    if first == "p" and key is not None:
        raise TypeError(f"key: {name} is deterministic and takes no key; pass None")


def _check_batch(name, g):
    """The length of a batch of mixtures."""
    if not isinstance(g, GMM):
        raise TypeError(
            f"{name}: expected a batch of mixtures as one GMM, as gmmjax.stack makes, got {type(g).__name__}"
        )
    shapes = [jnp.shape(leaf) for leaf in g]
    if len(shapes[1]) != 3 or len({shape[:1] for shape in shapes}) > 1:
        raise ValueError(
            f"{name}: expected a batch of mixtures, means (M, K, D), as gmmjax.stack makes, "
            f"got {dict(zip(g._fields, shapes, strict=True))}"
        )
    check_shapes([f"{name}[0].{leaf}" for leaf in g._fields], *(shape[1:] for shape in shapes))
    return shapes[1][0]
