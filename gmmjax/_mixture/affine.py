"""Mixtures under affine maps: some coordinates of one, and its image under any such map."""

import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._jax import is_traced
from gmmjax._matrices import linalg, triangular
from gmmjax._mixture import rounding
from gmmjax._mixture.gmm import GMM, as_float, as_real


def marginal(g: GMM, dims: Sequence[int] | int) -> GMM:
    r"""Distribution of some coordinates of a mixture, :math:`p(x_{d_1}, \dots, x_{d_E})`; exact.

    The type of covariance stays what it is: full, diagonal or spherical, tied or not.

    Args:
      g: a mixture in D dimensions.
      dims: which coordinates to keep, in the order in which they are wanted: Python ints, negative
        ones count from the end (static under `jit`). A single int keeps one coordinate.

    Returns:
      A `GMM` in E = len(dims) dimensions (1 for a single int), differentiable in all leaves of `g`.

    Raises:
      TypeError: `g` is not a `GMM`, or `dims` is neither an int nor a sequence of them.
      ValueError: shapes disagree, or `dims` is empty, names a coordinate twice or one that does not
        exist.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> g = gmmjax.GMM(jnp.zeros(1), jnp.array([[0.0, 1.0, 2.0]]), jnp.array([[3.0, 4.0, 5.0]]))
      >>> last = gmmjax.marginal(g, [-1])
      >>> print(last.means, last.scale)
      [[2.]] [[5.]]
    """
    g = as_float("g", g, singular=True)
    kept = check_dims(dims, g.dim)
    return _marginal(g, kept)


@jax.jit(static_argnums=1)
def _marginal(g, kept):
    kept, scale = np.array(kept), g.scale
    if scale.ndim == g.means.ndim:
        scale = scale[:, kept]
    elif scale.ndim > g.means.ndim:
        scale = triangular.lower_factor(scale[:, kept])
    return GMM(g.logits, g.means[:, kept], scale)


def check_dims(dims, dim):
    """Coordinates of a space as distinct Python ints from 0 on; anything else is refused."""
    if hasattr(dims, "__index__") and np.ndim(dims) == 0:
        dims = [dims]
    try:
        mask = any(isinstance(d, bool | np.bool) for d in dims)
        kept = tuple(operator.index(d) for d in dims)
    except TypeError:
        raise TypeError(f"dims: expected an int or a sequence of ints, got {dims!r}") from None
    if mask:
        raise TypeError(
            f"dims: expected ints, got booleans {dims!r}; np.flatnonzero makes ints of a mask"
        )
    if not kept or not all(-dim <= d < dim for d in kept):
        found = list(kept) if kept else "none"
        raise ValueError(f"dims: expected some of the coordinates {-dim} … {dim - 1}, got {found}")
    kept = tuple(d % dim for d in kept)
    if len(set(kept)) < len(kept):
        raise ValueError(f"dims: names a coordinate twice: {list(kept)}")
    return kept


def affine(g: GMM, A, b=0.0) -> GMM:
    r"""Distribution of :math:`A x + b` where x is drawn from a mixture; exact.

    A number scales all coordinates and keeps every type of covariance; `(D,)` numbers are the
    diagonal of a matrix, and keep full and diagonal scales what they are. A matrix of known values
    keeps what it can: spheres stay spheres where A Aᵀ is a multiple of 1 (a rotation, scaled or
    not), and become diagonal where it is diagonal; a diagonal scale stays diagonal where each
    coordinate goes to one at most (a permutation). Any other, and one that is traced, makes every
    scale full. Tied scales stay tied.

    Args:
      g: a mixture in D dimensions.
      A: a number, `(D,)`, or `(E, D)` with E ≤ D and of rank E: otherwise the result has no
        density.
      b: a number, or `(E,)`.

    Returns:
      A `GMM` in E dimensions, differentiable in all leaves of `g`, in `A` and in `b`.

    Raises:
      TypeError: `g` is not a `GMM`.
      ValueError: shapes disagree, or `A` is not of full rank (under `jit` only shapes can be
        checked).

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> g = gmmjax.GMM(jnp.zeros(1), jnp.array([[1.0, 2.0]]), jnp.ones(1))
      >>> total = gmmjax.affine(g, [[1.0, 1.0]], 5.0)
      >>> print(total.means, gmmjax.covariances(total).round(4))
      [[8.]] [[[2.]]]
    """
    g = as_float("g", g, singular=True)
    A, b = as_real("A", A), as_real("b", b)
    if A.shape not in ((), (g.dim,)) and not (
        A.ndim == 2 and 1 <= A.shape[0] <= A.shape[1] == g.dim
    ):
        raise ValueError(
            f"A: expected a number, ({g.dim},) or (E, {g.dim}) with E ≤ {g.dim}, "
            f"got shape {A.shape}"
        )
    size = A.shape[0] if A.ndim == 2 else g.dim
    if b.shape not in ((), (size,)):
        raise ValueError(f"b: expected a number or shape ({size},), got {b.shape}")
    if not is_traced(A):
        _check_rank(np.asarray(A, np.float64))
    if not is_traced(b) and not np.isfinite(b).all():
        raise ValueError(f"b: expected finite numbers, got {b}")
    rank = _rank_of_image(A, g)
    image = _affine(g, jnp.asarray(A, g.means.dtype), jnp.asarray(b, g.means.dtype), rank)
    if image.means.dtype == jnp.float32 and not is_traced(image):
        rounding.warn_of_moved_image(A, b, g.means, image)
    return image


