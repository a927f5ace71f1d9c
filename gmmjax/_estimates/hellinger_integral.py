"""The integral ∫ p^α q^(1−α) in two forms, one for p ≈ q and one for large ratios, and what
divergences make of it.

All of it are functions of t = log p − log q and of the order α, smooth through α = 1, where the
integral is KL's.
"""

import jax
import jax.numpy as jnp

from gmmjax._estimates.importance import Pair, log_ratio


def regime(both: Pair, alpha):
    """Whether the integral is near 1, judged at the means of the components, and its logarithm to
    scale by if not.
    """
    t = log_ratio(both.densities, jnp.concatenate([g.means for g in both.mixtures]).T)
    log_weights = jnp.concatenate([jax.nn.log_softmax(g.logits) for g in both.mixtures])
    scores = _log_power(t, alpha) + log_weights
    shift = jax.lax.stop_gradient(jax.nn.logsumexp(scores) - jnp.log(2.0).astype(alpha.dtype))
    return (jnp.abs(shift) < 0.7) | (alpha == 1), shift


def _log_power(t: jax.Array, alpha: jax.Array) -> jax.Array:
    """log(p^α q^(1−α) / m)."""
    return jnp.log(2.0).astype(t.dtype) + jax.nn.log_sigmoid(t) + (alpha - 1) * t


def integrand(t: jax.Array, extra):
    """(p^α q^(1−α) − p)/((α − 1) m) − (p − q)/m where the integral is near 1, else p^α q^(1−α)/m,
    scaled.
    """
    # What is subtracted in the first form integrates to 0 and leaves a second-order difference
    # where p ≈ q.
    alpha: jax.Array
    near: jax.Array
    shift: jax.Array
    alpha, near, shift = extra
    far = jnp.exp(jnp.where(near, 0.0, _log_power(t, alpha) - shift))
    return jnp.where(near, 2 * _scaled_growth(t, alpha) - 2 * jnp.tanh(0.5 * t), far)


def _scaled_growth(t: jax.Array, alpha: jax.Array) -> jax.Array:
    """σ(t) (exp((α − 1) t) − 1)/(α − 1), which at α = 1 is σ(t) t."""
    u = (alpha - 1) * t
    large = jnp.abs(u) > 0.01
    safe = jnp.where(large, u, 1.0)
    moderate = jnp.where(jnp.abs(safe) < 1, safe, 1.0)
    sigma = jax.nn.sigmoid(t)
    jump = jnp.exp(jax.nn.log_sigmoid(t) + safe) - sigma
    difference = jnp.where(jnp.abs(safe) < 1, sigma * jnp.expm1(moderate), jump)
    small = jnp.where(large, 0.0, u)
    series = 1 + small / 2 * (1 + small / 3 * (1 + small / 4 * (1 + small / 5 * (1 + small / 6))))
    gap = jnp.where(alpha == 1, 1.0, alpha - 1)
    return jnp.where(large, difference / gap, sigma * t * series)


def _log_integral(
    value: jax.Array, alpha: jax.Array, near: jax.Array, shift: jax.Array
) -> jax.Array:
    """Logarithm of ∫ p^α q^(1−α)."""
    # points so unequal say nothing but that p and q are very far apart
    overflows = jnp.isinf(value)
    far = jnp.log(jnp.where(near | overflows, 1.0, value)) + shift
    far = jnp.where(overflows, jax.lax.stop_gradient(alpha - 1) * jnp.inf, far)
    return jnp.where(near, jnp.log1p(jnp.where(near, (alpha - 1) * value, 0.0)), far)


def renyi(value: jax.Array, alpha: jax.Array, near: jax.Array, shift: jax.Array) -> jax.Array:
    gap = jnp.where(alpha == 1, 1.0, alpha - 1)
    # At α = 1 the slope in α is that of log1p((α − 1) S)/(α − 1) = S − (α − 1) S²/2.
    return jnp.where(
        alpha == 1,
        value - 0.5 * (alpha - 1) * value**2,
        _log_integral(value, alpha, near, shift) / gap,
    )


def tsallis(value: jax.Array, alpha: jax.Array, near: jax.Array, shift: jax.Array) -> jax.Array:
    gap = jnp.where(alpha == 1, 1.0, alpha - 1)
    return jnp.where(near, value, jnp.expm1(_log_integral(value, alpha, near, shift)) / gap)


def bhattacharyya(
    value: jax.Array, alpha: jax.Array, near: jax.Array, shift: jax.Array
) -> jax.Array:
    return -_log_integral(value, alpha, near, shift)
