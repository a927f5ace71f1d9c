"""Weights of Gaussians that are all far away: differences of large exponents, to their last digits.

Forty standard deviations out exponents are of size 800, and float32 has them to 1e-4: so wrong
would be the weights, which their differences decide. Here they are sums of twice the precision, of
which only the differences are rounded (Dekker 1971; Ogita, Rump and Oishi 2005).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._logs import log_softmax

Parts = tuple[jax.Array, jax.Array]  # a sum of two numbers that is not carried out


class Square(NamedTuple):
    """dᵀ(B Bᵀ)⁻¹d of n Gaussians with d = there − here: the maximum of 2y·d − ‖Bᵀy‖² over y.

    An error of y counts squared.
    """

    there: jax.Array  # (n, E) or (1, E)
    here: jax.Array  # the same
    solved: jax.Array  # y ≈ (B Bᵀ)⁻¹d, (n, E)
    image: Parts  # Bᵀy, (n, M)


def image(rows: jax.Array, solved: jax.Array) -> Parts:
    """Bᵀy for B `(n or 1, E, M)` or, where it is diagonal, `(n or 1, E)`."""
    rows, solved = jax.lax.stop_gradient((rows, solved))
    if rows.ndim == 2:
        zeros = jnp.zeros(jnp.broadcast_shapes(rows.shape, solved.shape), rows.dtype)
        return _add_product((zeros, zeros), rows, solved)

    def add_row(e, total):
        return _add_product(total, _at(rows, e), _at(solved, e)[:, None])

    zeros = jnp.zeros((len(solved), rows.shape[2]), rows.dtype)
    return jax.lax.fori_loop(0, rows.shape[1], add_row, (zeros, zeros))


def log_weights(logits: jax.Array, log_dets: jax.Array, square: Square) -> jax.Array:
    """Normalised logarithms of exp(logits) N(d; 0, B Bᵀ) of n Gaussians, `(n,)`.

    Args:
      logits: `(n,)`, −inf where there is none.
      log_dets: log|det| of their factors, `(n,)` or `(1,)`.
      square: dᵀ(B Bᵀ)⁻¹d.
    """
    present = logits > -jnp.inf
    plain = logits - log_dets - 0.5 * jnp.sum((square.there - square.here) * square.solved, axis=1)
    given = jnp.where(present, logits, 0.0)
    # The value is that of long sums, the gradient that of plain ones.
    value, rest = _exponents(*jax.lax.stop_gradient((given, log_dets, square)))
    best = jnp.argmax(jnp.where(present, value, -jnp.inf))
    exact: jax.Array = (value - value[best]) + (rest - rest[best])
    moved = jnp.where(present, plain - jax.lax.stop_gradient(plain), 0.0)
    return log_softmax(jnp.where(present, exact + moved, -jnp.inf))


def _exponents(logits: jax.Array, log_dets: jax.Array, square: Square) -> Parts:
    """Logits − log_dets − y·d + ½‖Bᵀy‖², in parts."""
    there, here, solved, (large, small) = square
    shift = _sum(jnp.broadcast_to(there, solved.shape), -here)

    def add_shift(e, total):
        large, small = _add_product(total, _at(shift[0], e), -_at(solved, e))
        return large, small - _at(shift[1], e) * _at(solved, e)

    def add_square(m, total):
        number = _at(large, m)
        value, rest = _add_product(total, number, 0.5 * number)
        return value, rest + number * _at(small, m)

    total = _sum(logits, -jnp.broadcast_to(log_dets, logits.shape))
    total = jax.lax.fori_loop(0, solved.shape[1], add_shift, total)
    return jax.lax.fori_loop(0, large.shape[1], add_square, total)


def _at(table, i):
    """Column i of a table."""
    return jax.lax.dynamic_index_in_dim(table, i, axis=1, keepdims=False)


def _add_product(total, a, b):
    """Add a·b to a sum in two parts.

    The products of halves are exact, so that nothing is lost where the compiler joins a product and
    a sum into one instruction: that of whole numbers would then not be the one that was added.
    """
    high_a, low_a = _halves(a)
    high_b, low_b = _halves(b)
    for exact in (high_a * high_b, high_a * low_b, low_a * high_b):
        value, rounding = _sum(total[0], exact)
        total = value, total[1] + rounding
    return total[0], total[1] + low_a * low_b


def _sum(a, b):
    """A sum, and what rounding took from it."""
    total = a + b
    of_b = total - a
    return total, (a - (total - of_b)) + (b - of_b)


def _halves(a):
    """Two numbers of half as many digits."""
    integer = jnp.int64 if a.dtype == jnp.float64 else jnp.int32
    dropped = (np.finfo(a.dtype).nmant + 2) // 2
    bits = jax.lax.bitcast_convert_type(a, integer)
    high = jax.lax.bitcast_convert_type(bits & (-1 << dropped), a.dtype)
    return high, a - high
