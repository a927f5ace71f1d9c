"""What each component is responsible for: its mass and first two moments, over blocks of points."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gmmjax._matrices import linalg
from gmmjax._mixture import density
from gmmjax._mixture.gmm import GMM
from gmmjax._mixture.structure import is_full


class Cloud(NamedTuple):
    """Weighted rows of data in B blocks, each of which stands for all: Σ weight = 1."""

    x: jax.Array  # (B, D, n)
    weight: jax.Array  # (B, n)


class Sums(NamedTuple):
    """The loss, and moments about its mean of what each component is responsible for."""

    loss: jax.Array  # the mean of −log g
    mass: jax.Array  # (K,)
    first: jax.Array  # (K, D)
    second: jax.Array  # (K, D, D) where scales are full, else (K, D)


def expect(g: GMM, c: Cloud) -> Sums:
    """Sums over all blocks."""
    full = is_full(g)
    num_blocks = len(c.x)
    prepared = density.prepare(g).density

    def block(index, total):
        x = c.x[index]
        weight = c.weight[index] / num_blocks
        table = density.component_table(prepared, density.squared_distances(prepared, x))
        # These exponentials are shared by the density and the responsibilities.
        peak = jnp.max(table, axis=0)
        ratios = jnp.exp(table - peak[None])
        mass = jnp.sum(ratios, axis=0)
        loss = jnp.vdot(weight, -peak - jnp.log(mass))
        responsible = ratios * (weight / mass)[None]
        sums = Sums(loss, *moments(responsible, g.means, x, full))
        return jax.tree.map(jnp.add, total, sums)

    second = outer(g.means, g.means) if full else g.means
    start = Sums(jnp.zeros((), c.x.dtype), g.logits, g.means, second)
    return jax.lax.fori_loop(0, num_blocks, block, jax.tree.map(jnp.zeros_like, start))


def outer(a: jax.Array, b: jax.Array) -> jax.Array:
    """Products a_k b_kᵀ of `(K, D)` vectors, `(K, D, D)`."""
    return a[:, :, None] * b[:, None, :]


def moments(
    responsible: jax.Array, means: jax.Array, x: jax.Array, full: bool
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Sums, and first and second moments about the means, of points `(D, n)` weighted by `(K, n)`.

    Second moments are matrices where `full`, else their diagonals.
    """
    # Moments about 0, where the rows have their mean, take one product and are several times
    # faster. They cancel: 2 log₁₀(σ/σ_k) digits are lost, which float64 can spare, not float32.
    if x.dtype == jnp.float64:
        return _moved(*_moments_about_zero(responsible, x, full), means)
    centred = x[None] - means[:, :, None]
    spread = centred * responsible[:, None, :]
    second = linalg.matmul(spread, centred.mT) if full else jnp.sum(spread * centred, axis=2)
    return jnp.sum(responsible, axis=1), jnp.sum(spread, axis=2), second


def _moments_about_zero(responsible, x, full):
    dim, n = x.shape
    squares = x[:, None] * x[None] if full else x**2
    features = jnp.concatenate([jnp.ones((1, n), x.dtype), x, squares.reshape(-1, n)])
    sums = linalg.matmul(responsible, features.T)
    mass, first, second = jnp.split(sums, [1, 1 + dim], axis=1)
    return mass, first, second.reshape(-1, *squares.shape[:-1])


def _moved(mass, first, second, means):
    """Moments about the means instead of about 0."""
    product = outer if second.ndim > means.ndim else jnp.multiply
    crossed = product(first, means) + product(means, first)
    crossed = crossed - product(mass * means, means)
    return mass[:, 0], first - mass * means, second - crossed
