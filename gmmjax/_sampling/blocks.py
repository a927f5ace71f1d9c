"""Sums over blocks of points, in constant memory, forward and in either mode of differentiation."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._mixture import linalg
from gmmjax._sampling.allocation import owned_together
from gmmjax._sampling.settings import Sampling


class Layout(NamedTuple):
    """How R replicates of n points are cut into blocks of `rows` replicates by `columns` points."""

    replicates: int
    per_replicate: int
    rows: int
    columns: int
    # how many consecutive points of all replicates share a component; 0 where replicates differ
    owned: int

    @property
    def block(self):
        return self.rows * self.columns

    @property
    def num_blocks(self):
        return self.replicates * self.per_replicate // self.block

    def position(self, index):
        """The first replicate of a block, and the index of its first point in each."""
        across = np.int32(self.per_replicate // self.columns)
        return jax.lax.div(index, across) * self.rows, jax.lax.rem(index, across) * self.columns

    def all_rows(self, sums, first):
        """What the rows of a block, from the first, add to all `(R,)`."""
        return jax.lax.dynamic_update_slice(jnp.zeros(self.replicates, sums.dtype), sums, (first,))

    def groups(self, table):
        """Entries `(…, rows, columns)` by the component they share, `(…, groups, together)`."""
        if not self.owned:
            return table.reshape(*table.shape[:-2], -1, 1)
        parts = table.reshape(*table.shape[:-1], -1, self.owned)
        return jnp.moveaxis(parts, -3, -2).reshape(
            *table.shape[:-2], self.columns // self.owned, -1
        )

    def row_sums(self, grouped):
        """Of `(groups, together)` entries, `(rows,)`."""
        if not self.owned:
            return jnp.sum(grouped.reshape(self.rows, -1), axis=1)
        return jnp.sum(grouped.reshape(-1, self.rows, self.owned), axis=(0, 2))


def layout(settings: Sampling, mixtures) -> Layout:
    """The layout of at least `num_samples` points, in blocks that suit the largest of the
    mixtures.
    """
    replicates = min(settings.num_replicates, settings.num_samples)
    per_replicate = 1 << (-(-settings.num_samples // replicates) - 1).bit_length()
    size = min(block_size(g.num_components, g.dim, settings.together) for g in mixtures)
    # The largest block that fits, with few columns rather than few rows, and so of few components.
    divisors = [r for r in range(1, min(replicates, size) + 1) if replicates % r == 0]
    widths = {r: min(per_replicate, 1 << (size // r).bit_length() - 1) for r in divisors}
    rows = max(divisors, key=lambda r: (r * widths[r], r))
    owned = min(owned_together(g.num_components, per_replicate) for g in mixtures)
    return Layout(replicates, per_replicate, rows, widths[rows], min(owned, widths[rows]))


def block_size(num_components: int, dim: int, together: int = 1) -> int:
    """How many points to handle at once for each of so many estimates, a power of two."""
    # (together, K, D, block) numbers are alive at a time: on a CPU they should stay in cache,
    # elsewhere launches count. Gradients hold several such tables, and want a quarter of what
    # values do; many estimates at once are for values.
    numbers, most = (18 + 4 * (together > 1), 13) if jax.default_backend() == "cpu" else (25, 17)
    fitting = ((1 << numbers) // (num_components * dim * together)).bit_length() - 1
    return 1 << min(most, max(6 if together > 1 else 8, fitting))


def pairs_together(num_components: int, dim: int) -> int:
    """How many estimates of the same points to make at once, so that blocks of 128 points still
    fit.
    """
    return (
        min(64, max(4, (1 << 13) // (num_components * dim)))
        if jax.default_backend() == "cpu"
        else 64
    )


def accumulate(block, num_blocks, shape, dtype):
    """Sum blocks, arrays of one shape, in constant memory, forward and in either mode of
    differentiation.

    The sum is linear in its blocks, so each block's gradient is taken while its points are at hand;
    a scan differentiated from outside would store all points or draw them twice.
    """
    # a constant: the rule below may close over no tracer
    indices = np.arange(num_blocks, dtype=np.int32)

    def scan(step, *start):
        return jax.lax.scan(step, (jnp.zeros(shape, dtype), *start), indices)[0]

    @jax.custom_jvp
    def total(arguments):
        (means,) = scan(lambda carry, i: ((carry[0] + block(arguments, i),), None))
        return jnp.mean(means), means

    @functools.partial(total.defjvp, symbolic_zeros=True)
    def _total_jvp(primals, tangents):
        leaves, tree = jax.tree.flatten(primals[0])
        directions = jax.tree.leaves(tangents[0], is_leaf=linalg.is_zero)
        active = [i for i, direction in enumerate(directions) if not linalg.is_zero(direction)]

        def share(values, index):
            moved = dict(zip(active, values, strict=True))
            means = block(
                jax.tree.unflatten(tree, [moved.get(i, leaf) for i, leaf in enumerate(leaves)]),
                index,
            )
            return jnp.mean(means), means

        def step(carry, index):
            (_, means), gradient = jax.value_and_grad(share, has_aux=True)(values, index)
            return jax.tree.map(jnp.add, carry, (means, gradient)), None

        values = [leaves[i] for i in active]
        means, gradient = scan(step, [jnp.zeros_like(v) for v in values])
        slopes = [
            jnp.vdot(g, directions[i], precision=linalg.HIGHEST)
            for i, g in zip(active, gradient, strict=True)
        ]
        return (jnp.mean(means), means), (
            sum(slopes, jnp.zeros((), means.dtype)),
            jnp.zeros_like(means),
        )

    return total
