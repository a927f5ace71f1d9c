"""The optimal coupling of two sets of masses, and how it changes with them."""

import jax
import jax.numpy as jnp

from gmmjax._matrices import linalg, triangular
from gmmjax._transport.transport import transport


@jax.custom_jvp
def coupling(cost: jax.Array, supply: jax.Array, demand: jax.Array) -> jax.Array:
    """The cheapest coupling of `(n,)` and `(m,)` masses, differentiable in the masses.

    It does not change with the costs, but where another one becomes the cheapest.
    """
    return transport(cost, supply, demand).coupling


@coupling.defjvp
def _coupling_jvp(primals, tangents):
    # Changes flow where mass already moves. That is a forest but by accident, and there is one way;
    # where a part of it cannot balance what changes, least squares decide.
    plan = coupling(*primals)
    _, more_supply, more_demand = tangents
    used = (plan > 0).astype(plan.dtype)
    change = linalg.matmul(_inverse_laplacian(used), jnp.concatenate([more_supply, -more_demand]))
    rows, columns = change[: len(more_supply)], change[len(more_supply) :]
    return plan, used * (rows[:, None] - columns[None])


def _inverse_laplacian(used):
    """The pseudo-inverse of the Laplacian of the graph that joins rows and columns where used."""
    rows, columns = used.shape
    none = jnp.zeros((rows, rows), used.dtype), jnp.zeros((columns, columns), used.dtype)
    joined = jnp.block([[none[0], used], [used.T, none[1]]])
    degrees = jnp.sum(joined, axis=1)
    identity = jnp.eye(rows + columns, dtype=used.dtype)
    reached = joined + identity
    for _ in range((rows + columns - 1).bit_length()):
        reached = (linalg.matmul(reached, reached) > 0).astype(used.dtype)
    # Projection on what is constant on each part, which is the kernel.
    constant = reached / jnp.sum(reached, axis=1)[:, None]
    lower = triangular.cholesky(identity * degrees[None] - joined + constant)
    inverse = triangular.tril_inverse(lower)
    return linalg.matmul(inverse.T, inverse) - constant
