"""Trees of arrays as one value: a choice of two, and what moves when one is differentiated."""

from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

Tree = TypeVar("Tree")


def choose(condition: jax.Array, yes: Tree, no: Tree) -> Tree:
    """One of two trees of the same structure; of `(K, …)` leaves, for a condition `(K,)`, by k."""

    def of_leaf(a, b):
        missing = jnp.ndim(a) - jnp.ndim(condition)
        return jnp.where(jnp.reshape(condition, jnp.shape(condition) + (1,) * missing), a, b)

    return jax.tree.map(of_leaf, yes, no)


def is_zero(tangent: Any) -> bool:
    """Whether a tangent of a custom rule is known to be zero."""
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero)


def moving(tangents: Any) -> dict[int, jax.Array]:
    """Where the leaves of a tree stand that are not known to stay, and how they move."""
    directions = jax.tree.leaves(tangents, is_leaf=is_zero)
    return {i: direction for i, direction in enumerate(directions) if not is_zero(direction)}


def replaced(leaves: Sequence, places: Sequence[int], values: Sequence) -> list:
    """The leaves, with values in some places."""
    leaves = list(leaves)
    for i, value in zip(places, values, strict=True):
        leaves[i] = value
    return leaves


def slope(
    value: jax.Array, gradient: Sequence[jax.Array], directions: Sequence[jax.Array]
) -> jax.Array:
    """The derivative of a value along directions, from its gradient in the leaves that move."""
    total = jnp.zeros_like(value)
    for leaf, direction in zip(gradient, directions, strict=True):
        total += jnp.vdot(leaf, direction, precision=jax.lax.Precision.HIGHEST)
    return total