def _rank_of_image(A, g):
    """The rank of the smallest scale that holds the covariances A Σ_k Aᵀ."""
    if A.ndim == 0 or g.scale.ndim == 3:
        return g.scale.ndim
    if is_traced(A):
        return A.ndim + 1
    rows = np.asarray(A, np.float64)
    rows = np.diag(rows) if rows.ndim == 1 else rows
    if g.scale.ndim == 2:
        return 2 if (np.count_nonzero(rows, axis=0) <= 1).all() else 3
    lengths = np.linalg.norm(rows, axis=1)
    rounding = 4 * g.dim**0.5 * jnp.finfo(A.dtype).eps
    cosines = rows @ rows.T / np.outer(lengths, lengths)
    if np.abs(cosines - np.eye(len(rows))).max() > rounding:
        return 3
    return 1 if np.ptp(lengths) <= rounding * lengths.max() else 2


def _check_rank(A):
    if A.ndim < 2 and not (np.isfinite(A) & (A != 0)).all():
        raise ValueError(f"A: expected finite numbers other than 0, got {A}")
    if A.ndim == 2 and not (np.isfinite(A).all() and np.linalg.matrix_rank(A) == len(A)):
        raise ValueError(
            f"A: the {A.shape} matrix is not of rank {len(A)}, and A x + b would have no density"
        )


@jax.jit(static_argnums=3)
def _affine(g: GMM, A: jax.Array, b: jax.Array, rank: int) -> GMM:
    means, scale = g.means, g.scale
    if A.ndim == 0:
        moved, image = A * means, A * scale
    elif A.ndim == 1:
        moved, image = A[None] * means, _scaled_rows(A, scale, rank)
    else:
        rows = _of_full_rank(A)
        moved = linalg.matmul(means, rows.T)
        image = _factor(rows, scale, means) if rank == 3 else _lengths(rows, scale, rank)
    return GMM(g.logits, moved + (b[None] if b.ndim else b), image)


def _scaled_rows(A, scale, rank):
    """The scale of coordinates that are multiplied by the numbers of A."""
    if rank == 1:
        return jnp.abs(A[0]) * scale
    if rank == 2:
        return A[None] * scale.reshape(len(scale), -1)
    return A[None, :, None] * scale


def _of_full_rank(A: jax.Array) -> jax.Array:
    """The same matrix, NaN where its rows depend on each other."""
    pivots = jnp.diagonal(triangular.lower_factor(A)) / jnp.linalg.norm(A, axis=1)
    independent = jnp.min(pivots) > A.shape[1] * jnp.finfo(A.dtype).eps
    return jax.lax.select(independent, A, jnp.full_like(A, jnp.nan))


def _lengths(A, scale, rank):
    """Deviations of coordinates that come out without correlation."""
    if rank == 1:
        return jnp.linalg.norm(A[0]) * scale
    return jnp.linalg.norm(A[None] * scale.reshape(len(scale), 1, -1), axis=-1)


def _factor(A, scale, means):
    """Lower factors of the covariances A L_k L_kᵀ Aᵀ, `(K or 1, E, E)`."""
    if scale.ndim < means.ndim:
        return jnp.abs(scale)[:, None, None] * triangular.lower_factor(A)[None]
    if scale.ndim == means.ndim:
        return triangular.lower_factor(A[None] * scale[:, None])
    return triangular.lower_factor(linalg.matmul(A[None], scale))
