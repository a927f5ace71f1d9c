"""Bounds from tables of components and one direction, in any number of dimensions."""

import jax
import jax.numpy as jnp

from gmmjax._bounds.cross_entropy import (
    ORDERS,
    cross_entropy_bounds,
    mutual_information_bounds,
    own_integrals,
    weighted,
)
from gmmjax._bounds.projection import js_integrand, kl_integrand, projected
from gmmjax._bounds.variational import variational_upper
from gmmjax._compile import SOON, SOONER, compile_side_by_side, is_new, jit_with
from gmmjax._jax import is_traced
from gmmjax._logs import log_softmax, log_sum_exp
from gmmjax._matrices import scales
from gmmjax._mixture.gmm import GMM, index
from gmmjax._mixture.join import concatenate, stack_checked
from gmmjax._pairs import components
from gmmjax._pairs.ratios import factor_ratios, kl_table

Ends = tuple[jax.Array, jax.Array]


def kl_by_components(p: GMM, q: GMM) -> Ends:
    """A lower and an upper bound of KL(p‖q)."""
    return _at_least(_kl_projection, _kl_tables, p, q)


def js_by_components(p: GMM, q: GMM) -> Ends:
    """A lower and an upper bound of the Jensen–Shannon divergence."""
    return _at_least(_js_projection, _js_tables, p, q)


def _at_least(projection, tables, p, q):
    """Bounds from tables, the lower one no less than that of a projection."""
    if not is_traced(p, q) and is_new(tables, (p, q)):
        number = jax.ShapeDtypeStruct((), p.means.dtype)
        compile_side_by_side([(projection, p, q), (tables, p, q, number)])
    return tables(p, q, projection(p, q))


@jit_with(SOONER)
def _kl_projection(p, q):
    return projected(kl_integrand, p, q)


@jit_with(SOONER)
def _js_projection(p, q):
    return projected(js_integrand, p, q)


@jit_with(SOON)
def _kl_tables(p, q, least):
    both = stack_checked([p, q])  # one batch for p against either: half of the compilation
    p, q = index(both, 0), index(both, 1)
    ratios = jax.vmap(factor_ratios, (None, 0))(p, both)
    kl = jax.vmap(kl_table)(ratios)
    own, cross = index(ratios, 0), index(ratios, 1)
    integrals = own_integrals(own)
    low_information, up_information = mutual_information_bounds(p, own, kl[0], integrals)
    low_cross_entropy, up_cross_entropy = cross_entropy_bounds(p, q, cross, kl[1])
    lower = low_cross_entropy - up_information
    upper = jnp.minimum(up_cross_entropy - low_information, variational_upper(p, q, kl[1]))
    lower, upper = _widened(lower, upper, p, q)
    return jnp.maximum(jnp.maximum(lower, least), 0.0), upper


@jit_with(SOON)
def entropy_by_components(p: GMM) -> Ends:
    """A lower and an upper bound of the entropy."""
    known = weighted(p, components.entropies(p))
    own = factor_ratios(p, p)
    kl, integrals = kl_table(own), own_integrals(own)
    lower, upper = mutual_information_bounds(p, own, kl, integrals)
    return _widened(known + lower, known + upper, p, p)


@jit_with(SOON)
def _js_tables(p, q, least):
    # Write p, q and m over the same K_p + K_q components, absent where needed: one table of each
    # kind then serves all three.
    both = concatenate([p, q])
    half = jnp.asarray(0.5, both.means.dtype)
    no_p, no_q = (jnp.full_like(g.logits, -jnp.inf) for g in (p, q))
    only_p = jnp.concatenate([p.logits, no_q])
    only_q = jnp.concatenate([no_p, q.logits])
    mixed = both._replace(logits=jnp.log(half) + both.logits)
    own = factor_ratios(both, both)
    kl, integrals = kl_table(own), own_integrals(own)

    def information(logits):
        return mutual_information_bounds(both._replace(logits=logits), own, kl, integrals)

    def against_m(logits):
        return variational_upper(both._replace(logits=logits), mixed, kl)

    found = jax.vmap(information)(jnp.stack([only_p, only_q, mixed.logits]))
    (low_p, low_q, low_m), (up_p, up_q, up_m) = found
    variational = jax.vmap(against_m)(jnp.stack([only_p, only_q]))
    chernoff = integrals[ORDERS.index((0.5, 0.5))]
    affinity = _log_affinity(p, q, chernoff[: p.num_components, p.num_components :])
    by_affinity = -jnp.log(half) - jax.nn.softplus(affinity)
    lower = jnp.maximum(low_m - half * (up_p + up_q), by_affinity)
    upper = jnp.minimum(up_m - half * (low_p + low_q), jnp.mean(variational))
    lower, upper = _widened(lower, upper, p, q)
    lower = jnp.maximum(jnp.maximum(lower, least), 0.0)
    return lower, jnp.minimum(upper, -jnp.log(half))


def _log_affinity(p, q, table):
    """Logarithm of Σ_ab √(w_a v_b) ∫ √(p_a q_b), which ∫ √(pq) never exceeds."""
    log_w, log_v = log_softmax(p.logits), log_softmax(q.logits)
    terms = 0.5 * (log_w[:, None] + log_v[None]) + table
    return log_sum_exp(terms.ravel(), axis=0)


def _widened(lower, upper, p, q):
    """Bounds moved apart by what rounding may have done to them."""
    size = p.dim + _largest_log_det(p) + _largest_log_det(q)
    return lower - _slack(lower, size), upper + _slack(upper, size)


def _largest_log_det(g):
    return jnp.max(jnp.abs(scales.log_abs_det(g.scale, g.means)))


def _slack(value, size):
    eps = jnp.finfo(value.dtype).eps
    return 8 * eps * jax.lax.stop_gradient(size + jnp.abs(value))
