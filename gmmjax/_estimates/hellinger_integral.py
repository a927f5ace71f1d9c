"""The Hellinger integral ∫ p^α q^(1−α) of order α, and what divergences make of it.

It is written in two forms, one for p ≈ q and one for large ratios. All of it are functions of
t = log p − log q and of the order, smooth through α = 1, where its derivative is KL. The name is
that of Liese and Vajda (2006).
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gmmjax._estimates.importance import Problem, balanced_estimate, log_ratio
from gmmjax._logs import log_softmax
from gmmjax._mixture.density import Prepared
from gmmjax._mixture.gmm import GMM
from gmmjax._pairs import components
from gmmjax._pairs.pair_sums import log_product_blocks, log_products
from gmmjax._sampling import unseen
from gmmjax._sampling.estimate import Replicates, conclude
from gmmjax._sampling.settings import Sampling


class Order(NamedTuple):
    """The order of an integral, and the form in which it is written."""

    alpha: jax.Array
    near: jax.Array  # whether the integral is near 1, and only what it differs by is averaged
    shift: jax.Array  # else the logarithm by which the integrand is scaled down


def order_of(p: Prepared, q: Prepared, alpha: jax.Array) -> Order:
    """Choose the form by the size of the integrand at the means of the components."""
    means = jnp.concatenate([p.mixture.means, q.mixture.means])
    log_weights = [log_softmax(g.mixture.logits) for g in (p, q)]
    t = log_ratio(p.density, q.density, means.T)
    scores = _log_power(t, alpha) + jnp.concatenate(log_weights)
    shift = jax.nn.logsumexp(scores) - jnp.log(2.0).astype(alpha.dtype)
    shift = jax.lax.stop_gradient(shift)
    return Order(alpha, (jnp.abs(shift) < 0.7) | (alpha == 1), shift)


def _log_power(t, alpha):
    """log(p^α q^(1−α) / m)."""
    return jnp.log(2.0).astype(t.dtype) + jax.nn.log_sigmoid(t) + (alpha - 1) * t


def integrand(t: jax.Array, order: Order) -> jax.Array:
    """(p^α q^(1−α) − p)/((α − 1) m) − (p − q)/m near 1, else p^α q^(1−α)/m, scaled."""
    # What is subtracted in the first form integrates to 0 and leaves a second-order difference
    # where p ≈ q.
    alpha, near, shift = order
    near_one = 2 * _scaled_growth(t, alpha) - 2 * jnp.tanh(0.5 * t)
    far = jnp.exp(jnp.where(near, 0.0, jnp.minimum(_log_power(t, alpha) - shift, _cap(alpha))))
    return jnp.where(near, near_one, far)


def _cap(alpha):
    """The largest logarithm of an integrand below order 1: one that is as large makes up the sum.

    Its square still is a number, and so is its gradient.
    """
    return jnp.where(alpha < 1, 0.4 * jnp.log(jnp.finfo(alpha.dtype).max), jnp.inf)


def rescue(
    found: Replicates, order: Order, enclosure: tuple[jax.Array, jax.Array], num_points: int
) -> tuple[Replicates, Order]:
    """Where points say less of the integral, for order below 1, than its `enclosure`: what it says.

    The logarithm is put in the middle, and half the gap is its error.
    """
    below = order.alpha < 1
    lost = (found.value == 0) | (found.value * num_points > jnp.exp(_cap(order.alpha)))
    total, largest = enclosure
    gap = 0.5 * (total - largest)
    middle = jnp.exp(-gap)
    lost |= gap * found.value < conclude(found, carried_by_few(found, order, num_points)).stderr
    lost &= below & ~order.near
    error = middle * (gap + jnp.finfo(total.dtype).eps * jnp.abs(total))
    means = jnp.broadcast_to(middle, found.means.shape)
    enclosed = Replicates(middle, *jax.lax.stop_gradient((means, error**2)))
    found = jax.tree.map(functools.partial(jnp.where, lost), enclosed, found)
    return found, order._replace(shift=jnp.where(lost, total, order.shift))


def carried_by_few(found: Replicates, order: Order, num_points: int) -> jax.Array:
    """The variance of replicates of which a few points carry most; ∞, for nothing bounds them."""
    parts = jnp.where(order.near, 1 + (order.alpha - 1) * found.alike, found.alike)
    return unseen.missed_point(jnp.abs(parts), jnp.inf, num_points)


def enclosure(p: GMM, q: GMM, order: Order) -> tuple[jax.Array, jax.Array]:
    """Logarithms that enclose that of the integral, for order below 1: of Σ c_ab and of max c_ab.

    With c_ab = ∫ (w_a p_a)^α (v_b q_b)^(1−α), since (x + y)^α ≤ x^α + y^α.
    """
    alpha = jnp.where(order.alpha < 1, order.alpha, 0.5)
    if not components.are_many(p, q):
        table = log_products(p, q, alpha, 1 - alpha)
        return jax.nn.logsumexp(table), jnp.max(table)
    blocks = log_product_blocks(p, q, alpha, 1 - alpha)
    return jax.nn.logsumexp(blocks.log_sum), jnp.max(blocks.largest)


def _scaled_growth(t: jax.Array, alpha: jax.Array) -> jax.Array:
    """σ(t) (exp((α − 1) t) − 1)/(α − 1), which at α = 1 is σ(t) t."""
    u = (alpha - 1) * t
    large = jnp.abs(u) > 0.01
    safe = jnp.where(large, u, 1.0)
    moderate = jnp.where(jnp.abs(safe) < 1, safe, 1.0)
    sigma = jax.nn.sigmoid(t)
    jump = jnp.exp(jax.nn.log_sigmoid(t) + safe) - sigma
    difference = jnp.where(jnp.abs(safe) < 1, sigma * jnp.expm1(moderate), jump)
    gap = jnp.where(alpha == 1, 1.0, alpha - 1)
    series = _exponential_quotient(jnp.where(large, 0.0, u))
    return jnp.where(large, difference / gap, sigma * t * series)


def _exponential_quotient(u: jax.Array) -> jax.Array:
    """(exp(u) − 1)/u for |u| ≤ 0.01, by its series."""
    return 1 + u / 2 * (1 + u / 3 * (1 + u / 4 * (1 + u / 5 * (1 + u / 6))))


def log_integral(value: jax.Array, order: Order) -> jax.Array:
    """The logarithm of ∫ p^α q^(1−α), of the mean of the integrand."""
    alpha, near, shift = order
    # Points so unequal say nothing but that p and q are very far apart.
    overflows = jnp.isinf(value)
    far = jnp.log(jnp.where(near | overflows, 1.0, value)) + shift
    far = jnp.where(overflows, jax.lax.stop_gradient(alpha - 1) * jnp.inf, far)
    return jnp.where(near, jnp.log1p(jnp.where(near, (alpha - 1) * value, 0.0)), far)


def renyi(value: jax.Array, order: Order) -> jax.Array:
    """Rényi's divergence, of the mean of the integrand."""
    alpha = order.alpha
    gap = jnp.where(alpha == 1, 1.0, alpha - 1)
    # At α = 1 the slope in α is that of log1p((α − 1) S)/(α − 1) = S − (α − 1) S²/2.
    at_one = value - 0.5 * (alpha - 1) * value**2
    return jnp.where(alpha == 1, at_one, log_integral(value, order) / gap)


