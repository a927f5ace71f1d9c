"""Which component each point of an estimate belongs to."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._matrices import linalg
from gmmjax._mixture.gmm import GMM

# So many components are compared pair by pair and chosen by products, which compile and run faster
# than sorting and gathering; more are not.
FEW = 1024


class Allocation(NamedTuple):
    """Component k owns the points of a replicate whose index over n lies in [lower_k, upper_k)."""

    lower: jax.Array
    upper: jax.Array
    order: jax.Array | None  # many components from first to last

    @property
    def share(self) -> jax.Array:
        """The part of the points that each component owns, `(K,)`."""
        return self.upper - self.lower

    def rates(self, logits: jax.Array) -> jax.Array:
        """The weight of a component over its share: what each of n points counts for, times n.

        It is 0 for absent components, which own nothing.
        """
        return linalg.safe_divide(jax.nn.softmax(logits), self.share)


def allocate(g: GMM, num_points: int) -> Allocation:
    """Give three quarters of the points by weight and one evenly: no rare mode is ever missed.

    Where there are enough of them, shares are rounded to powers of two and laid out from large to
    small: aligned blocks of 2ᵐ points of a Sobol sequence are nets in their own right, and so is
    then what each component gets. The allocation is a choice, not a part of the integral: it
    carries no gradient.
    """
    w = jax.lax.stop_gradient(jax.nn.softmax(g.logits))
    present = w > 0
    even = present.astype(w.dtype) / jnp.sum(present).astype(w.dtype)
    share = 0.75 * w + 0.25 * even
    # Shares are piecewise constant in the weights: a finite-difference step moves no point to
    # another component.
    if is_dyadic(g.num_components, num_points):
        share = _round_to_powers(share)
    else:
        share = _leading_bits(share, 6)
    order = None if g.num_components <= FEW else _from_large_to_small(share)
    rank = _rank(share)
    # Absent components come last and own nothing; the last present one owns what is left.
    last = jnp.sum(present) - 1
    upper = jnp.where(rank >= last, 1.0, _cumulative(share, rank, rank))
    lower = jnp.where(rank > last, 1.0, _cumulative(share, rank, rank - 1))
    return Allocation(lower, upper, order)


def is_dyadic(num_components: int, num_points: int) -> bool:
    """Whether every component can own 2ᵐ ≥ 1 of the points."""
    return num_points >= 8 * num_components


def run_length(num_components: int, num_points: int) -> int:
    """Length 2ᵐ of aligned runs of points that share a component; 0 if there is none."""
    if not is_dyadic(num_components, num_points):
        return 0
    # The least share is a quarter of an even one, rounded down to a power of two.
    return num_points // next_power_of_two(4 * num_components)


def next_power_of_two(count: int) -> int:
    """The least power of two that is not below a count."""
    return 1 << (count - 1).bit_length()


def _round_to_powers(share):
    """Round shares down to powers of two; double those that lost most, while the sum is ≤ 1."""
    power = _leading_bits(share, 0)
    rank = _rank(linalg.safe_divide(share, power))
    doubled = jnp.sum(power) + _cumulative(power, rank, rank) <= 1
    return jnp.where(doubled, 2 * power, power)


def _leading_bits(share, digits):
    """Keep the first so many bits of the mantissa after the leading one."""
    # A bit mask is exact; exp2(floor(log2)) is not.
    integer = jnp.int64 if share.dtype == jnp.float64 else jnp.int32
    dropped = np.finfo(share.dtype).nmant - digits
    bits = jax.lax.bitcast_convert_type(share, integer)
    return jax.lax.bitcast_convert_type(bits & (-1 << dropped), share.dtype)


def _rank(values):
    """The place of each value from large to small, ties in order."""
    places = np.arange(len(values))
    if len(values) > FEW:
        return jnp.zeros(len(values), int).at[_from_large_to_small(values)].set(places)
    larger = values[None] > values[:, None]
    tied_before = (values[None] == values[:, None]) & (places[None] < places[:, None])
    return jnp.sum(larger | tied_before, axis=1)


def _from_large_to_small(values):
    return jnp.argsort(-values, stable=True)


def _cumulative(values, rank, last):
    """Sum of the values of rank up to each of the last ones."""
    if len(values) > FEW:
        ordered = jnp.zeros_like(values).at[rank].set(values)
        return jnp.cumsum(jnp.pad(ordered, (1, 0)))[last + 1]
    return jnp.sum((rank[None] <= last[:, None]).astype(values.dtype) * values[None], axis=1)


def choose(allocation: Allocation, position: jax.Array) -> jax.Array:
    """The component that owns each of `(n,)` positions in [0, 1).

    One-hot, `(K, n)`, or of many components its index, `(n,)`: either is a choice below.
    """
    if allocation.order is not None:
        ends = allocation.upper[allocation.order]
        return allocation.order[jnp.searchsorted(ends, position, side="right")]
    above = position[None] >= allocation.lower[:, None]
    below = position[None] < allocation.upper[:, None]
    return (above & below).astype(position.dtype)


def chosen(index: jax.Array, num_components: int, dtype: jax.typing.DTypeLike) -> jax.Array:
    """The choice of the components with these indices, `(n,)`."""
    if num_components > FEW:
        return index
    return jax.nn.one_hot(index, num_components, axis=0, dtype=dtype)


def pick(table: jax.Array, choice: jax.Array) -> jax.Array:
    """Each point's entry of `(m, K)` tables, by its choice: `(m, n)`."""
    if choice.ndim == 1:
        return jnp.take(table, choice, axis=1)
    return linalg.matmul(table, choice)


def place(choice: jax.Array, means: jax.Array, scale: jax.Array, z: jax.Array) -> jax.Array:
    """Points μ_k + L_k z, `(D, C·m)`, from C groups of m normals `(D, C, m)`.

    Each group belongs to one component, by its choice.
    """
    located, moved = pick(means.T, choice), _deviations(choice, scale, z, means.ndim)
    return (located[:, :, None] + moved).reshape(len(z), -1)


def _deviations(choice, scale, z, means_ndim):
    """L_k z for groups of normals, `(D, C, m)`."""
    dim, _, group = z.shape
    if scale.ndim <= means_ndim:
        widths = scale.reshape(scale.shape[0], -1).T
        if len(scale) > 1:
            widths = pick(widths, choice)
        return widths[:, :, None] * z
    if len(scale) == 1:
        return linalg.matmul(scale[0], z.reshape(dim, -1)).reshape(z.shape)
    if group > 1 or choice.ndim == 1:
        factors = pick(scale.reshape(-1, dim * dim).T, choice).reshape(dim, dim, -1)
        # Points of a group stay side by side: whole rows are moved, not single numbers.
        moved = linalg.matmul(jnp.moveaxis(factors, 2, 0), jnp.swapaxes(z, 0, 1))
        return jnp.swapaxes(moved, 0, 1)
    # One product with (choice ⊗ z) gathers nothing: a (D, D) matrix per point would be n·D²
    # numbers.
    apart = (choice[:, None, :] * z[None, :, :, 0]).reshape(len(scale) * dim, -1)
    flat = scale.transpose(1, 0, 2).reshape(dim, len(scale) * dim)
    return linalg.matmul(flat, apart)[:, :, None]
