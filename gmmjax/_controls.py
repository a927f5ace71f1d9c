"""Control variates: what of an integrand has a mean in closed form is subtracted, and only the rest is sampled.

Under component k the logarithm of a mixture is near Σ_b r_kb log N_b, with r the variational responsibilities
softmax_b(E_k[log w_b N_b]), and that has a mean in closed form. Reference: Chen, Hershey, Olsen and Yashchin
(2008), "Accelerated Monte Carlo for Kullback-Leibler divergence between Gaussian mixture models".
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax import _allocation, _linalg
from gmmjax._gmm import GMM

NUM_POINTS = 64  # at most, around each component, for its coefficient
NUMBERS = 1 << 24  # of a `(K, D, points)` table, for memory


class Control(NamedTuple):
    """constant_k + Σ_m slopes_km feature_m(x), which has mean zero under component k, whatever the parameters."""

    constant: jax.Array  # (K,)
    slopes: jax.Array  # (K, M)

    def own(self, features):
        """Of each component at points of its own, `(K, n)`, from features `(M, K·n)`."""
        return self.constant[:, None] + jnp.einsum(
            "km,mkn->kn", self.slopes, features.reshape(*self.slopes.shape[::-1], -1), precision=_linalg.HIGHEST
        )


class Baseline(NamedTuple):
    """What is taken out of an integrand: constant_k + Σ_m slopes_km feature_m(x), of the known mean `level`."""

    level: jax.Array  # (K,)
    constant: jax.Array  # (K,)
    slopes: jax.Array | None  # (K, M)


def baseline(p: GMM, integrand, control: Control, params, fixed: bool) -> Baseline:
    """The part of the control that follows the integrand, and what is left of that at the mean of each component.

    How much of it that is comes from a few fixed points around each mean: from points of the estimate it would
    bias it.
    """
    count, dim = p.means.shape

    def around(z):
        z = jnp.broadcast_to(z[:, None], (dim, count, z.shape[1]))
        values, features = integrand(params, _allocation.place(jnp.eye(count, dtype=z.dtype), p.means, p.scale, z))
        return values.reshape(count, -1), control.own(features)

    z = jnp.asarray(_fixed_normals(dim, *_groups(count, dim)), p.means.dtype)
    many = lambda z: jax.lax.map(jax.checkpoint(around), z)
    values, controls = (jnp.concatenate(list(y), axis=1) for y in many(z)) if len(z) > 1 else around(z[0])
    slope = _regress(values, controls)
    slope = jax.lax.stop_gradient(slope) if fixed else slope
    level = values[:, 0] - slope * controls[:, 0]
    return Baseline(level, level + slope * control.constant, slope[:, None] * control.slopes)


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
