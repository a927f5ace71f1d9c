"""Sums over blocks of points, in constant memory, forward and in either mode of differentiation."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._sampling.allocation import run_length
from gmmjax._sampling.batching import estimate_in_batches, in_batches, with_gradient
from gmmjax._sampling.devices import num_devices, sum_over_devices
from gmmjax._sampling.settings import Sampling

MOST_SEGMENTS = 8
LEAST_REPLICATES = 4  # of each segment
LARGE = 2048  # numbers in the means of a mixture, of which a small block makes large tables


class Layout(NamedTuple):
    """How R replicates of n points are cut into blocks of `rows` replicates by `columns` points.

    They are dealt to S segments of all that the components own, R/S to each of them one after
    another: the points of a component then are S times as many of a sequence, and each sequence has
    its own scramble still.
    """

    num_replicates: int
    per_replicate: int
    num_segments: int
    rows: int
    columns: int
    # Consecutive points of the replicates of a segment that share a component; 0 where they differ.
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

    @property
    def num_allocated(self):
        """Points that the components share out: one replicate of every segment."""
        return self.num_segments * self.per_replicate

    @property
    def _rows_alike(self):
        """Rows of a block that lie in the same segment."""
        return min(self.rows, self.num_replicates // self.num_segments)

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
        runs = table.reshape(*leading, -1, self._rows_alike, *self._runs)
        alike = self._rows_alike * self.run_length
        return jnp.moveaxis(runs, -3, -2).reshape(*leading, -1, alike)

    def segments(self, row):
        """The segment of each row of a block of which this is the first, `(rows,)`."""
        alike = np.int32(self.num_replicates // self.num_segments)
        return jax.lax.div(row + np.arange(self.rows, dtype=np.int32), alike)

    @property
    def _runs(self):
        """How many runs there are in a row, and their length."""
        return self.columns // self.run_length, self.run_length

    def row_sums(self, grouped):
        """Sum `(groups, group size)` entries over the points of each row, `(rows,)`."""
        if not self.run_length:
            return jnp.sum(grouped.reshape(self.rows, -1), axis=1)
        count, length = self._runs
        return jnp.sum(grouped.reshape(-1, count, self._rows_alike, length), axis=(1, 3)).ravel()

    def by_segment(self, means):
        """The means of all replicates, `(R,)`, as those of each segment, `(R/S, S)`."""
        return means.reshape(self.num_segments, -1).T


def layout(sampling: Sampling, mixtures) -> Layout:
    """The layout of `num_samples` points, in blocks that suit the largest mixture.

    In segments the means of replicates have different expectations, for they see other components.
    """
    num_replicates = sampling.num_replicates
    per_replicate = sampling.num_samples // num_replicates
    sharing = sampling.num_sharing
    size = min(block_size(g.num_components, g.dim, sharing) for g in mixtures)
    devices = num_devices(sampling.points)
    size = max(1, min(size, num_replicates * per_replicate // devices))
    segments = _num_segments(num_replicates)
    rows, columns = _largest_block(num_replicates, per_replicate, segments, size)
    runs = min(run_length(g.num_components, segments * per_replicate) for g in mixtures)
    runs = min(runs, columns)
    found = Layout(num_replicates, per_replicate, segments, rows, columns, runs)
    if found.num_blocks % devices:
        raise ValueError(
            f"points: {found.num_blocks} blocks of points, in {num_replicates} replicates of "
            f"{per_replicate}, cannot be dealt evenly to {devices} devices"
        )
    return found


def _table_size(sampling: Sampling, layout: Layout, mixtures) -> int:
    """How many numbers the largest table of a block has; of a batch that shares points, its part.

    Whoever shares points has chosen how many estimates to make at once.
    """
    if sampling.num_sharing > 1:
        return 1
    return layout.block_size * max(g.means.size for g in mixtures)


def in_bounded_memory(function: Callable, sampling: Sampling, mixtures) -> Callable:
    """A function as `estimate_in_batches` takes it, a few of a batch at a time if one is large.

    Small ones are left alone: the sums of their blocks are all that needs memory.
    """
    size = max(g.means.size for g in mixtures)
    if sampling.num_sharing > 1 or size < LARGE:
        return function
    # Tables of points, or of pairs of components.
    most = max(g.num_components for g in mixtures)
    return estimate_in_batches(function, size * max(1 << 8, min(most, 1 << 10)))


def _num_segments(num_replicates):
    """A power of two up to 8, with four replicates or more in each segment."""
    # Of fewer replicates the spread of a segment that carries all of the error is known too badly.
    # The number of components has no part in it: absent ones change nothing.
    segments = MOST_SEGMENTS
    while num_replicates % (segments * LEAST_REPLICATES) and segments > 1:
        segments //= 2
    return segments


def _largest_block(num_replicates, per_replicate, num_segments, size):
    """Rows and columns of the largest block of one segment, or of whole ones, that fits a size."""
    alike = num_replicates // num_segments
    best = (0, 0)
    for rows in range(1, min(num_replicates, size) + 1):
        if alike % rows == 0 or (rows % alike == 0 and num_replicates % rows == 0):
            columns = min(per_replicate, _power_of_two_below(size // rows))
            if rows > alike and columns < per_replicate:
                continue
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


def accumulate(block, sampling: Sampling, layout: Layout, mixtures):
    """A function that sums blocks, arrays `(R,)`, and gives their mean and the sum.

    Memory is constant, forward and in either mode of differentiation. The sum is linear in its
    blocks, so each block's gradient is taken while its points are at hand; a scan differentiated
    from outside would store all points or draw them twice. Of a batch so many sums are made at a
    time as memory allows.
    """
    numbers = _table_size(sampling, layout, mixtures)
    # A constant: the rule below may close over no tracer.
    indices = np.arange(layout.num_blocks, dtype=np.int32)
    nothing = np.zeros(layout.num_replicates, mixtures[0].means.dtype)

    def total(arguments):
        def scan(arguments, indices):
            def step(means, index):
                return means + block(arguments, index), None

            return jax.lax.scan(step, jnp.asarray(nothing), indices)[0]

        means = sum_over_devices(sampling.points, scan)(arguments, indices)
        return jnp.mean(means), means

    def value_and_gradient(put, values, leaves):
        def mean_of_block(values, leaves, index):
            means = block(put(values, leaves), index)
            return jnp.mean(means), means

        def scan(arguments, indices):
            values, leaves = arguments

            def step(carry, index):
                differentiate = jax.value_and_grad(mean_of_block, has_aux=True)
                (_, means), gradient = differentiate(values, leaves, index)
                return jax.tree.map(jnp.add, carry, (means, gradient)), None

            start = jnp.asarray(nothing), [jnp.zeros_like(value) for value in values]
            return jax.lax.scan(step, start, indices)[0]

        def of_all(values, leaves):
            sums = sum_over_devices(sampling.points, scan)
            means, gradient = sums((values, leaves), indices)
            return (jnp.mean(means), means), gradient

        return in_batches(of_all, 2 * numbers)(values, leaves)

    return with_gradient(in_batches(total, numbers), value_and_gradient)
