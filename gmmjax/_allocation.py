"""Which component each point of an estimate belongs to."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._gmm import GMM
from gmmjax._linalg import HIGHEST


class Allocation(NamedTuple):
    """The part [lower_k, upper_k) of the points 0 … 1 of a replicate that goes to each component."""

    lower: jax.Array
    upper: jax.Array


def allocate(g: GMM, num_points: int) -> Allocation:
    """Give three quarters of the points by weight and one evenly, so that a rare mode is never missed.

    Where there are enough of them, shares are rounded to powers of two and laid out from large to small: aligned
    blocks of 2ᵐ points of a Sobol sequence are nets in their own right, and so is then what each component gets.
    The allocation is a choice, not a part of the integral: it carries no gradient.
    """
    w = jax.lax.stop_gradient(jax.nn.softmax(g.logits))
    present = w > 0
    share = 0.75 * w + 0.25 * present / jnp.sum(present).astype(w.dtype)
    # Either way a small step of the weights leaves the shares as they are: points do not change their component.
    share = _round_to_powers(share) if is_dyadic(g.num_components, num_points) else _truncated(share)
    rank = _rank(share)
    # Absent components come last and own nothing; the last present one owns what is left.
    last = jnp.sum(present) - 1
    upper = jnp.where(rank >= last, 1.0, _cumulative(share, rank, rank))
    lower = jnp.where(rank > last, 1.0, _cumulative(share, rank, rank - 1))
    return Allocation(lower, upper)


def is_dyadic(num_components: int, num_points: int) -> bool:
    """Whether every component can own 2ᵐ ≥ 1 of the points."""
    return num_points >= 8 * num_components


def _round_to_powers(share):
    """Powers of two near the shares that sum to at most 1: rounded down, then doubled, most short-changed first."""
    present = share > 0
    _, exponent = jnp.frexp(share)  # exact, where exp2 and log2 are not
    power = jnp.where(present, jnp.ldexp(jnp.ones_like(share), exponent - 1), 0.0)
    missing = jnp.where(present, share / jnp.where(present, power, 1.0), 0.0)
    rank = _rank(missing)
    doubled = jnp.sum(power) + _cumulative(power, rank, rank) <= 1
    return jnp.where(doubled, 2 * power, power)


def _truncated(share):
    """Shares cut to seven binary digits."""
    mantissa, exponent = jnp.frexp(share)
    return jnp.ldexp(jnp.floor(128 * mantissa) / 128, exponent)


def _rank(values):
    """The place of each value from large to small, ties in order."""
    # By comparing all pairs: sorting compiles slowly, and there are few components.
    places = np.arange(len(values))
    before = (values[None] > values[:, None]) | ((values[None] == values[:, None]) & (places[None] < places[:, None]))
    return jnp.sum(before, axis=1)


def _cumulative(values, rank, last):
    """Sum of the values of rank up to each of the last ones."""
    return jnp.matmul((rank[None] <= last[:, None]).astype(values.dtype), values, precision=HIGHEST)


def choose(allocation: Allocation, position: jax.Array) -> jax.Array:
    """One-hot choice `(K, n)` of the component that owns each of `(n,)` positions in [0, 1)."""
    inside = (position[None] >= allocation.lower[:, None]) & (position[None] < allocation.upper[:, None])
    return inside.astype(position.dtype)


def block_size(num_components: int, dim: int, together: int = 1) -> int:
    """How many points to handle at once for each of so many estimates, a power of two."""
    # (together, K, D, block) numbers are alive at a time: on a CPU they should stay in cache, elsewhere launches count.
    numbers, most = (19 + (together > 1), 13) if jax.default_backend() == "cpu" else (25, 17)
    fitting = ((1 << numbers) // (num_components * dim * together)).bit_length() - 1
    return 1 << min(most, max(6 if together > 1 else 8, fitting))


def pairs_together(num_components: int, dim: int) -> int:
    """How many estimates of the same points to make at once, so that blocks of 128 points still fit."""
    return min(64, max(4, (1 << 13) // (num_components * dim))) if jax.default_backend() == "cpu" else 64
