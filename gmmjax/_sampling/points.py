"""Point sets: where under a standard normal an estimate looks.

A point set is a function `(key, replicates, start, count, dim, dtype) -> (z, weight)`: points start
… start + count of each replicate as `(dim, R, count)`, with weights `(R, count)` such that
weight·f(z) has the mean of f under a standard normal. Replicates are independent, and `count` is a
power of two that divides `start`.

The direction numbers in `_sobol.npy` are those of S. Joe and F. Y. Kuo, "Constructing Sobol
sequences with better two-dimensional projections", SIAM J. Sci. Comput. 30, 2635 (2008), as
scipy.stats.qmc.Sobol holds them.
"""

import functools
from importlib import resources

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._compile import computed_once
from gmmjax._sampling.normal import normal


def iid(key, replicates, start, count, dim, dtype):
    r"""Independent normal points, the plain Monte-Carlo choice: variance :math:`\sigma^2/n`.

    Pass it as `points=gmmjax.iid` to any estimate.

    Args:
      key: a JAX key.
      replicates: `(R,)` integers, which replicates to draw.
      start: index of the first point of each.
      count: how many points of each.
      dim: D.
      dtype: of the result.

    Returns:
      Points `(D, R, count)` and their weights, `(R, count)` ones.

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> z, weight = gmmjax.iid(jax.random.key(0), jnp.arange(4), 0, 8, 3, jnp.float32)
      >>> z.shape, weight.shape
      ((3, 4, 8), (4, 8))
    """

    def draw(replicate):
        stream = jax.random.fold_in(jax.random.fold_in(key, replicate), start)
        return jax.random.bits(
            stream, (dim, count), jnp.uint64 if dtype == jnp.float64 else jnp.uint32
        )

    z = _normal(jax.vmap(draw, out_axes=1)(replicates), dtype, replicates)
    return z, jnp.ones(z.shape[1:], dtype)


def sobol(key, replicates, start, count, dim, dtype):
    r"""Sobol points under an Owen scramble of their own in each replicate: the default.

    Every point is uniform in the cube before it is mapped, so that estimates stay unbiased, while
    the points of one replicate fill the cube evenly: for smooth integrands the variance falls
    nearly like :math:`n^{-3}` instead of :math:`n^{-1}`. Tails would spoil that in low dimension (a
    function that grows like z² at the ends of the cube has variance :math:`n^{-2}`), and so the
    points are drawn from a normal of variance :math:`1 + 2/D^2` and weighted.

    Args:
      key: a JAX key.
      replicates: `(R,)` integers, which replicates to draw.
      start: index of the first point of each, a multiple of `count`.
      count: how many points of each, a power of two.
      dim: D, at most 1024; beyond that use `points=gmmjax.iid`.
      dtype: of the result.

    Returns:
      Points `(D, R, count)` and their weights `(R, count)`, of mean 1.

    Raises:
      ValueError: `dim` is above 1024.

    Reference:
      Owen (1997), "Monte Carlo variance of scrambled net quadrature"; the hash that stands for the
      nested permutations is of the kind of Laine and Karras (2011), "Stratified sampling for
      stochastic transparency", and Burley (2020), "Practical hash-based Owen scrambling".

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> z, weight = gmmjax.sobol(jax.random.key(0), jnp.arange(4), 0, 8, 3, jnp.float32)
      >>> z.shape, weight.shape
      ((3, 4, 8), (4, 8))
    """
    table = _directions()
    if dim > len(table):
        raise ValueError(
            f"points: Sobol points go up to D = {len(table)}, got {dim}; use points=gmmjax.iid"
        )
    seeds = _seeds(key, replicates, dim)
    reversed_bits = _sobol_integers(table[:dim], start, count)[:, None, :]
    bits = _reverse(_owen_hash(reversed_bits, seeds[0]))
    # bits after the 32nd are independent between points under a nested scramble
    if dtype == jnp.float64:
        bits = (bits.astype(jnp.uint64) << 32) | _mix(reversed_bits ^ seeds[1]).astype(jnp.uint64)
    variance = 1 + 2 / dim**2
    z = _normal(bits, dtype, replicates) * variance**0.5
    return z, variance ** (0.5 * dim) * jnp.exp((0.5 / variance - 0.5) * jnp.sum(z * z, axis=0))


def _normal(bits, dtype, replicates):
    # Words would be hashed wherever a number is used, K + 1 times.
    return computed_once(replicates[0] >= 0, functools.partial(normal, dtype=dtype), bits)


@functools.cache
def _directions():
    """`(1024, 32)` direction numbers, bit-reversed as the scramble wants them."""
    return np.load(str(resources.files("gmmjax._sampling") / "_sobol.npy"))


def _sobol_integers(directions, start, count):
    """Points start … start + count of the plain sequence, bit-reversed, `(dim, count)` uint32."""
    bits = count.bit_length() - 1
    low = _combinations(directions[:, : bits // 2])
    high = _combinations(directions[:, bits // 2 : bits])
    points = (jnp.asarray(high)[:, :, None] ^ jnp.asarray(low)[:, None, :]).reshape(
        len(directions), count
    )
    chosen = (jnp.asarray(start, jnp.uint32) >> jnp.arange(bits, 32, dtype=jnp.uint32)) & 1
    offset = jax.lax.reduce(
        chosen[None] * jnp.asarray(directions[:, bits:]), np.uint32(0), jax.lax.bitwise_xor, (1,)
    )
    return points ^ offset[:, None]


def _combinations(directions):
    """Exclusive-or of every subset of the columns, in binary order."""
    table = np.zeros((len(directions), 1), np.uint32)
    for column in directions.T:
        table = np.concatenate([table, table ^ column[:, None]], axis=1)
    return table


def _seeds(key, replicates, dim):
    """Two words for each coordinate and replicate, `(2, dim, R, 1)`, hashed from the key."""
    # A hash, for compiling the generator of JAX over a batch of keys takes longer than all that
    # follows.
    words = jax.random.bits(key, (2,), jnp.uint32)
    streams = _mix(words[0] ^ _mix(words[1] + replicates.astype(jnp.uint32)))
    coordinates = np.arange(2 * dim, dtype=np.uint32) * np.uint32(0x9E3779B9)
    return _mix(streams[None] + _mix(words[1] ^ coordinates)[:, None]).reshape(2, dim, -1, 1)


def _owen_hash(x, seed):
    """A nested uniform scramble of bit-reversed integers: a hash of the bits below flips each."""
    x = x ^ (x * np.uint32(0x3D20ADEA))
    x = x + seed
    x = x * ((seed >> 16) | np.uint32(1))
    x = x ^ (x * np.uint32(0x05526C56))
    return x ^ (x * np.uint32(0x53A22864))


def _reverse(x):
    for shift, mask in ((1, 0x55555555), (2, 0x33333333), (4, 0x0F0F0F0F), (8, 0x00FF00FF)):
        x = ((x >> shift) & np.uint32(mask)) | ((x & np.uint32(mask)) << shift)
    return (x >> 16) | (x << 16)


def _mix(x):
    """A full-avalanche hash of 32-bit words."""
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)