def tsallis(value: jax.Array, order: Order) -> jax.Array:
    """Tsallis' divergence, of the mean of the integrand."""
    gap = jnp.where(order.alpha == 1, 1.0, order.alpha - 1)
    return jnp.where(order.near, value, jnp.expm1(log_integral(value, order)) / gap)


def bhattacharyya(value: jax.Array, order: Order) -> jax.Array:
    """Bhattacharyya's distance, of the mean of the integrand."""
    return -log_integral(value, order)


def problem(transform: Callable, below_one: bool, above_one: bool, sampling: Sampling) -> Problem:
    """The static part of `estimate`: what is made of the integral, and what its order may be."""
    return Problem(integrand, sampling, _Details(transform, below_one, above_one))


class _Details(NamedTuple):
    """What is made of the integral, and on which sides of 1 its order may be."""

    transform: Callable
    below_one: bool
    above_one: bool


def _before(p, q, alpha, problem):
    order, details = order_of(p, q, alpha), problem.details
    enclosed = enclosure(p.mixture, q.mixture, order) if details.below_one else None
    tails = jnp.zeros_like(alpha)
    if details.above_one:
        tails = jnp.where(alpha > 1, unseen.heavy_tails(p, q, alpha), 0.0)
    return order, (enclosed, tails)


def _after(found, order, known, problem):
    (enclosed, tails), num_samples = known, problem.sampling.num_samples
    if enclosed is not None:
        found, order = rescue(found, order, enclosed, num_samples)
    few = carried_by_few(found, order, num_samples)
    transform = functools.partial(problem.details.transform, order=order)
    return conclude(found, few, tails, transform=transform)


# Of `((key, (p, q), alpha), problem)`.
estimate = balanced_estimate(_before, _after)
