"""Control variates: what of an integrand has a mean in closed form is subtracted, and only the rest is sampled.

Under component k the logarithm of a mixture is near Σ_b r_kb log N_b, with r the variational responsibilities
softmax_b(E_k[log w_b N_b]), and that has a mean in closed form. Reference: Chen, Hershey, Olsen and Yashchin
(2008), "Accelerated Monte Carlo for Kullback-Leibler divergence between Gaussian mixture models".
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax import _linalg
from gmmjax._gmm import GMM

NUM_POINTS = 64  # at most, around each component, for its coefficient
NUMBERS = 1 << 24  # of a `(K, D, points)` table, for memory


def responsibilities(scores) -> list[jax.Array]:
    """Variational responsibilities `(K, K_b)` of components of several mixtures, from their scores E_k[log w_b N_b]."""
    ends = np.cumsum([score.shape[1] for score in scores])[:-1].tolist()
    return jnp.split(jax.nn.softmax(jnp.concatenate(scores, axis=1), axis=1), ends, axis=1)


def levels(p: GMM, integrand, controlled: bool, params, fixed: bool):
    """The integrand less its control at the mean of each component, `(K,)`, and the coefficients of the control.

    Those come from a few fixed points around each mean, None without controls: from points of the estimate they
    would bias it.
    """
    count, dim = p.means.shape
    if not controlled:
        return integrand(params, p.means.T)[0], None

    def around(z):
        x = _linalg.colour(p.scale, p.means, z)
        values, controls = integrand(params, x.reshape(dim, -1))
        table = controls.reshape(count, count, -1)
        return values.reshape(count, -1), jnp.diagonal(table, axis1=0, axis2=1).T  # each component's own

    z = jnp.asarray(_fixed_normals(dim, *_groups(count, dim)), p.means.dtype)
    many = lambda z: jax.lax.map(jax.checkpoint(around), z)
    values, controls = (jnp.concatenate(list(y), axis=1) for y in many(z)) if len(z) > 1 else around(z[0])
    slope = _regress(values, controls)
    slope = jax.lax.stop_gradient(slope) if fixed else slope
    return values[:, 0] - slope * controls[:, 0], slope


def _groups(count, dim):
    """In how many groups to handle the fixed points around each component, and how many pairs are in each."""
    # Many components need few points each, or these would outnumber those of the estimate.
    pairs = min(NUM_POINTS, max(8, 8192 // count)) // 2
    groups = min(pairs, -(-2 * pairs * count * count * dim // NUMBERS))
    return groups, -(-pairs // groups)


@functools.cache
def _fixed_normals(dim, groups, pairs):
    """Groups of normal numbers in opposite pairs, each after the origin, `(groups, dim, 1 + 2 pairs)`."""
    half = np.random.default_rng(dim).normal(size=(groups, dim, pairs))
    return np.concatenate([np.zeros((groups, dim, 1)), half, -half], axis=2)


def _regress(values, controls):
    """Slopes of values on controls, both `(K, points)`, within each component."""
    values, controls = (y - jnp.mean(y, axis=1, keepdims=True) for y in (values, controls))
    variance = jnp.sum(controls * controls, axis=1)
    varies = variance > 0
    slope = jnp.where(varies, jnp.sum(values * controls, axis=1) / jnp.where(varies, variance, 1.0), 1.0)
    # The control is the integrand itself where components are apart, with slope 1, and noise where both are flat.
    return jnp.clip(slope, 0.0, 1.0)
