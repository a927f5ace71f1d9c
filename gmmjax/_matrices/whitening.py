"""How far points are from components, in the components' own deviations.

Points are kept as `(D, n)`, so that the long axis is the contiguous one.
"""

import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._matrices import linalg, scales
from gmmjax._trees import is_zero

# From so many numbers on, parameters of diagonal components are worth a product of matrices,
LARGE = 2048
# where squared distances of means from 0, in standard deviations, are no more than this times D.
NEAR = 64
GROUP = 8  # coordinates at a time elsewhere


def whiten(inverse: jax.Array, means: jax.Array, x: jax.Array) -> jax.Array:
    """L_k⁻¹(x − μ_k) for points `(D, n)`, as `(K, D, n)`."""
    if inverse.ndim > means.ndim:
        return _whiten(inverse, means, x)
    return (x[None] - means[:, :, None]) * scales.rates(inverse)


@jax.custom_jvp
def _whiten(inverse, means, x):
    # Centred before the product: the expanded form loses all digits in float32 when data lie far
    # from 0.
    return linalg.matmul(inverse, x[None] - means[:, :, None])


@functools.partial(_whiten.defjvp, symbolic_zeros=True)
def _whiten_jvp(primals, tangents):
    # The derivative is arranged so that its transpose is one flat product per argument; that of the
    # batched product above is 3–5 times slower on a CPU. Terms of arguments that do not move are
    # left out.
    (inverse, means, x), (d_inverse, d_means, d_x) = primals, tangents
    white = _whiten(inverse, means, x)
    tangent = jnp.zeros_like(white)
    if not is_zero(d_inverse):
        centre = jnp.mean(means, axis=0)
        tangent += linalg.flat_product(d_inverse, x - centre[:, None])
        tangent -= linalg.matvec(d_inverse, means - centre[None])[:, :, None]
    if not is_zero(d_x):
        tangent += linalg.flat_product(inverse, d_x)
    if not is_zero(d_means):
        tangent -= linalg.matvec(inverse, d_means)[:, :, None]
    return white, tangent


def squared_distances(inverse: jax.Array, means: jax.Array, x: jax.Array) -> jax.Array:
    """‖L_k⁻¹(x − μ_k)‖² for points `(D, n)`, as `(K, n)`."""
    white = whiten(inverse, means, x)
    return jnp.sum(white * white, axis=1)


def cuts(dim: int) -> list[tuple[int, int]]:
    """Where to cut the coordinates of triangular factors, whose upper right quarter is zero."""
    # Products take the time in many dimensions. XLA also turns a sum over more than 32 numbers into
    # two passes.
    return [(0, dim // 2), (dim // 2, dim)] if dim >= 16 else [(0, dim)]


def row_blocks(inverse: jax.Array, shift: jax.Array) -> tuple[jax.Array, ...]:
    """Blocks of rows of (−s_k, L_k⁻¹), `(K, E, known)`, without the zeros that all end in.

    Of factors that are diagonal or of all components it is the inverse alone.
    """
    if inverse.ndim <= shift.ndim:
        return (inverse,)
    if len(inverse) < len(shift):
        return tuple(inverse[:, a:b, :b] for a, b in cuts(shift.shape[1]))
    rows = jnp.concatenate([-shift[:, :, None], inverse], axis=2)
    return tuple(rows[:, a:b, : b + 1] for a, b in cuts(shift.shape[1]))


def _whitened_parts(
    blocks: Sequence[jax.Array], shift: jax.Array, x: jax.Array
) -> Iterator[jax.Array]:
    """L_k⁻¹x − s_k for points `(D, n)`, as `(K, E, n)` for each block of E rows."""
    # With the shift in the product one more product holds the gradients in both.
    if len(blocks[0]) < len(shift):
        for m, (a, b) in zip(blocks, cuts(len(x)), strict=True):
            yield linalg.flat_product(m, x[:b]) - shift[:, a:b, None]
        return
    x = jnp.concatenate([jnp.ones_like(x[:1]), x])
    for m in blocks:
        yield linalg.flat_product(m, x[: m.shape[2]])


def squared_norms(blocks: Sequence[jax.Array], shift: jax.Array, x: jax.Array) -> jax.Array:
    """‖L_k⁻¹x − s_k‖² for points `(D, n)`, as `(K, n)`: squared distances where s_k = L_k⁻¹μ_k."""
    # Flat products, several times faster on a CPU than one per component. They lose the digits by
    # which a component is narrower than x is far from 0, as rounding x does: for points made here,
    # about 0, nothing more.
    if blocks[0].ndim <= shift.ndim:
        return _diagonal_norms(blocks[0].reshape(len(blocks[0]), -1), shift, x)
    white = _whitened_parts(blocks, shift, x)
    return functools.reduce(jnp.add, [jnp.sum(part * part, axis=1) for part in white])


def table_width(blocks: Sequence[jax.Array], shift: jax.Array) -> int:
    """How many numbers `squared_norms` of many components takes for each of them and a point."""
    is_product = blocks[0].ndim <= shift.ndim and shift.shape[1] > GROUP
    return 1 if is_product else shift.shape[1]


def _diagonal_norms(rates, shift, x):
    """‖r_k ∘ x − s_k‖² for rates `(K or 1, D or 1)`."""
    if shift.size < LARGE:
        return _of_differences(rates, shift, x)
    # Products need no (K, D, n) table, and lose the digits by which ‖s_k‖² is above D.
    is_near = jnp.max(jnp.sum(shift * shift, axis=1)) <= NEAR * shift.shape[1]
    near = everywhere(jax.lax.stop_gradient(is_near))
    return jax.lax.cond(near, _of_products, _of_groups, rates, shift, x)


def _of_differences(rates, shift, x):
    rates = jnp.broadcast_to(rates, shift.shape)
    # XLA turns a sum over more than 32 numbers into two passes, with a table between them.
    parts = np.array_split(np.arange(len(x)), -(-len(x) // 32))
    sums = []
    for a, b in [(part[0], part[-1] + 1) for part in parts]:
        white = rates[:, a:b, None] * x[None, a:b] - shift[:, a:b, None]
        sums.append(jnp.sum(white * white, axis=1))
    return functools.reduce(jnp.add, sums)


def _of_groups(rates, shift, x):
    """The same a few coordinates at a time: no table is kept, for derivatives neither."""
    missing = -len(x) % GROUP
    rates = jnp.broadcast_to(rates, shift.shape)
    tables = [jnp.pad(table.T, ((0, missing), (0, 0))) for table in (rates, shift)]
    groups = [
        t.reshape(-1, GROUP, t.shape[1]) for t in (*tables, jnp.pad(x, ((0, missing), (0, 0))))
    ]

    # What differentiating keeps of one branch of a condition, the other has to fill with zeros.
    @jax.checkpoint
    def step(total, group):
        rates, shift, x = group
        return total + _of_differences(rates.T, shift.T, x), None

    return jax.lax.scan(step, jnp.zeros((len(shift), x.shape[1]), x.dtype), groups)[0]


def _of_products(rates, shift, x):
    rates = jnp.broadcast_to(rates, shift.shape)
    squares = linalg.matmul(rates * rates, x * x) - 2 * linalg.matmul(rates * shift, x)
    return squares + jnp.sum(shift * shift, axis=1)[:, None]


@jax.custom_batching.custom_vmap
def everywhere(condition: jax.Array) -> jax.Array:
    """Whether a condition holds in the whole of a batch: `vmap` leaves one answer for all."""
    return condition


@everywhere.def_vmap
def _everywhere_in_batch(axis_size, in_batched, condition):
    return everywhere(jnp.all(condition)), False
