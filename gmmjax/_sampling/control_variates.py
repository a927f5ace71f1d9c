"""Control variates: subtract what has a mean in closed form, and sample only the rest.

The logarithm of a mixture is a smooth function of the squared distances to its components, and
linearised in them it is −½ Σ_b r_b ‖L_b⁻¹(x − μ_b)‖², with responsibilities r, which has a mean in
closed form. Under component k they are taken either on average, which by Stein's lemma holds all
that is linear in x, or where the distances have their means, which is undisturbed by narrow
components that are seldom met: the variational ones of Chen, Hershey, Olsen and Yashchin (2008),
"Accelerated Monte Carlo for Kullback-Leibler divergence between Gaussian mixture models".
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._matrices import linalg
from gmmjax._mixture.gmm import GMM
from gmmjax._sampling import allocation

NUM_POINTS = 64  # at most, around each component, for its coefficients
MIN_PAIRS = 2  # of them; fewer show no slope
NUMBERS = 1 << 24  # of a `(K, D, points)` table, for memory


class Control(NamedTuple):
    """What is known of the features of an integrand, in tables, and how it follows from them."""

    expected: tuple[jax.Array, ...]  # (K, M_j) mean of each feature under each component
    function: Callable  # (params, features) -> values, of each point alone


class Baseline(NamedTuple):
    """What is subtracted from an integrand under component k, and its exact mean.

    It is constant_k + Σ_m slopes_km feature_m(x).
    """

    mean: jax.Array  # (K,)
    constant: jax.Array  # (K,)
    slopes: tuple[jax.Array, ...]  # (K, M_j), none where there is no control

    def residuals(self, values: jax.Array, features: Sequence[jax.Array]) -> jax.Array:
        """What is left of values `(n,)` with features `(M_j, n)` under each component, `(K, n)`."""
        rest = values[None] - self.constant[:, None]
        for slopes, table in zip(self.slopes, features, strict=False):
            rest -= linalg.matmul(slopes, table)
        return rest


def baseline(
    p: GMM, integrand, control: Control | None, params, at_means, num_points: int, fixed: bool
) -> Baseline:
    """The linear control of an integrand around each component: slopes, constant and exact mean.

    Args:
      p: the sampled mixture.
      integrand: `(params, x) -> (values, features)`.
      control: none, and only the value at each mean is subtracted.
      params: of the integrand.
      at_means: its values `(K,)` and features `(M_j, K)` at the means.
      num_points: of the estimate; it takes as many points at most to find the slopes, and where
        these are too few for every component nothing but the value at its mean is subtracted.
      fixed: whether the slopes are constants of differentiation.
    """
    values, features = at_means
    pairs = _num_pairs(p.num_components, num_points)
    if control is None or pairs < MIN_PAIRS:
        return Baseline(values, values, ())
    if fixed:
        held_p, held_params = jax.lax.stop_gradient((p, params))
        slopes = _slopes(held_p, held_params, integrand, control, pairs)
        slopes = jax.lax.stop_gradient(slopes)
    else:
        slopes = _slopes(p, params, integrand, control, pairs)
    mean = constant = values
    for rates, there, expected in zip(slopes, features, control.expected, strict=True):
        mean -= jnp.sum(rates * (there.T - expected), axis=1)
        constant -= jnp.sum(rates * there.T, axis=1)
    return Baseline(mean, constant, slopes)


def _slopes(p, params, integrand, control, pairs):
    """Slopes of the integrand in its features under each component.

    Two candidates, the average slope and the slope at the mean distances, are regressed on a few
    fixed pilot points, and the better fit is kept. Points of the estimate itself would bias it.
    """
    values, features, candidates = _pilot(p, params, integrand, control, pairs)
    fitted, squares = _regress(values, features, candidates)
    better = (squares[0] <= squares[1])[None]
    return tuple(jnp.where(better, *rates).T for rates in fitted)


def _linearise(params, control, features):
    """Values `(n,)` of an integrand at given features, and its slopes `(M_j, n)` in them."""
    values, pull = jax.vjp(functools.partial(control.function, params), features)
    (slopes,) = pull(jnp.ones_like(values))
    return values, slopes


def _pilot(p, params, integrand, control, pairs):
    """Values `(K, points)` and features `(M_j, K, points)` at fixed points around each mean, and
    slopes `(2, M_j, K)`: on average, and where the features have their means.
    """
    count, dim = p.means.shape
    everyone = jnp.eye(count, dtype=p.means.dtype)

    def by_component(table):
        return table.reshape(*table.shape[:-1], count, -1)

    def around(z):
        z = jnp.broadcast_to(z[:, None], (dim, count, z.shape[1]))
        _, features = integrand(params, allocation.place(everyone, p.means, p.scale, z))
        features = [by_component(table) for table in features]
        # One more for each component: a second call would be compiled a second time.
        extended = [
            jnp.concatenate([table, mean.T[:, :, None]], axis=-1)
            for table, mean in zip(features, control.expected, strict=True)
        ]
        flat = tuple(table.reshape(len(table), -1) for table in extended)
        values, slopes = _linearise(params, control, flat)
        slopes = [by_component(table) for table in slopes]
        slopes = [jnp.stack([jnp.mean(s[..., :-1], axis=-1), s[..., -1]]) for s in slopes]
        return by_component(values)[:, :-1], features, slopes

    z = jnp.asarray(_fixed_normals(dim, *_groups(count, dim, pairs)), p.means.dtype)
    if len(z) == 1:
        return around(z[0])
    values, features, slopes = jax.lax.map(jax.checkpoint(around), z)
    values, features = jax.tree.map(
        lambda parts: jnp.concatenate(list(parts), axis=-1), (values, features)
    )
    return values, features, [jnp.mean(parts, axis=0) for parts in slopes]


def _num_pairs(count, num_points):
    """How many opposite pairs of pilot points there are around each of so many means."""
    # Many components need few points each, or these would outnumber those of the estimate.
    usual = min(NUM_POINTS, max(8, 8192 // count))
    return min(usual, max(num_points, NUM_POINTS) // count) // 2


def _groups(count, dim, pairs):
    """In how many groups to handle the pilot points, and how many pairs are in each."""
    groups = min(pairs, -(-2 * pairs * count * count * dim // NUMBERS))
    return groups, -(-pairs // groups)


@functools.cache
def _fixed_normals(dim, groups, pairs):
    """Groups of normal numbers in opposite pairs, `(groups, dim, 2 pairs)`."""
    half = np.random.default_rng(dim).normal(size=(groups, dim, pairs))
    return np.concatenate([half, -half], axis=2)


def _regress(values, features, slopes) -> tuple[list[jax.Array], jax.Array]:
    """Slopes `(C, M_j, K)` of C candidates times what values follow of them, and the squares that
    are left, `(C, K)`.
    """
    values = (values - jnp.mean(values, axis=1, keepdims=True))[None]
    products = [
        jnp.einsum("cmk,mkn->ckn", rates, table, precision=linalg.HIGHEST)
        for rates, table in zip(slopes, features, strict=True)
    ]
    controls = functools.reduce(jnp.add, products)
    controls = controls - jnp.mean(controls, axis=2, keepdims=True)
    followed = _slope(values, controls)
    # Where components are well separated the control equals the integrand (slope 1); where both
    # are flat the ratio is noise, hence the clip.
    followed = jnp.clip(followed, 0.0, 1.0)
    left = jnp.sum((values - followed[:, :, None] * controls) ** 2, axis=2)
    return [followed[:, None] * rates for rates in slopes], left


def _slope(values: jax.Array, controls: jax.Array) -> jax.Array:
    """Least-squares slopes `(C, K)` of centred values in centred controls; 1 where these vary by
    less than values are rounded to.
    """
    size, rounded = map(_largest, (controls, values))
    varies = size > jnp.finfo(controls.dtype).eps * rounded
    # In units of the controls: their squares, and those of these in the gradient, may underflow.
    unit = jnp.where(varies, size, 1.0)
    controls = jnp.where(varies, controls / unit, 1.0)
    values = values / unit
    slope = jnp.sum(values * controls, axis=2) / jnp.sum(controls * controls, axis=2)
    return jnp.where(varies[..., 0], slope, 1.0)


def _largest(table: jax.Array) -> jax.Array:
    return jax.lax.stop_gradient(jnp.max(jnp.abs(table), axis=2, keepdims=True))
