"""Points of p, and what each component of another mixture is responsible for on them.

All in NumPy and double precision: products and exponentials take as long as compiled ones do, and
there is nothing to compile. Mixtures may have leading axes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._kept import kept_quickly
from gmmjax._mixture.gmm import GMM
from gmmjax._mixture.structure import is_full
from gmmjax._reduction import parts
from gmmjax._sampling import allocation
from gmmjax._sampling.points import sobol

# On the line: how far from its mean the points of a component reach, and how many it has at least.
MAX_DEVIATIONS = 6.0
MIN_NODES = 16
GOLDEN = 0.618  # of the distance between points: the shift of each block against the one before
MAX_KEPT = 1024  # features of points beyond which they are made anew: they would fill the memory


class Block(NamedTuple):
    """Weighted points that stand for p: Σ weight·f(x) estimates E_p[f]."""

    x: np.ndarray  # (D, n)
    kept: np.ndarray | None  # (F, n) features, where they are few
    pairs: bool  # whether products of two coordinates are among them
    weight: np.ndarray  # (n,)
    log_prob: np.ndarray  # (n,) of p, so that losses are KL


class Sums(NamedTuple):
    """The loss on each block, and moments about 0 of what components are responsible for."""

    losses: np.ndarray  # (…, B)
    rows: np.ndarray  # (…, K, F)


def draw(key, p: GMM, num_blocks: int, num_points: int) -> list[Block]:
    """Scrambled Sobol points of a checked mixture, allotted to its components in each block.

    On the line they are even: there the error of random ones is as large as KL can be made.
    """
    if p.dim == 1:
        placed = _evenly(p, num_blocks, num_points)
    else:
        placed = _placed(key, p, num_blocks=num_blocks, num_points=num_points)
    p = GMM._make(np.asarray(leaf, np.float64) for leaf in p)
    x, weight = (np.asarray(leaf, np.float64) for leaf in placed)
    return [_block(p, *both) for both in zip(x, weight, strict=True)]


def _evenly(p, num_blocks, num_points):
    """Points `(B, 1, n)` of the trapezoidal rule in each component, and their weights `(B, n)`.

    For what is smooth its error falls exponentially in their number. Points are about equally far
    apart in all components: nothing hides between those of a wide one.
    """
    c = parts.to_numpy(p)
    deviations = np.sqrt(c.covariances[:, 0, 0])
    number = np.ceil(num_points * deviations / deviations.sum()).astype(int)
    number = np.maximum(number, MIN_NODES)
    owner = np.repeat(np.arange(len(number)), number)
    places = np.arange(len(owner)) - (np.cumsum(number) - number)[owner]
    shifts = np.arange(num_blocks)[:, None] * GOLDEN % 1
    z = MAX_DEVIATIONS * (2 * (places + shifts) / number[owner] - 1)
    x = c.means[owner, 0] + deviations[owner] * z
    return x[:, None], (c.weights / number)[owner] * np.exp(-0.5 * z**2)


@kept_quickly
def _placed(key, p, *, num_blocks, num_points):
    """Points `(B, D, n)` and their weights `(B, n)`."""
    dtype, dim = p.means.dtype, p.dim
    z, weight = sobol(key, jnp.arange(num_blocks), 0, num_points, dim, dtype)
    owned = allocation.allocate(p, num_points)
    middles = (jnp.arange(num_points, dtype=dtype) + 0.5) / num_points
    chosen = allocation.choose(owned, middles)
    rate = owned.rates(p.logits)
    weight = weight * allocation.pick(rate[None], chosen)

    def place(z):
        return allocation.place(chosen, p.means, p.scale, z[:, :, None])

    return jax.lax.map(place, jnp.moveaxis(z, 1, 0)), weight


def _block(p, x, weight):
    pairs = is_full(p)
    num_features = 1 + p.dim + (p.dim * (p.dim + 1) // 2 if pairs else p.dim)
    kept = _features(x, pairs) if num_features <= MAX_KEPT else None
    block = Block(x, kept, pairs, weight / weight.sum(), np.zeros_like(weight))
    return block._replace(log_prob=log_prob(p, block))


def _features(x, pairs):
    """1, x and its squares, and products of two coordinates where factors are full; `(F, n)`."""
    ones = np.ones((1, x.shape[1]))
    if not pairs:
        return np.concatenate([ones, x, x * x])
    i, j = np.triu_indices(len(x))
    return np.concatenate([ones, x, x[i] * x[j]])


def log_prob(g: GMM, block: Block) -> np.ndarray:
    """Log-density at the points of a block, `(…, n)`."""
    table, peak, _ = _table(_coefficients(g), block)
    return peak + np.log(np.exp(table - peak[..., None, :]).sum(axis=-2))


def excess(g: GMM, block: Block) -> np.ndarray:
    """What each point of a block adds to KL(p ‖ g), `(n,)`: positive where p is missed."""
    return block.weight * (block.log_prob - log_prob(g, block))


def scores(g: GMM, block: Block) -> np.ndarray:
    """Derivatives of the log-density of a mixture on the line at the points of a block, `(3 K, n)`.

    By each component in turn: in its logit, and in its mean and the logarithm of its deviation, in
    units of this.
    """
    table, peak, _ = _table(_coefficients(g), block)
    shares = np.exp(table - peak)
    shares /= shares.sum(axis=0)
    weight = np.exp(g.logits - np.logaddexp.reduce(g.logits))
    z = (block.x - g.means) / np.abs(g.scale.reshape(-1, 1))
    rows = np.stack([shares - weight[:, None], shares * z, shares * (z * z - 1)], axis=1)
    return rows.reshape(-1, len(peak))


def expect(g: GMM, blocks: Sequence[Block]) -> Sums:
    """Sums over some blocks."""
    losses, total = [], 0.0
    coefficients = _coefficients(g)
    for block in blocks:
        table, peak, features = _table(coefficients, block)
        # These exponentials are shared by the density and the responsibilities.
        table -= peak[..., None, :]
        shares = np.exp(table, out=table)
        mass = shares.sum(axis=-2)
        losses.append((block.log_prob - peak - np.log(mass)) @ block.weight)
        shares *= (block.weight / mass)[..., None, :]
        total += shares.reshape(-1, shares.shape[-1]) @ features.T
    rows = np.reshape(total, (*g.logits.shape, -1)) / len(blocks)
    return Sums(np.stack(losses, axis=-1), rows)


def _table(coefficients, block):
    """Log-densities of weighted components at points `(…, K, n)`, their peaks, and features."""
    features = _features(block.x, block.pairs) if block.kept is None else block.kept
    *shape, num_features = coefficients.shape
    table = coefficients.reshape(-1, num_features) @ features
    table = table.reshape(*shape, -1)
    return table, table.max(axis=-2), features


def _coefficients(g):
    """Rows `(…, K, F)` whose products with features are log-densities of weighted components."""
    inverse = inverse_scale(g)
    if is_full(g):
        precision = inverse.mT @ inverse
        linear = (precision @ g.means[..., None])[..., 0]
        log_dets = -np.log(np.abs(np.diagonal(inverse, axis1=-2, axis2=-1))).sum(axis=-1)
        i, j = np.triu_indices(g.dim)
        squares = np.where(i == j, -0.5, -1.0) * precision[..., i, j]
    else:
        precision = inverse**2
        linear = precision * g.means
        log_dets = -np.log(inverse).sum(axis=-1)
        squares = -0.5 * precision
    distances = np.sum(linear * g.means, axis=-1)
    constant = -log_dets - 0.5 * (g.dim * np.log(2 * np.pi) + distances)
    logits = g.logits - np.logaddexp.reduce(g.logits, axis=-1, keepdims=True)
    return np.concatenate([(logits + constant)[..., None], linear, squares], axis=-1)


def inverse_scale(g: GMM) -> np.ndarray:
    """L⁻¹ of each component, `(…, K, D, D)`, or its diagonal, `(…, K, D)`."""
    if is_full(g):
        inverse = np.linalg.inv(np.tril(g.scale))
        return np.broadcast_to(inverse, (*g.means.shape, g.dim))
    scale = g.scale if g.scale.ndim == g.means.ndim else g.scale[..., None]
    return np.broadcast_to(1 / np.abs(scale), g.means.shape)


def central(g: GMM, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mass `(…, K)`, mean `(…, K, D)` and covariance, or variances, of rows of moments."""
    mass, first, second = np.split(rows, [1, 1 + g.dim], axis=-1)
    mass = np.maximum(mass, 1e-300)
    mean, second = first / mass, second / mass
    if not is_full(g):
        return rows[..., 0], mean, second - mean**2
    i, j = np.triu_indices(g.dim)
    square = np.empty((*mean.shape, g.dim))
    square[..., i, j] = square[..., j, i] = second
    return rows[..., 0], mean, square - mean[..., :, None] * mean[..., None, :]
