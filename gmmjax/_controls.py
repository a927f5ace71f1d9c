"""Control variates: what of an integrand has a mean in closed form is subtracted, and only the rest is sampled.

Under component k the logarithm of a mixture is near Σ_b r_kb log N_b, with r the variational responsibilities
softmax_b(log w_b − KL(N_k ‖ N_b)), and that has a mean in closed form. Reference: Chen, Hershey, Olsen and Yashchin
(2008), "Accelerated Monte Carlo for Kullback-Leibler divergence between Gaussian mixture models".
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax import _gaussian, _linalg
from gmmjax._gmm import GMM

NUM_POINTS = 64  # around each component, for its coefficient


def responsibilities(p: GMM, mixtures, log_weights) -> list[jax.Array]:
    """Variational responsibilities of all components of some mixtures for those of p, `(K_p, K)` for each mixture."""
    scores = [
        log_weight + jax.nn.log_softmax(g.logits)[None] - _gaussian.pairwise_kl(p, g)
        for g, log_weight in zip(mixtures, log_weights, strict=True)
    ]
    ends = [sum(g.num_components for g in mixtures[: i + 1]) for i in range(len(mixtures) - 1)]
    return jnp.split(jax.nn.softmax(jnp.concatenate(scores, axis=1), axis=1), ends, axis=1)


def levels(p: GMM, integrand, params, fixed: bool):
    """The integrand less its control at the mean of each component, `(K,)`, and the coefficients of the control.

    Those come from a few fixed points around each mean, None without controls: from points of the estimate they
    would bias it.
    """
    count, dim = p.means.shape
    at_means = jax.ShapeDtypeStruct((dim, count), p.means.dtype)
    if jax.eval_shape(integrand, params, at_means)[1] is None:
        return integrand(params, p.means.T)[0], None
    around = jnp.asarray(_fixed_normals(dim), p.means.dtype)
    own = np.repeat(np.eye(count), around.shape[1], axis=1)  # component by component
    x = _linalg.place(jnp.asarray(own, around.dtype), p.means, p.scale, jnp.tile(around, (1, count)))
    values, controls = integrand(params, x)
    values = values.reshape(count, -1)
    controls = jnp.diagonal(controls.reshape(count, count, -1), axis1=0, axis2=1).T  # each component's own
    slope = _regress(values, controls)
    slope = jax.lax.stop_gradient(slope) if fixed else slope
    return values[:, 0] - slope * controls[:, 0], slope


@functools.cache
def _fixed_normals(dim):
    """The origin, and normal numbers in opposite pairs, `(dim, 1 + NUM_POINTS)`."""
    half = np.random.default_rng(dim).normal(size=(dim, NUM_POINTS // 2))
    return np.concatenate([np.zeros((dim, 1)), half, -half], axis=1)


def _regress(values, controls):
    """Slopes of values on controls, both `(K, points)`, within each component."""
    values, controls = (y - jnp.mean(y, axis=1, keepdims=True) for y in (values, controls))
    variance = jnp.sum(controls * controls, axis=1)
    varies = variance > 0
    slope = jnp.where(varies, jnp.sum(values * controls, axis=1) / jnp.where(varies, variance, 1.0), 1.0)
    # The control is the integrand itself where components are apart, with slope 1, and noise where both are flat.
    return jnp.clip(slope, 0.0, 1.0)
