"""A divergence between all pairs of two stacks of mixtures."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from gmmjax._evaluation import rows, schedule
from gmmjax._evaluation.call import split
from gmmjax._mixture.gmm import GMM, check_shapes
from gmmjax._mixture.join import check_mixtures, stack
from gmmjax._properties import properties
from gmmjax._sampling.blocks import num_pairs
from gmmjax._validate import (
    check_count,
    check_function,
    check_key,
    first_parameter,
    on_any_mesh,
)

Models = GMM | Sequence[GMM] | Mapping[Any, GMM]


def _key_comes_second(function):
    """Ask for the key before Python counts arguments, and finds that `ps` is missing."""

    @functools.wraps(function)
    def checked(divergence, key, *args, **keywords):
        if isinstance(key, tuple | list | dict):
            raise TypeError(
                "key: expected a JAX key after the divergence, pairwise(divergence, key, ps), or "
                f"None for a deterministic one, got {type(key).__name__}"
            )
        return function(divergence, key, *args, **keywords)

    return checked


@_key_comes_second
@on_any_mesh
def pairwise(
    divergence: Callable,
    key,
    ps: Models,
    qs: Models | None = None,
    *,
    chunk: int | None = None,
    symmetric: bool | None = None,
    progress: bool = False,
    checkpoint=None,
    **keywords,
):
    r"""Matrix of a divergence over all pairs, :math:`d_{ij} = d(p_i, q_j)`, in its own units.

    Row i of an estimate uses one key, the i-th of `jax.random.split(key, M)`: the points of p_i are
    drawn once for its whole row, or for each chunk of it, and are the same for the whole row.
    Errors are therefore correlated within a row (common random numbers: differences along it are
    more precise than their `stderr` say), and independent between rows. The numbers do not depend
    on `chunk`, except with `points=gmmjax.iid`.

    Differentiable in `ps`, `qs` and keywords that are arrays; gradients recompute each chunk
    instead of storing it. One compilation per shape, for one and the same function object.

    Where `ps` is spread over devices along its first axis (`jax.device_put` with a
    `NamedSharding`), each row is computed where its mixture lives.

    Args:
      divergence: any `f(key, p, q, **keywords)` or `f(p, q, **keywords)`, of this package or your
        own, that can be lifted by `jax.vmap`.
      key: a JAX key, or None for a deterministic function.
      ps: M mixtures: a batch of `gmmjax.stack`, or a list or a dict, of which it makes one. With
        `labels=ps` a dict names the rows and columns of `gmmjax.plot.matrix`.
      qs: N mixtures likewise. Without them all pairs of `ps`; the diagonal of a function of this
        package that is a divergence is then exactly 0, with stderr 0.
      chunk: how many pairs of a row are evaluated at a time, at most, which bounds the memory: a
        Python int. By default what a cache holds: on a CPU 64 pairs of small mixtures, 4 of large
        ones or without a key.
      symmetric: whether d(p, q) = d(q, p), so that without `qs` half of the pairs are enough. By
        default what is known of the functions of this package, and False for others.
      progress: show a bar, row by row (needs `tqdm`; not under `jit` or `grad`).
      checkpoint: a path. Rows that are done are written there every few seconds, atomically, as a
        plain .npz; where it exists the matrix goes on from there, to the same numbers. It knows the
        mixtures, the key and the keywords, and a divergence by its name. Not under `jit` or `grad`.
      **keywords: passed on to `divergence`; arrays are traced, everything else is static.

    Returns:
      What `divergence` returns, its leaves with two leading axes `(M, N)`: an array, an `Estimate`,
      `Bounds`.

    Raises:
      TypeError: `ps` or `qs` holds no `GMM`, `divergence` does not say which arguments it takes, or
        a key is missing, wrong, or not wanted.
      ValueError: `ps` or `qs` is not a batch, shapes disagree, `chunk` < 1, or `symmetric` is set
        along with `qs`; `checkpoint` is not the beginning of this matrix.
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
    ps = _batch("ps", ps)
    num_rows = _check_batch("ps", ps)
    if qs is not None:
        qs = _batch("qs", qs)
        num_columns = _check_columns(qs, ps, symmetric)
        plan = schedule.rectangle(num_rows, num_columns)
    else:
        known = properties(functools.partial(divergence, **keywords))
        symmetric = known.symmetric if symmetric is None else symmetric
        plan = schedule.all_pairs(num_rows, symmetric, known.zero_at_equality)
    chunk = _chunk(key, ps) if chunk is None else check_count("chunk", chunk)
    call, arrays = split(divergence, key, keywords)
    keys = jax.random.split(jax.random.key(0) if key is None else key, num_rows)
    given = (keys, ps, plan.chunks(chunk)), ps if qs is None else qs, arrays
    home = rows.home(ps)
    if progress or checkpoint is not None:
        table = rows.compute_in_turns(call, home, *given, progress, checkpoint)
    else:
        table = rows.compute(call, home, *given)
    return jax.tree.map(plan.gather, table)


def _chunk(key, ps):
    """As many pairs as a cache holds: tables of points, or of pairs of components."""
    if key is None and jax.default_backend() == "cpu":
        return 4
    return num_pairs(*ps.means.shape[-2:])


def _check_divergence(divergence, key):
    """Refuse a key where none is wanted, and none where one is."""
    check_function("divergence", divergence)
    if key is not None:
        check_key(key)
    first = first_parameter(divergence)
    name = getattr(divergence, "__name__", "divergence")
    if first == "key" and key is None:
        raise TypeError(
            f"key: {name} is an estimate and needs a JAX key such as jax.random.key(0), got None"
        )
    if first == "p" and key is not None:
        raise TypeError(f"key: {name} is deterministic and takes no key; pass None")


def _check_columns(qs, ps, symmetric):
    """The length of the second batch, which must lie in the space of the first."""
    length = _check_batch("qs", qs)
    if symmetric:
        raise ValueError("symmetric: halves the pairs of one batch, but qs is another one")
    if qs.means.shape[-1] != ps.means.shape[-1]:
        raise ValueError(
            f"qs: has means {qs.means.shape}, of another dimension than ps, "
            f"with means {ps.means.shape}"
        )
    return length


def _batch(name, mixtures):
    """A list or a dict of mixtures as one batch; anything else as it is."""
    if isinstance(mixtures, Mapping):
        mixtures = list(mixtures.values())
    is_list = isinstance(mixtures, list) or type(mixtures) is tuple
    return stack(check_mixtures(mixtures, name)) if is_list else mixtures


def _check_batch(name, g):
    """The length of a batch of mixtures."""
    if not isinstance(g, GMM):
        raise TypeError(
            f"{name}: expected a batch of mixtures as one GMM, as gmmjax.stack makes, "
            f"got {type(g).__name__}"
        )
    shapes = {field: jnp.shape(leaf) for field, leaf in g._asdict().items()}
    lengths = {shape[:1] for shape in shapes.values()}
    if len(shapes["means"]) != 3 or len(lengths) > 1:
        raise ValueError(
            f"{name}: expected a batch of mixtures, means (M, K, D), as gmmjax.stack makes, "
            f"got {shapes}"
        )
    names = [f"{name}[0].{field}" for field in shapes]
    check_shapes(names, *(shape[1:] for shape in shapes.values()))
    return shapes["means"][0]
