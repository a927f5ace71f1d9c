"""Hershey and Olsen's two variational forms, on tables of the divergences of components."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gmmjax._logs import log_softmax, log_sum_exp
from gmmjax._mixture.gmm import GMM

MAX_ITERATIONS = 1000


def mean_log_sum(p: GMM, q: GMM, table: jax.Array) -> jax.Array:
    """Σ_a w_a log Σ_b v_b exp(table_ab), for a table of the components of p and q."""
    log_v = log_softmax(q.logits)
    rows = log_sum_exp(log_v[None] + table, axis=1)
    return jnp.vdot(jax.nn.softmax(p.logits), rows)


def variational_upper(p: GMM, q: GMM, kl: jax.Array) -> jax.Array:
    """The smallest Σ φ_ab (log φ_ab/ψ_ab + KL(p_a ‖ q_b)) over φ with row sums w and ψ with column
    sums v.

    An upper bound of KL(p ‖ q) for any such φ and ψ, at which it is evaluated, so that it holds
    however far they were iterated. They carry no gradient, because the bound is smallest in them
    (Danskin).
    """
    log_w, log_v = log_softmax(p.logits), log_softmax(q.logits)
    fixed_w, fixed_v, fixed_kl = jax.lax.stop_gradient((log_w, log_v, kl))
    phi = _minimise(fixed_w, fixed_v, fixed_kl)  # log φ_ab / w_a
    psi = fixed_w[:, None] + phi - _column_sums(fixed_w, phi)[None]  # log ψ_ab / v_b
    present = (log_w > -jnp.inf)[:, None] & (log_v > -jnp.inf)[None]
    log_ratio = log_w[:, None] + phi - log_v[None] - psi
    terms = jnp.where(present, log_ratio, 0.0) + kl
    return jnp.sum(jnp.exp(log_w)[:, None] * jnp.exp(phi) * terms)


class _State(NamedTuple):
    step: int | jax.Array
    phi: jax.Array  # log φ_ab / w_a
    unfinished: jax.Array


def _minimise(log_w: jax.Array, log_v: jax.Array, kl: jax.Array) -> jax.Array:
    """Log φ_ab / w_a after alternating minimisation from φ = wv, below whose value, the convexity
    bound, it stays.
    """
    eps = jnp.finfo(kl.dtype).eps
    present = (log_v > -jnp.inf)[None]

    def iterate(state: _State) -> _State:
        # Derivatives by φ, when ψ is at its best for φ.
        total = _column_sums(log_w, state.phi)
        slope = kl + jnp.where(present, (total - log_v)[None], 0.0)
        value = jnp.sum(jnp.exp(log_w[:, None] + state.phi) * slope)
        # The problem is convex, and linear in φ but for the column sums: the rows' best slopes
        # bound it below.
        best = jnp.min(jnp.where(present, slope, jnp.inf), axis=1)
        gap = value - jnp.vdot(jnp.exp(log_w), best)
        unfinished = gap > (1e-8 + eps) * jnp.abs(value) + eps
        phi = jax.nn.log_softmax(state.phi - slope, axis=1)
        return _State(state.step + 1, jnp.where(unfinished, phi, state.phi), unfinished)

    def goes_on(state: _State) -> jax.Array:
        return (state.step < MAX_ITERATIONS) & state.unfinished

    start = jnp.broadcast_to(log_v[None], kl.shape)
    return jax.lax.while_loop(goes_on, iterate, _State(0, start, jnp.array(True))).phi


def _column_sums(log_w: jax.Array, phi: jax.Array) -> jax.Array:
    """Logarithm of Σ_a φ_ab."""
    return jax.nn.logsumexp(log_w[:, None] + phi, axis=0)
