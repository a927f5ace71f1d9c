"""Control variates: what of an integrand has a mean in closed form is subtracted, and only the rest
is sampled.

The logarithm of a mixture is a smooth function of the squared distances to its components, and
linearised in them it is −½ Σ_b r_b ‖L_b⁻¹(x − μ_b)‖², with responsibilities r, which has a mean in
closed form. Under component k they are taken either on average, which by Stein's lemma holds all
that is linear in x, or where the distances have their means, which is undisturbed by narrow
components that are seldom met: the variational ones of Chen, Hershey, Olsen and Yashchin (2008),
"Accelerated Monte Carlo for Kullback-Leibler divergence between Gaussian mixture models".
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._mixture import linalg
from gmmjax._mixture.gmm import GMM
from gmmjax._sampling import allocation

NUM_POINTS = 64  # at most, around each component, for its coefficients
NUMBERS = 1 << 24  # of a `(K, D, points)` table, for memory


class Control(NamedTuple):
    """What is known of the features of an integrand, in tables, and how it follows from them."""

    expected: tuple[jax.Array, ...]  # (K, M_j) mean of each feature under each component
    function: Callable  # (params, features) -> values, of each point alone


class Baseline(NamedTuple):
    """What is taken out of an integrand: constant_k + Σ_m slopes_km feature_m(x), of the known mean
    `level`.
    """

    level: jax.Array  # (K,)
    constant: jax.Array  # (K,)
    slopes: tuple[jax.Array, ...]  # (K, M_j), none where there is no control


def baseline(p: GMM, integrand, control: Control | None, params, at_means, fixed: bool) -> Baseline:
    """What the integrand is at the mean of each component, and there is of its control around it.

    `at_means` are the values `(K,)` and the features `(M_j, K)` of the integrand at the means. With
    `fixed` the slopes are constants of differentiation.
    """
    values, features = at_means
    if control is None:
        return Baseline(values, values, ())
    held = jax.lax.stop_gradient if fixed else lambda tree: tree
    slopes = held(_slopes(held(p), held(params), integrand, control))
    level = constant = values
    for rates, there, mean in zip(slopes, features, control.expected, strict=True):
        level -= jnp.sum(rates * (there.T - mean), axis=1)
        constant -= jnp.sum(rates * there.T, axis=1)
    return Baseline(level, constant, slopes)


def _slopes(p, params, integrand, control):
    """Slopes of the integrand in its features under each component: on average, or where those have
    their means.

    Which, and how much of them, comes from a few fixed points around each mean: from points of the
    estimate they would bias it.
    """
    count, dim = p.means.shape
    own = lambda table: table.reshape(*table.shape[:-1], count, -1)

    def linearised(features):
        values, pull = jax.vjp(functools.partial(control.function, params), features)
        (slopes,) = pull(jnp.ones_like(values))
        return values, slopes

    def around(z):
        z = jnp.broadcast_to(z[:, None], (dim, count, z.shape[1]))
        _, features = integrand(
            params, allocation.place(jnp.eye(count, dtype=z.dtype), p.means, p.scale, z)
        )
        values, slopes = linearised(features)
        return (
            own(values),
            [own(table) for table in features],
            [jnp.mean(own(table), axis=-1) for table in slopes],
        )

    z = jnp.asarray(_fixed_normals(dim, *_groups(count, dim)), p.means.dtype)
    if len(z) > 1:
        *tables, slopes = jax.lax.map(jax.checkpoint(around), z)
        values, features = jax.tree.map(lambda parts: jnp.concatenate(list(parts), axis=-1), tables)
        slopes = [jnp.mean(parts, axis=0) for parts in slopes]
    else:
        values, features, slopes = around(z[0])

    def fitted(slopes) -> tuple[list[jax.Array], jax.Array]:
        controls = [
            jnp.einsum("mk,mkn->kn", rates, table, precision=linalg.HIGHEST)
            for rates, table in zip(slopes, features, strict=True)
        ]
        followed, left = _regress(values, functools.reduce(jnp.add, controls))
        return [followed[:, None] * rates.T for rates in slopes], left

    _, at_means = linearised(tuple(mean.T for mean in control.expected))
    (average, left), (other, more) = fitted(slopes), fitted(at_means)
    better = (left <= more)[:, None]
    return tuple(jnp.where(better, a, b) for a, b in zip(average, other, strict=True))


def _groups(count, dim):
    """In how many groups to handle the fixed points around each component, and how many pairs are
    in each.
    """
    # Many components need few points each, or these would outnumber those of the estimate.
    pairs = min(NUM_POINTS, max(8, 8192 // count)) // 2
    groups = min(pairs, -(-2 * pairs * count * count * dim // NUMBERS))
    return groups, -(-pairs // groups)


@functools.cache
def _fixed_normals(dim, groups, pairs):
    """Groups of normal numbers in opposite pairs, `(groups, dim, 2 pairs)`."""
    half = np.random.default_rng(dim).normal(size=(groups, dim, pairs))
    return np.concatenate([half, -half], axis=2)


def _regress(values, controls):
    """Slopes of values on controls, both `(K, points)`, within each component, and the squares that
    are left.
    """
    values, controls = (y - jnp.mean(y, axis=1, keepdims=True) for y in (values, controls))
    variance = jnp.sum(controls * controls, axis=1)
    varies = variance > 0
    slope = jnp.where(
        varies, jnp.sum(values * controls, axis=1) / jnp.where(varies, variance, 1.0), 1.0
    )
    # The control is the integrand itself where components are apart, with slope 1, and noise where
    # both are flat.
    slope = jnp.clip(slope, 0.0, 1.0)
    return slope, jnp.sum((values - slope[:, None] * controls) ** 2, axis=1)
