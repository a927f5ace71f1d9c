"""Integrals of all pairs of many components, a block of pairs at a time."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._mixture import linalg
from gmmjax._mixture.gmm import GMM
from gmmjax._mixture.ratios import pairwise_log_integral
from gmmjax._mixture.tiles import cut

FEW = 512  # components, whose pairs fit into one table
UNROLLED = 4  # dimensions, in which matrices of all pairs are best written out entry by entry


class Block(NamedTuple):
    """Of each column of a block of pairs, the logarithms of the sum and of the largest term."""

    log_sum: jax.Array
    largest: jax.Array


class _Side(NamedTuple):
    """What a pair needs of one component of it."""

    log_weights: jax.Array  # (K,)
    means: jax.Array  # (K, D)
    factors: jax.Array  # L_k or L_k⁻¹ in full, (K or 1, D, D)
    log_dets: jax.Array  # log|L_k|, (K or 1,)


def log_products(
    p: GMM, q: GMM, alpha: jax.Array | float = 1.0, beta: jax.Array | float = 1.0
) -> jax.Array:
    """Log ∫ (w_a p_a)^α (v_b q_b)^β, less ½ D (1 − α − β) log 2π, `(K_p, K_q)`."""
    log_w, log_v = linalg.log_softmax(p.logits), linalg.log_softmax(q.logits)
    integrals = pairwise_log_integral(p, q, alpha, beta)
    return alpha * log_w[:, None] + beta * log_v[None] + integrals


def log_product_blocks(
    p: GMM,
    q: GMM,
    alpha: jax.Array | float = 1.0,
    beta: jax.Array | float = 1.0,
    *,
    size: int | None = None,
) -> Block:
    """Sums of exp(log_products) over blocks of pairs, of which none is kept for a derivative.

    A block has up to `size` components on either side.
    """
    p, q = (g._replace(logits=linalg.log_softmax(g.logits)) for g in (p, q))
    unrolled = p.dim <= UNROLLED
    left, right = _sides(p, q) if unrolled else (p, q)
    table = _unrolled if unrolled else _tables
    if size is None:
        size = 512 if unrolled else max(16, math.isqrt((1 << 18) // p.dim**2))
    lowest = 0.25 * jnp.finfo(p.means.dtype).min

    @jax.checkpoint
    def block(a, b):
        # What is taken out of long arrays is copied: loops that look it up are not vectorised.
        a, b = jax.lax.optimization_barrier((a, b))
        # Absent components count for next to nothing: of nothing there is no derivative.
        terms = jnp.maximum(table(a, b, alpha, beta), lowest)
        # Column by column: a sum of all in one loop would not be vectorised.
        return Block(jax.nn.logsumexp(terms, axis=0), jnp.max(terms, axis=0))

    left, right = (_cut(side, g.num_components, size) for side, g in ((left, p), (right, q)))
    if unrolled:
        # Each entry of all components in a row of its own: what is strided is not vectorised.
        left, right = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, -1), (left, right))
    return jax.lax.map(lambda a: jax.lax.map(lambda b: block(a, b), right), left)


def _cut(side, count, size):
    """Parts of all leaves, with absent components at the end of the last one."""
    log_weights, *leaves = side
    parts = [cut(leaf, count, size, 1.0) for leaf in leaves]
    return side._make([cut(log_weights, count, size, -jnp.inf), *parts])


def _tables(p, q, alpha, beta):
    # Weights as they are: those of a block do not sum to 1.
    weights = alpha * p.logits[:, None] + beta * q.logits[None]
    return weights + pairwise_log_integral(p, q, alpha, beta)


def _sides(p, q):
    """Factors of p and inverse factors of q."""
    inverse = linalg.inverse_scale(q.scale, q.means)
    return (
        _Side(
            g.logits,
            g.means,
            linalg.dense_factors(scale, g.means),
            linalg.log_abs_det(g.scale, g.means),
        )
        for g, scale in ((p, p.scale), (q, inverse))
    )


def _unrolled(p, q, alpha, beta):
    """`_tables`, where each entry of a matrix is a table `(K_p, K_q)`."""
    dim = len(p.means)
    lower = [(i, j) for i in range(dim) for j in range(i + 1)]
    shape = len(p.log_weights), len(q.log_weights)
    mean_p = [_rows(p.means[d], shape) for d in range(dim)]
    mean_q = [_columns(q.means[d], shape) for d in range(dim)]
    factor = {(i, j): _rows(p.factors[i, j], shape) for i, j in lower}
    inverse = {(i, j): _columns(q.factors[i, j], shape) for i, j in lower}
    gaps = [mean_p[d] - mean_q[d] for d in range(dim)]
    shift = [sum(inverse[i, d] * gaps[d] for d in range(i + 1)) for i in range(dim)]
    ratio = {}
    for i, j in lower:
        ratio[i, j] = sum(inverse[i, d] * factor[d, j] for d in range(j, i + 1))
    half_log_det, distance = _solve(ratio, shift, alpha, beta)
    of_p = _rows(alpha * p.log_weights + (1 - alpha) * p.log_dets, shape)
    of_q = _columns(beta * q.log_weights - beta * q.log_dets, shape)
    return of_p + of_q - half_log_det - 0.5 * alpha * beta * distance


def _rows(values, shape):
    """Values of the rows of a table, `(K_p or 1,)`, in all of its columns."""
    if len(values) < shape[0]:
        return values[:, None]
    # Its transpose is a product too; a sum over many numbers would take many times as long.
    return linalg.matmul(values[:, None], np.ones((1, shape[1]), values.dtype))


def _columns(values, shape):
    """Values of the columns of a table, `(K_q or 1,)`, in all of its rows."""
    if len(values) < shape[1]:
        return values[None]
    return linalg.matmul(np.ones((shape[0], 1), values.dtype), values[None])


def _solve(ratio, shift, alpha, beta):
    """½ log|S| and s·S⁻¹s with S = β R Rᵀ + α, by its factors U D Uᵀ."""
    dim = len(shift)
    unit, pivots, white = {}, [], []
    half_log_det = distance = 0.0
    for i in range(dim):
        for j in range(i + 1):
            entry = beta * sum(ratio[i, d] * ratio[j, d] for d in range(j + 1))
            entry = entry - sum(unit[i, d] * unit[j, d] * pivots[d] for d in range(j))
            unit[i, j] = entry / pivots[j] if j < i else entry + alpha
        pivots.append(unit[i, i])
        white.append(shift[i] - sum(unit[i, d] * white[d] for d in range(i)))
        half_log_det += 0.5 * jnp.log(pivots[i])
        distance += white[i] ** 2 / pivots[i]
    return half_log_det, distance
