"""Which component each point of an estimate belongs to."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._mixture import linalg
from gmmjax._mixture.gmm import GMM


class Allocation(NamedTuple):
    """The part [lower_k, upper_k) of the points 0 … 1 of a replicate that goes to each
    component.
    """

    lower: jax.Array
    upper: jax.Array


def allocate(g: GMM, num_points: int) -> Allocation:
    """Give three quarters of the points by weight and one evenly, so that a rare mode is never
    missed.

    Where there are enough of them, shares are rounded to powers of two and laid out from large to
    small: aligned blocks of 2ᵐ points of a Sobol sequence are nets in their own right, and so is
    then what each component gets. The allocation is a choice, not a part of the integral: it
    carries no gradient.
    """
    w = jax.lax.stop_gradient(jax.nn.softmax(g.logits))
    present = w > 0
    share = 0.75 * w + 0.25 * present / jnp.sum(present).astype(w.dtype)
    # Either way a small step of the weights leaves the shares as they are: points do not change
    # their component.
    share = (
        _round_to_powers(share) if is_dyadic(g.num_components, num_points) else _truncated(share, 6)
    )
    rank = _rank(share)
    # Absent components come last and own nothing; the last present one owns what is left.
    last = jnp.sum(present) - 1
    upper = jnp.where(rank >= last, 1.0, _cumulative(share, rank, rank))
    lower = jnp.where(rank > last, 1.0, _cumulative(share, rank, rank - 1))
    return Allocation(lower, upper)


def is_dyadic(num_components: int, num_points: int) -> bool:
    """Whether every component can own 2ᵐ ≥ 1 of the points."""
    return num_points >= 8 * num_components


def owned_together(num_components: int, num_points: int) -> int:
    """How many points, from a multiple of their number, are sure to be of one component: 2ᵐ, or 0
    where none are.
    """
    # The least share is a quarter of an even one, rounded down to a power of two.
    return (
        num_points >> (4 * num_components - 1).bit_length()
        if is_dyadic(num_components, num_points)
        else 0
    )


def _round_to_powers(share):
    """Powers of two near the shares that sum to at most 1: rounded down, then doubled, most
    short-changed first.
    """
    power = _truncated(share, 0)
    rank = _rank(share / (power + (power == 0)))
    doubled = jnp.sum(power) + _cumulative(power, rank, rank) <= 1
    return jnp.where(doubled, 2 * power, power)


def _truncated(share, digits):
    """Shares cut to so many binary digits after the first: exact, where exponentials and logarithms
    are not.
    """
    kept = np.finfo(share.dtype).nmant - digits
    bits = jax.lax.bitcast_convert_type(
        share, jnp.int64 if share.dtype == jnp.float64 else jnp.int32
    )
    return jax.lax.bitcast_convert_type(bits & (-1 << kept), share.dtype)


def _rank(values):
    """The place of each value from large to small, ties in order."""
    # By comparing all pairs: sorting compiles slowly, and there are few components.
    places = np.arange(len(values))
    before = (values[None] > values[:, None]) | (
        (values[None] == values[:, None]) & (places[None] < places[:, None])
    )
    return jnp.sum(before, axis=1)


def _cumulative(values, rank, last):
    """Sum of the values of rank up to each of the last ones."""
    return linalg.matmul((rank[None] <= last[:, None]).astype(values.dtype), values)


def choose(allocation: Allocation, position: jax.Array) -> jax.Array:
    """One-hot choice `(K, n)` of the component that owns each of `(n,)` positions in [0, 1)."""
    inside = (position[None] >= allocation.lower[:, None]) & (
        position[None] < allocation.upper[:, None]
    )
    return inside.astype(position.dtype)


def place(choice: jax.Array, means: jax.Array, scale: jax.Array, z: jax.Array) -> jax.Array:
    """μ_k + L_k z of C groups of m normals `(D, C, m)`, as `(D, C·m)`, by each group's one-hot
    choice `(K, C)`.
    """
    dim, _, together = z.shape
    located = pick(means.T, choice)[:, :, None]
    if scale.ndim <= means.ndim:
        diagonal = scale.reshape(scale.shape[0], -1).T
        spread = (diagonal if len(scale) == 1 else pick(diagonal, choice))[:, :, None] * z
    elif len(scale) == 1:
        spread = linalg.matmul(scale[0], z.reshape(dim, -1)).reshape(z.shape)
    elif together > 1:
        factors = pick(scale.reshape(-1, dim * dim).T, choice).reshape(dim, dim, -1)
        spread = jnp.einsum("dec,ecm->dcm", factors, z, precision=linalg.HIGHEST)
    else:
        # One product with (choice ⊗ z) gathers nothing: a (D, D) matrix per point would be n·D²
        # numbers.
        spread = (choice[:, None, :] * z[None, :, :, 0]).reshape(len(scale) * dim, -1)
        flat = scale.transpose(1, 0, 2).reshape(dim, len(scale) * dim)
        spread = linalg.matmul(flat, spread)[:, :, None]
    return (located + spread).reshape(dim, -1)


def pick(table: jax.Array, choice: jax.Array) -> jax.Array:
    """Each point's entry of `(m, K)` tables, by its one-hot choice `(K, n)`."""
    return linalg.matmul(table, choice)
