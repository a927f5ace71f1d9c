"""Rows of data: checked where they are concrete, and as a cloud about 0 of spread 1."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._jax import is_traced
from gmmjax._matrices import linalg
from gmmjax._mixture import density, rounding
from gmmjax._mixture.gmm import GMM, as_real, float_of
from gmmjax._mixture.structure import is_full, is_spherical
from gmmjax._populations.moments import Cloud

# Rows in a block: its tables stay in cache, and memory does not grow with the number of rows.
BLOCK = 2048


class Frame(NamedTuple):
    """Where rows have mean 0 and standard deviation 1: x = origin + size·z."""

    origin: jax.Array  # (D,)
    size: jax.Array  # (D,), all of them equal where components are spheres


def check_rows(name: str, x, g: GMM):
    """Rows of numbers `(N, D)`, in the space of a mixture and enough of them; one bad is named."""
    if hasattr(x, "toarray") or hasattr(x, "todense"):
        raise TypeError(f"{name}: is a sparse matrix; pass its dense form, {name}.toarray()")
    x = as_real(name, x)
    if x.ndim != 2 or x.shape[1] != g.dim:
        raise ValueError(
            f"{name}: expected rows of shape (N, {g.dim}) to match the mixture, got {x.shape}"
        )
    least = max(g.num_components, 2)
    if len(x) < least:
        raise ValueError(
            f"{name}: has too few rows, {len(x)} for {g.num_components} components; "
            f"at least {least} are needed"
        )
    with np.errstate(over="ignore"):  # what is infinite in single precision is refused below
        rounded = jnp.asarray(x)
    if not is_traced(x):
        _round_aloud(name, x, g)
        # Inside `jit` all that is made is traced, of what is not, too.
        _check_values(name, np.asarray(x if is_traced(rounded) else rounded))
    return rounded


def _round_aloud(name, x, g):
    """Warn where rows in double precision lose what tells them apart in single precision."""
    dtype = float_of(x, g.means)
    if dtype == np.float32 and x.dtype == np.float64 and not is_traced(g):
        rounding.warn_of_moved_points(name, dtype, x, jax.device_get(g.scale))


def _check_values(name, x):
    """Refuse rows that are not finite, and columns that are constant."""
    bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
    if len(bad):
        raise ValueError(
            f"{name}: expected finite numbers, but row {bad[0]} is {x[bad[0]]} "
            f"({len(bad)} of {len(x)} rows are not finite)"
        )
    _check_columns(name, x)


def _check_columns(name, x):
    constant = np.flatnonzero((x == x[:1]).all(axis=0))
    if len(constant):
        column = constant[0]
        raise ValueError(
            f"{name}: column {column} is {x[0, column]} in all rows, where no mixture has a "
            "density; leave it out"
        )


def check_counted(name: str, x, weights) -> None:
    """Refuse columns that are constant in the rows that count; the others may hold anything."""
    if not is_traced((x, weights)):
        _check_columns(name, np.asarray(x)[np.asarray(weights) > 0])


def check_row_weights(weights, count: int, dtype) -> jax.Array:
    """Weights of rows, `(N,)` with mean 1; NaN where they are traced and bad."""
    if weights is None:
        return jnp.ones(count, dtype)
    weights = as_real("weights", weights)
    if weights.shape != (count,):
        raise ValueError(
            f"weights: expected shape ({count},), one for each row of x, got {weights.shape}"
        )
    if not is_traced(weights):
        given = np.asarray(weights, np.float64)
        bad = np.flatnonzero(~(np.isfinite(given) & (given >= 0)))
        if len(bad):
            raise ValueError(
                f"weights: expected finite numbers of at least 0, but row {bad[0]} has "
                f"{given[bad[0]]}"
            )
        if not given.any():
            raise ValueError(f"weights: all {count} are 0")
        # Of any size: what float32 does not hold, or whose sum is infinite.
        given = given / given.max()
        weights = given / given.mean()
    weights = jnp.asarray(weights, dtype)
    return jnp.where(jnp.all(weights >= 0), weights / jnp.mean(weights), jnp.nan)


def without_absent(x: jax.Array, weights: jax.Array) -> jax.Array:
    """Rows of weight 0 as copies of the heaviest: they may lie anywhere, and count for nothing."""
    return jnp.where(weights[:, None] == 0, x[jnp.argmax(weights)], x)


def frame(x: jax.Array, g: GMM) -> Frame:
    """The frame of rows `(N, D)`, in which a mixture of the structure of `g` keeps it."""
    # Without their weights: many weightings of one data set then share its points.
    origin = jnp.mean(x, axis=0)
    apart = x - origin[None]
    # In a unit in which no square is out of range.
    largest = jnp.max(jnp.abs(apart), axis=0)
    size = largest * jnp.sqrt(jnp.mean(linalg.safe_divide(apart, largest[None]) ** 2, axis=0))
    if is_spherical(g):
        largest = jnp.max(size)
        size = jnp.full_like(size, largest * jnp.sqrt(jnp.mean((size / largest) ** 2)))
    return Frame(origin, size)


def into(f: Frame, g: GMM) -> GMM:
    """A mixture in the coordinates of a frame."""
    means = (g.means - f.origin[None]) / f.size[None]
    return GMM(g.logits, means, g.scale / _rows(f.size, g))


def out_of(f: Frame, g: GMM) -> GMM:
    """The way back."""
    means = f.origin[None] + f.size[None] * g.means
    return GMM(g.logits, means, g.scale * _rows(f.size, g))


def _rows(size, g):
    """Sizes in the shape of a scale: one for each row of a factor."""
    if is_full(g):
        return size[None, :, None]
    return size[None] if g.scale.ndim == g.means.ndim else size[:1]


def cloud(f: Frame, x: jax.Array) -> Cloud:
    """Rows `(N, D)` in blocks; the last is filled up with rows of weight 0."""
    num_rows, dim = x.shape
    num_blocks = -(-num_rows // BLOCK)
    size = -(-num_rows // num_blocks)
    z = (x - f.origin[None]) / f.size[None]
    z = jnp.pad(z, ((0, num_blocks * size - num_rows), (0, 0)))
    z = z.reshape(num_blocks, size, dim).mT
    weight = in_blocks(jnp.ones(num_rows, x.dtype), num_blocks)
    return Cloud(z, weight)


def in_blocks(weights: jax.Array, num_blocks: int) -> jax.Array:
    """Weights `(N,)` of mean 1 as those of a cloud: each block stands for all rows."""
    num_rows = len(weights)
    size = -(-num_rows // num_blocks)
    padded = jnp.pad(weights, (0, num_blocks * size - num_rows))
    return padded.reshape(num_blocks, size) * (num_blocks / num_rows)


def log_likelihoods(g: GMM, c: Cloud) -> jax.Array:
    """Log g(x) of all rows of a cloud, blocks after one another, `(B, n)`."""
    prepared = density.prepare(g).density
    return jax.lax.map(lambda x: density.evaluate(prepared, x), c.x)
