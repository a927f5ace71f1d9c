"""The mixture nearest to several: a fixed point of couplings and of means of Gaussians."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._jax import is_traced
from gmmjax._matrices import linalg, triangular
from gmmjax._mixture.gmm import GMM, as_real, float_of, in_dtype, index
from gmmjax._mixture.join import check_mixtures, stack
from gmmjax._mixture.structure import is_full
from gmmjax._mixture.values import check_weights
from gmmjax._transport.bures import bures_mean, bures_step
from gmmjax._transport.coupling import coupling
from gmmjax._transport.polar import polar
from gmmjax._transport.transport import transport
from gmmjax._transport.wasserstein import pairwise_w2_squared
from gmmjax._validate import check_count, on_any_mesh

MAX_ITERATIONS = 200


@on_any_mesh
def mw2_barycenter(
    mixtures: Sequence[GMM], weights=None, *, num_components: int | None = None
) -> GMM:
    r"""Barycentre of mixtures under the mixture Wasserstein distance, by a fixed point.

    .. math:: \min_g \sum_j \lambda_j\, \mathrm{MW}_2^2(g, p_j)

    The components of all mixtures are joined one mixture after another by optimal couplings, which
    fixes the weights of g; then its Gaussians are moved to the barycentres of what they are coupled
    with, and coupled anew, until nothing changes. Each step lowers the sum. For one or two
    mixtures, and for one Gaussian each, the result is the barycentre, up to rounding; for three or
    more mixtures it is a fixed point, and may be a local minimum.

    Args:
      mixtures: J mixtures of one dimension, of any numbers of components and types of covariance.
      weights: `(J,)` non-negative numbers λ, normalised for you; equal unless given.
      num_components: how many components to keep, a Python int: the heaviest after joining. Enough
        for all, :math:`\sum_j K_j - J + 1`, unless given; those that are not needed are absent.

    Returns:
      A `GMM`; diagonal, spherical and tied scales stay so where all are. Differentiable in all
      leaves and in `weights` by the implicit function, with the gradient of `gmmjax.mw2_coupling`;
      do not take second derivatives.

    Raises:
      TypeError: one of the mixtures is not a `GMM`, or `num_components` is not an int.
      ValueError: there are none; shapes or dimensions disagree; there is not one weight each;
        weights are negative, not finite or all 0 (under `jit`: NaN); `num_components` < 1.

    Reference:
      Tanguy, Delon and Gozlan (2024), "Computing barycentres of measures for generic transport
      costs"; Álvarez-Esteban, del Barrio, Cuesta-Albertos and Matrán (2016), "A fixed-point
      approach to barycenters in Wasserstein space".

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.ones(1))
      >>> q = gmmjax.GMM(jnp.zeros(1), jnp.full((1, 1), 4.0), jnp.full(1, 3.0))
      >>> middle = gmmjax.mw2_barycenter([p, q], [0.75, 0.25])
      >>> print(middle.means, middle.scale)
      [[1.]] [1.5]
    """
    checked = check_mixtures(mixtures)
    weights = np.ones(len(checked)) if weights is None else as_real("weights", weights)
    if weights.shape != (len(checked),):
        raise ValueError(
            f"weights: expected shape ({len(checked)},), one per mixture, got {weights.shape}"
        )
    if not is_traced(weights):
        check_weights(np.asarray(weights, np.float64))
    count = sum(g.num_components for g in checked) - len(checked) + 1
    if num_components is not None:
        count = check_count("num_components", num_components)
    dtype = float_of(*(g.means for g in checked))
    checked = [in_dtype(g, dtype) for g in checked]
    return _barycenter(stack(checked), jnp.asarray(weights, dtype), count)


@jax.jit(static_argnums=2)
def _barycenter(batch: GMM, weights: jax.Array, count: int) -> GMM:
    weights = jnp.where(jnp.all(weights >= 0), weights / jnp.sum(weights), jnp.nan)
    masses = jax.nn.softmax(batch.logits)
    mass, start = _join(batch, masses, weights, count)
    problem = jax.lax.stop_gradient((batch, masses, weights, mass))
    found = _fixed_point(problem, start)
    costs = jax.lax.stop_gradient(_costs(found, batch))
    plans = jax.vmap(coupling, (0, None, 0))(costs, mass, masses)
    shares = _shares(plans, mass, weights)
    means = linalg.matmul(shares, batch.means.reshape(-1, found.dim))
    scale = bures_mean(*_sources(shares, batch), found.scale)
    present = mass > 0
    logits = jnp.where(present, jnp.log(jnp.where(present, mass, 1.0)), -jnp.inf)
    logits = jnp.where(jnp.isnan(jnp.sum(mass) + jnp.sum(means)), jnp.nan, logits)
    return GMM(logits, means, scale)


def _join(batch, masses, weights, count):
    """Masses `(count,)` and Gaussians to start from: mixtures coupled one after another."""
    done = jnp.cumsum(weights)
    steps = linalg.safe_divide(weights, done).at[0].set(1.0)
    untied = (batch.means.shape[1], *batch.scale.shape[2:])
    scales = jnp.abs(batch.scale) if not is_full(batch) else batch.scale
    scales = jnp.broadcast_to(scales, (len(weights), *untied))
    # One point at first, that takes over the first mixture.
    none = GMM(
        logits=jnp.zeros(count, weights.dtype),
        means=jnp.zeros((count, batch.means.shape[-1]), weights.dtype),
        scale=jnp.broadcast_to(scales[0, 0], (count, *untied[1:])),
    )
    whole = (jnp.arange(count) == 0).astype(weights.dtype)

    def add(state, given):
        mass, here = state
        g, demand, step = given
        held = jax.lax.stop_gradient((here, g))
        plan = coupling(pairwise_w2_squared(*held), mass, demand)
        amounts, places = jax.lax.top_k(plan.reshape(-1), count)
        a, b = places // len(demand), places % len(demand)
        moved = _between(index(held[0], a), index(held[1], b), step)
        return (amounts / jnp.sum(amounts), moved), None

    given = (batch._replace(scale=scales), masses, jax.lax.stop_gradient(steps))
    return jax.lax.scan(add, (whole, jax.lax.stop_gradient(none)), given)[0]


def _between(p, q, step):
    """Each of n Gaussians on its way to its partner."""
    means = (1 - step) * p.means + step * q.means
    if not is_full(p):
        return GMM(p.logits, means, (1 - step) * p.scale + step * q.scale)
    products = linalg.matmul(p.scale.mT, q.scale)
    inverse_p, inverse_q = triangular.tril_inverse(p.scale), triangular.tril_inverse(q.scale)
    turned = linalg.matmul(p.scale, polar(products, linalg.matmul(inverse_q, inverse_p.mT)))
    return GMM(p.logits, means, triangular.lower_factor((1 - step) * turned + step * q.scale))


class _State(NamedTuple):
    gaussians: GMM
    change: jax.Array  # of the last step, in units of the size of all
    count: jax.Array


def _fixed_point(problem, start):
    """Gaussians that are the barycentres of what they are coupled with."""
    batch, masses, weights, mass = problem
    if batch.scale.shape[1] == 1:
        start = start._replace(scale=start.scale[:1])
    size = jnp.max(jnp.abs(batch.means)) + jnp.max(jnp.abs(batch.scale))
    tolerance = 8 * jnp.finfo(mass.dtype).eps

    def unfinished(state):
        return (state.change > tolerance) & (state.count < MAX_ITERATIONS)

    def step(state):
        here = state.gaussians
        costs = _costs(here, batch)
        plans = jax.vmap(lambda *problem: transport(*problem).coupling, (0, None, 0))(
            costs, mass, masses
        )
        shares = _shares(plans, mass, weights)
        means = linalg.matmul(shares, batch.means.reshape(-1, here.dim))
        scale = bures_step(*_sources(shares, batch), here.scale)
        moved = jnp.max(jnp.abs(means - here.means)) + jnp.max(jnp.abs(scale - here.scale))
        return _State(GMM(here.logits, means, scale), moved / size, state.count + 1)

    first = _State(start, jnp.asarray(jnp.inf, mass.dtype), jnp.zeros((), jnp.int32))
    return jax.lax.while_loop(unfinished, step, first).gaussians


def _costs(here, batch):
    """W₂² between the Gaussians and those of each mixture, `(J, n, K)`."""
    return jax.vmap(pairwise_w2_squared, (None, 0))(here, batch)


def _shares(plans: jax.Array, mass: jax.Array, weights: jax.Array) -> jax.Array:
    """What each source has in each Gaussian, `(n, J·K)` with rows that sum to 1."""
    rows = jnp.sum(plans, axis=2, keepdims=True)
    # Gaussians that are absent, or whose mass is lost beside that of others, are somewhere in the
    # middle.
    coupled = (rows > 0) & (mass > 0)[None, :, None]
    even = jnp.full_like(plans, 1 / plans.shape[2])
    parts = jnp.where(coupled, plans / jnp.where(coupled, rows, 1.0), even)
    return jnp.moveaxis(weights[:, None, None] * parts, 0, 1).reshape(len(mass), -1)


def _sources(shares, batch):
    """Shares and scales of all sources; of tied ones there is one for each mixture."""
    scales = batch.scale.reshape(-1, *batch.scale.shape[2:])
    if batch.scale.shape[1] == 1 and batch.means.shape[1] > 1:
        shares = jnp.sum(shares[:1].reshape(1, len(batch.means), -1), axis=2)
    return shares, scales
