"""Integrals of all pairs of many components, a block of pairs at a time."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._logs import log_softmax
from gmmjax._matrices import linalg, scales
from gmmjax._matrices.tiles import cut
from gmmjax._mixture.gmm import GMM
from gmmjax._pairs.ratios import pairwise_log_integral

FEW = 512  # components, whose pairs fit into one table
UNROLLED = 4  # dimensions, in which matrices of all pairs are best written out entry by entry


class Block(NamedTuple):
    """Of each column of a block of pairs, the logarithms of the sum and of the largest term."""

    log_sum: jax.Array
    largest: jax.Array


def log_products(
    p: GMM, q: GMM, alpha: jax.Array | float = 1.0, beta: jax.Array | float = 1.0
) -> jax.Array:
    """Log ∫ (w_a p_a)^α (v_b q_b)^β, less ½ D (1 − α − β) log 2π, `(K_p, K_q)`."""
    log_w, log_v = log_softmax(p.logits), log_softmax(q.logits)
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
    # Absent components count for next to nothing: of nothing there is no derivative.
    lowest = 0.25 * jnp.finfo(p.means.dtype).min
    p, q = (g._replace(logits=jnp.maximum(log_softmax(g.logits), lowest)) for g in (p, q))
    if p.dim <= UNROLLED:
        table, sides, size = _unrolled, _packed(p, q, lowest, size or 256), size or 256
    else:
        size = size or max(16, math.isqrt((1 << 18) // p.dim**2))
        table, sides = _tables, [_cut(g, size, lowest) for g in (p, q)]

    @jax.checkpoint
    def block(a, b):
        terms = table(a, b, alpha, beta)
        return Block(jax.nn.logsumexp(terms, axis=0), jnp.max(terms, axis=0))

    left, right = sides
    return jax.lax.map(lambda a: jax.lax.map(lambda b: block(a, b), right), left)


def _cut(g, size, lowest):
    """Parts of a mixture, with absent components at the end of the last one."""
    count = g.num_components
    leaves = [cut(leaf, count, size, 1.0) for leaf in (g.means, g.scale)]
    return GMM(cut(g.logits, count, size, lowest), *leaves)


def _tables(p, q, alpha, beta):
    # Weights as they are: those of a block do not sum to 1.
    weights = alpha * p.logits[:, None] + beta * q.logits[None]
    return weights + pairwise_log_integral(p, q, alpha, beta)


def _packed(p, q, lowest, size):
    """What a pair needs of either component, number by number, `(parts, numbers, K of a part)`.

    Log-weights, log-determinants, means, and the lower triangles of L_a and of L_b⁻¹.
    """
    inverse = scales.inverse(q.scale, q.means)
    lower = np.tril_indices(p.dim)
    sides = []
    for g, scale in ((p, p.scale), (q, inverse)):
        count = g.num_components
        factors = scales.dense_factors(scale, g.means)[:, lower[0], lower[1]]
        log_dets = scales.log_abs_det(g.scale, g.means)[:, None]
        factors, log_dets = (
            jnp.broadcast_to(leaf, (count, leaf.shape[1])) for leaf in (factors, log_dets)
        )
        rest = cut(jnp.concatenate([log_dets, g.means, factors], axis=1), count, size, 1.0)
        weights = cut(g.logits[:, None], count, size, lowest)
        sides.append(jnp.concatenate([weights, rest], axis=2).mT)
    return sides


class _Side(NamedTuple):
    """The same by name: tables of all pairs, each the same in all rows or in all columns."""

    log_weights: jax.Array
    log_dets: jax.Array
    means: list[jax.Array]
    factors: dict[tuple[int, int], jax.Array]


def _spread(packed, spread):
    # A product with the identity is a copy. Loops that look up what they need in longer arrays are
    # not vectorised.
    packed = linalg.matmul(np.eye(len(packed), dtype=packed.dtype), packed)
    tables = [spread(values) for values in packed]
    dim = next(d for d in range(1, UNROLLED + 1) if 2 + d + d * (d + 1) // 2 == len(tables))
    log_weights, log_dets, *rest = tables
    places = [(i, j) for i in range(dim) for j in range(i + 1)]
    return _Side(log_weights, log_dets, rest[:dim], dict(zip(places, rest[dim:], strict=True)))


def _unrolled(p, q, alpha, beta):
    """`_tables`, where each entry of a matrix is a table `(K_p, K_q)`."""
    # Spread by products, for their transposes are products too: sums of tables over many numbers
    # take several times as long.
    ones_p, ones_q = (np.ones(side.shape[1], side.dtype) for side in (p, q))
    p = _spread(p, lambda values: linalg.matmul(values[:, None], ones_q[None]))
    q = _spread(q, lambda values: linalg.matmul(ones_p[:, None], values[None]))
    gaps = [a - b for a, b in zip(p.means, q.means, strict=True)]
    dim = len(gaps)
    shift = [sum(q.factors[i, d] * gaps[d] for d in range(i + 1)) for i in range(dim)]
    ratio = {}
    for i, j in p.factors:
        ratio[i, j] = sum(q.factors[i, d] * p.factors[d, j] for d in range(j, i + 1))
    half_log_det, distance = _solve(ratio, shift, alpha, beta)
    log_dets = (1 - alpha) * p.log_dets - beta * q.log_dets
    weights = alpha * p.log_weights + beta * q.log_weights
    return weights + log_dets - half_log_det - 0.5 * alpha * beta * distance


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
