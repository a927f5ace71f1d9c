"""Sums over blocks of points, in constant memory, forward and in either mode of differentiation."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._mixture import linalg
from gmmjax._sampling.allocation import next_power_of_two, run_length
from gmmjax._sampling.settings import Sampling


class Layout(NamedTuple):
    """How R replicates of n points are cut into blocks of `rows` replicates by `columns` points."""

    num_replicates: int
    per_replicate: int
    rows: int
    columns: int
    # Consecutive points of all replicates that share a component; 0 where replicates differ.
    run_length: int

    @property
    def block_size(self):
        """Points in a block."""
        return self.rows * self.columns

    @property
    def num_points(self):
        """Points in all blocks."""
        return self.num_replicates * self.per_replicate

    @property
    def num_blocks(self):
        return self.num_points // self.block_size

    def position(self, index):
        """The first replicate of a block, and the index of its first point in each."""
        across = np.int32(self.per_replicate // self.columns)
        return jax.lax.div(index, across) * self.rows, jax.lax.rem(index, across) * self.columns

    def scatter(self, sums, first):
        """The sums of a block's rows, of which `first` is the first, among zeros, `(R,)`."""
        zeros = jnp.zeros(self.num_replicates, sums.dtype)
        return jax.lax.dynamic_update_slice(zeros, sums, (first,))

    def group(self, table):
        """Entries `(…, rows, columns)` by the component they share, `(…, groups, group size)`."""
        leading = table.shape[:-2]
        if not self.run_length:
            return table.reshape(*leading, -1, 1)
        runs = table.reshape(*leading, self.rows, -1, self.run_length)
        return jnp.moveaxis(runs, -3, -2).reshape(*leading, self.columns // self.run_length, -1)

    def row_sums(self, grouped):
        """Sum `(groups, group size)` entries over the points of each row, `(rows,)`."""
        if not self.run_length:
            return jnp.sum(grouped.reshape(self.rows, -1), axis=1)
        return jnp.sum(grouped.reshape(-1, self.rows, self.run_length), axis=(0, 2))


def layout(sampling: Sampling, mixtures) -> Layout:
    """The layout of at least `num_samples` points, in blocks that suit the largest mixture."""
    num_replicates = min(sampling.num_replicates, sampling.num_samples)
    per_replicate = next_power_of_two(-(-sampling.num_samples // num_replicates))
    sharing = sampling.num_sharing
    size = min(block_size(g.num_components, g.dim, sharing) for g in mixtures)
    rows, columns = _largest_block(num_replicates, per_replicate, size)
    runs = min(run_length(g.num_components, per_replicate) for g in mixtures)
    return Layout(num_replicates, per_replicate, rows, columns, min(runs, columns))


def _largest_block(num_replicates, per_replicate, size):
    """Rows and columns of the largest block that fits into a size."""
    best = (0, 0)
    for rows in range(1, min(num_replicates, size) + 1):
        if num_replicates % rows == 0:
            columns = min(per_replicate, _power_of_two_below(size // rows))
            # Few columns rather than few rows, for then few components are met.
            if rows * columns >= best[0] * best[1]:
                best = rows, columns
    return best


def _power_of_two_below(count):
    """The largest power of two that is not above a count."""
    return 1 << (count.bit_length() - 1)


def block_size(num_components: int, dim: int, num_sharing: int = 1) -> int:
    """How many points to handle at once for each of so many estimates, a power of two."""
    # (estimates, K, D, block) numbers are alive at a time: on a CPU they should stay in cache,
    # elsewhere launches count. Gradients hold several such tables, and want a quarter of what
    # values do; many estimates at once are for values.
    shared = num_sharing > 1
    if jax.default_backend() == "cpu":
        numbers, largest = (1 << 22 if shared else 1 << 18), 1 << 13
    else:
        numbers, largest = 1 << 25, 1 << 17
    smallest = 1 << 6 if shared else 1 << 8
    fitting = numbers // (num_components * dim * num_sharing)
    return min(largest, max(smallest, _power_of_two_below(max(fitting, 1))))


def num_pairs(num_components: int, dim: int) -> int:
    """How many estimates of the same points to make at once: blocks of 128 points still fit."""
    if jax.default_backend() != "cpu":
        return 64
    return min(64, max(4, (1 << 13) // (num_components * dim)))


def accumulate(block, num_blocks, shape, dtype):
    """A function that sums blocks, arrays of one shape, and gives their mean and the sum.

    Memory is constant, forward and in either mode of differentiation. The sum is linear in its
    blocks, so each block's gradient is taken while its points are at hand; a scan differentiated
    from outside would store all points or draw them twice.
    """
    # A constant: the rule below may close over no tracer.
    indices = np.arange(num_blocks, dtype=np.int32)

    def scan(step, *start):
        return jax.lax.scan(step, (jnp.zeros(shape, dtype), *start), indices)[0]

    @jax.custom_jvp
    def total(arguments):
        def step(carry, index):
            return (carry[0] + block(arguments, index),), None

        (means,) = scan(step)
        return jnp.mean(means), means

    @functools.partial(total.defjvp, symbolic_zeros=True)
    def _total_jvp(primals, tangents):
        leaves, tree = jax.tree.flatten(primals[0])
        directions = jax.tree.leaves(tangents[0], is_leaf=linalg.is_zero)
        active = [i for i, direction in enumerate(directions) if not linalg.is_zero(direction)]

        def mean_of_block(values, index):
            moved = list(leaves)
            for i, value in zip(active, values, strict=True):
                moved[i] = value
            means = block(jax.tree.unflatten(tree, moved), index)
            return jnp.mean(means), means

        def step(carry, index):
            differentiate = jax.value_and_grad(mean_of_block, has_aux=True)
            (_, means), gradient = differentiate(values, index)
            return jax.tree.map(jnp.add, carry, (means, gradient)), None

        values = [leaves[i] for i in active]
        means, gradient = scan(step, [jnp.zeros_like(value) for value in values])
        slope = jnp.zeros((), dtype)
        for i, leaf in zip(active, gradient, strict=True):
            slope += jnp.vdot(leaf, directions[i], precision=linalg.HIGHEST)
        return (jnp.mean(means), means), (slope, jnp.zeros_like(means))

    return total
