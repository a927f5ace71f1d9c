"""Control variates: what of an integrand has a mean in closed form is subtracted, and only the rest is sampled.

Under component k the logarithm of a mixture is near Σ_b r_kb log N_b, with r the variational responsibilities
softmax_b(log w_b − KL(N_k ‖ N_b)), and that has a mean in closed form. Reference: Chen, Hershey, Olsen and Yashchin
(2008), "Accelerated Monte Carlo for Kullback-Leibler divergence between Gaussian mixture models".
"""

import jax
import jax.numpy as jnp

from gmmjax import _allocation, _gaussian, _linalg
from gmmjax._gmm import GMM

PRIOR = 8  # points that the common coefficient counts for in that of each component


def responsibilities(p: GMM, mixtures, log_weights) -> list[jax.Array]:
    """Variational responsibilities of all components of some mixtures for those of p, `(K_p, K)` for each mixture."""
    scores = [
        log_weight + jax.nn.log_softmax(g.logits)[None] - _gaussian.pairwise_kl(p, g)
        for g, log_weight in zip(mixtures, log_weights, strict=True)
    ]
    ends = [sum(g.num_components for g in mixtures[: i + 1]) for i in range(len(mixtures) - 1)]
    return jnp.split(jax.nn.softmax(jnp.concatenate(scores, axis=1), axis=1), ends, axis=1)


def fit(key, p: GMM, integrand, params, sampling, fixed: bool):
    """The coefficient of the controls of each component, `(K,)`, from points of its own; None without controls."""
    # An eighth more points, independent of the estimate: fitting on the same points would bias it.
    smallest = 16 * p.num_components
    count = (
        1
        << (
            max(smallest, min(sampling.num_samples // 8, _allocation.block_size(p.num_components, p.dim))) - 1
        ).bit_length()
    )
    if jax.eval_shape(integrand, params, jax.ShapeDtypeStruct((p.dim, 1), p.means.dtype))[1] is None:
        return None
    dtype = p.means.dtype
    z, weight = sampling.points(key, jnp.arange(1), 0, count, p.dim, dtype)
    chosen = _allocation.choose(_allocation.allocate(p, count), (jnp.arange(count, dtype=dtype) + 0.5) / count)
    x = _linalg.place(chosen, p.means, p.scale, z.reshape(p.dim, count))
    values, controls = integrand(params, x)
    coefficients = _regress(values, jnp.sum(chosen * controls, axis=0), chosen * weight)
    return jax.lax.stop_gradient(coefficients) if fixed else coefficients


def _regress(values, controls, membership):
    """Slopes of values on controls within each component, drawn towards the common slope where points are few."""
    counts = jnp.sum(membership, axis=1)
    counts = jnp.where(counts > 0, counts, 1.0)
    centre = lambda y: y - _linalg.pick((membership @ y / counts)[None], (membership > 0).astype(y.dtype))[0]
    values, controls = centre(values), centre(controls)
    covariance = jnp.matmul(membership, values * controls, precision=_linalg.HIGHEST)
    variance = jnp.matmul(membership, controls * controls, precision=_linalg.HIGHEST)
    pooled = _ratio(jnp.sum(covariance), jnp.sum(variance), 1.0)
    prior = PRIOR / counts
    return (_ratio(covariance, variance, pooled) + prior * pooled) / (1 + prior)


def _ratio(a, b, otherwise):
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1.0), otherwise)
