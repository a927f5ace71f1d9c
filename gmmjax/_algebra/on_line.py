"""Mixtures on many lines at once: distribution functions as normal scores, and their inverses."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gmmjax._matrices import linalg
from gmmjax._trees import is_zero


class OnLine(NamedTuple):
    """A mixture on n lines, or on one for n places."""

    weights: jax.Array  # (K,)
    means: jax.Array  # (K, n or 1)
    deviations: jax.Array  # (K, n or 1), positive


def lower_tail(z: jax.Array) -> jax.Array:
    """Φ(z), to its last digits in the lower tail."""
    return 0.5 * jax.lax.erfc(-z * 0.5**0.5)


def score(p: OnLine, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The normal score Φ⁻¹(F_p(x)), which is linear in x for a single Gaussian, and its slope."""
    z = (x[None] - p.means) / p.deviations
    tail = lower_tail(-jnp.abs(z))
    lower = linalg.matmul(p.weights, jnp.where(z < 0, tail, 1 - tail))
    upper = linalg.matmul(p.weights, jnp.where(z < 0, 1 - tail, tail))
    smaller = jnp.maximum(jnp.minimum(lower, upper), jnp.finfo(x.dtype).tiny)
    there = jnp.where(lower < upper, 1.0, -1.0) * jax.scipy.special.ndtri(smaller)
    density = linalg.matmul(p.weights, jnp.exp(-0.5 * z * z) / p.deviations)
    return there, density * jnp.exp(0.5 * there**2)


def quantile(p: OnLine, wanted: jax.Array) -> jax.Array:
    """The x with F_p(x) = Φ(wanted), `(n,)`, by Newton's method inside a bracket that shrinks."""
    present = (p.weights > 0)[:, None]
    # the quantile of a mixture lies among those of its components
    each = p.means + p.deviations * wanted[None]
    low = jnp.min(each, axis=0, where=present, initial=jnp.inf)
    high = jnp.max(each, axis=0, where=present, initial=-jnp.inf)
    eps = jnp.finfo(wanted.dtype).eps
    # Scores are known to a few units in the last place, wherever the components lie.
    known = 8 * eps * (1 + jnp.abs(wanted))

    def step(state):
        x, low, high, last, count = state
        here, slope = score(p, x)
        low, high = jnp.where(here <= wanted, x, low), jnp.where(here >= wanted, x, high)
        move = (wanted - here) / slope
        # Halve where Newton leaves the bracket or gains too little on the step before; NaN leaves
        # it too.
        good = (x + move >= low) & (x + move <= high) & (jnp.abs(move) <= 0.5 * jnp.abs(last))
        reached = jnp.abs(wanted - here) <= known
        middle = jnp.where(reached, x, low + 0.5 * (high - low))
        following = jnp.where(good, x + move, middle)
        return following, low, high, jnp.where(reached, 0, following - x), count + 1

    def unfinished(state):
        x, _, _, last, count = state
        return jnp.any(jnp.abs(last) > 2 * eps * jnp.abs(x)) & (count < 100)

    start = (low + 0.5 * (high - low), low, high, high - low, jnp.zeros((), jnp.int32))
    return jax.lax.while_loop(unfinished, step, start)[0]


def quantile_tangent(p: OnLine, means, deviations, x: jax.Array) -> jax.Array:
    """How quantiles x of fixed levels follow means and deviations: each by its responsibility.

    Either tangent may be a symbolic zero.
    """
    z = (x[None] - p.means) / p.deviations
    shares = jax.nn.softmax(
        jnp.log(p.weights)[:, None] - jnp.log(p.deviations) - 0.5 * z * z, axis=0
    )
    tangent = jnp.zeros_like(x)
    if not is_zero(means):
        tangent += jnp.sum(shares * means, axis=0)
    if not is_zero(deviations):
        tangent += jnp.sum(shares * z * deviations, axis=0)
    return tangent


def below(p: OnLine, x: jax.Array, from_above: jax.Array) -> jax.Array:
    """Φ_k(x), or where `from_above` Φ_k(x) − 1, of each component, `(K, n)`.

    The weights' tangents sum to 0, so that 1 may be taken from all: above the middle that leaves
    the small tails.
    """
    z = (x[None] - p.means) / p.deviations
    return jnp.where(from_above, -1.0, 1.0) * lower_tail(jnp.where(from_above, -z, z))
