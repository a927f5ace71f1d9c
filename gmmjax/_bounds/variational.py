"""Hershey and Olsen's two variational forms, on tables of the divergences of components."""

import jax
import jax.numpy as jnp

from gmmjax._mixture.gmm import GMM

MAX_ITERATIONS = 1000


def mean_log_sum(p: GMM, q: GMM, table: jax.Array) -> jax.Array:
    """Σ_a w_a log Σ_b v_b exp(table_ab), for a table of the components of p and q."""
    return jnp.vdot(
        jax.nn.softmax(p.logits),
        jax.nn.logsumexp(jax.nn.log_softmax(q.logits)[None] + table, axis=1),
    )


def variational_upper(p: GMM, q: GMM, kl: jax.Array) -> jax.Array:
    """The smallest Σ φ_ab (log φ_ab/ψ_ab + KL(p_a ‖ q_b)) over φ with row sums w and ψ with column
    sums v.

    An upper bound of KL(p ‖ q) for any such φ and ψ, at which it is evaluated, so that it holds
    however far they were iterated. They carry no gradient, because the bound is smallest in them
    (Danskin).
    """
    log_w, log_v = jax.nn.log_softmax(p.logits), jax.nn.log_softmax(q.logits)
    fixed_w, fixed_v, fixed_kl = jax.tree.map(jax.lax.stop_gradient, (log_w, log_v, kl))
    rows = _minimise(fixed_w, fixed_v, fixed_kl)  # log φ_ab / w_a
    # log ψ_ab / v_b
    columns: jax.Array = fixed_w[:, None] + rows - _column_sums(fixed_w, rows)[None]
    used = (log_w > -jnp.inf)[:, None] & (log_v > -jnp.inf)[None]
    log_ratio = jnp.where(used, log_w[:, None] + rows - log_v[None] - columns, 0.0)
    return jnp.sum(jnp.exp(log_w)[:, None] * jnp.exp(rows) * (log_ratio + kl))


def _minimise(log_w: jax.Array, log_v: jax.Array, kl: jax.Array) -> jax.Array:
    """Log of φ_ab / w_a after alternating minimisation from φ = wv (convexity), which it never
    leaves upwards.
    """
    eps = jnp.finfo(kl.dtype).eps
    present = (log_v > -jnp.inf)[None]

    def slopes(rows: jax.Array) -> jax.Array:
        """Derivatives by φ, when ψ is at its best for φ."""
        total = _column_sums(log_w, rows)
        return kl + jnp.where(present, (total - log_v)[None], 0.0)

    def unfinished(state):
        slope: jax.Array
        step, rows, slope = state
        value = jnp.sum(jnp.exp(log_w[:, None] + rows) * slope)
        # The problem is convex, and linear in φ but for the column sums: the rows' best slopes
        # bound it below.
        best = jnp.min(jnp.where(present, slope, jnp.inf), axis=1)
        gap = value - jnp.vdot(jnp.exp(log_w), best)
        return (step < MAX_ITERATIONS) & (gap > (1e-8 + eps) * jnp.abs(value) + eps)

    def iterate(state):
        step, rows, slope = state
        rows = jax.nn.log_softmax(rows - slope, axis=1)
        return step + 1, rows, slopes(rows)

    start = jnp.broadcast_to(log_v[None], kl.shape)
    return jax.lax.while_loop(unfinished, iterate, (0, start, slopes(start)))[1]


def _column_sums(log_w: jax.Array, rows: jax.Array) -> jax.Array:
    return jax.nn.logsumexp(log_w[:, None] + rows, axis=0)
