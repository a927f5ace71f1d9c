"""Iterations of EM: each component takes the moments of what it is responsible for."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gmmjax._matrices import scales, triangular
from gmmjax._mixture.gmm import GMM
from gmmjax._mixture.structure import is_full, is_spherical, is_tied
from gmmjax._mixture.unconstrained import constrain, unconstrain
from gmmjax._populations.moments import Cloud, Sums, expect, outer

# A component that is responsible for less is dead: its moments would be those of a few points.
MIN_WEIGHT = 1e-8
# Of the variance of all rows, of a coordinate given those before it: what a component has at least,
# so that none collapses onto points. Less would be lost in rounding; more would be met by clusters
# that are far apart, and by all rows beside one far outlier.
LEAST_VARIANCE = 1e-12


class Record(NamedTuple):
    """How the first steps of a run went: NaN after it has stopped."""

    loss: jax.Array  # before each step
    length: jax.Array  # of each step, in free parameters


class Run(NamedTuple):
    """A mixture on its way to the fixed point, and its negative log-likelihood per row."""

    gmm: GMM
    loss: jax.Array
    num_steps: jax.Array
    moving: jax.Array
    record: Record


def run(start: GMM, c: Cloud, tol, num_steps, num_records: int) -> Run:
    """Iterate until the loss falls by less than `tol`."""
    dtype = c.x.dtype
    least = least_variances(start, c)
    nothing = jnp.full(num_records, jnp.nan, dtype)
    state = Run(
        start,
        jnp.full((), jnp.inf, dtype),
        jnp.zeros((), int),
        jnp.ones((), bool),
        Record(nothing, nothing),
    )

    def goes_on(state):
        return (state.num_steps < num_steps) & state.moving

    def iterate(state):
        gmm, loss, now = _squarem_step(state.gmm, c, least)
        stalled = state.loss - loss < tol
        at = state.num_steps
        record = jax.tree.map(lambda past, x: past.at[at].set(x, mode="drop"), state.record, now)
        return Run(gmm, loss, at + 1, ~stalled, record)

    return jax.lax.while_loop(goes_on, iterate, state)


def least_variances(g: GMM, c: Cloud) -> jax.Array:
    """What variances are at least, `(D,)`, or `()` of components with one for all coordinates."""
    # As the rows' weights have it: one that does not count may lie anywhere.
    share = c.weight / jnp.sum(c.weight)
    mean = jnp.sum(share[:, None] * c.x, axis=(0, 2))
    variances = jnp.sum(share[:, None] * (c.x - mean[None, :, None]) ** 2, axis=(0, 2))
    return LEAST_VARIANCE * (jnp.mean(variances) if is_spherical(g) else variances)


def has_least_variance(g: GMM, least: jax.Array) -> jax.Array:
    """Which components have a variance that is the least there may be, `(K or 1,)`."""
    variances = scales.pivots(g.scale, g.means) ** 2
    if is_spherical(g):
        return variances < 1.01 * least
    return jnp.any(variances < 1.01 * least[None], axis=1)


def _squarem_step(start, c, least):
    """Two steps, an extrapolation through them, and a third that is kept where it loses no more.

    Squared extrapolation: Varadhan and Roland (2008), "Simple and globally convergent methods",
    scheme S3.
    """
    once, first_loss = _step(start, c, least)
    twice, loss = _step(once, c, least)
    extrapolated, length = _extrapolate(unconstrain(start), unconstrain(once), unconstrain(twice))
    far = _step(constrain(extrapolated), c, least)
    better = far[1] <= loss
    gmm, loss = jax.tree.map(lambda a, b: jnp.where(better, a, b), far, (twice, loss))
    return gmm, loss, Record(first_loss, length)


def _extrapolate(start, once, twice):
    """Where the two steps lead on a parabola, in free parameters, and the length of the first."""
    r = jax.tree.map(_difference, once, start)
    second = jax.tree.map(_difference, twice, once)
    v = jax.tree.map(jnp.subtract, second, r)
    length = _norm(r)
    growth = jnp.maximum(length / jnp.maximum(_norm(v), 1e-12), 1.0)

    def move(start, r, v):
        return start + 2 * growth * r + growth**2 * v

    return jax.tree.map(move, start, r, v), length


def _difference(new, old):
    """Zero between two logits of −inf, which stay where they are."""
    difference = new - old
    return jnp.where(jnp.isfinite(difference), difference, 0.0)


def _norm(tree):
    return jnp.sqrt(sum(jnp.sum(leaf * leaf) for leaf in tree))


def _step(g, c, least):
    """Responsibilities, then the mixture of their moments; and the loss of `g`."""
    sums = expect(g, c)
    return _of_moments(g, sums, least), sums.loss


def _of_moments(g: GMM, sums: Sums, least: jax.Array) -> GMM:
    """The mixture of weighted moments, in the structure of `g`."""
    alive = ~(sums.mass <= MIN_WEIGHT)  # NaN is not dead
    mass = jnp.where(alive, sums.mass, 1.0)
    shift = sums.first / mass[:, None]
    if is_full(g):
        spread = sums.second / mass[:, None, None] - outer(shift, shift)
    else:
        spread = sums.second / mass[:, None] - shift**2
    if is_tied(g):
        spread = _pooled(spread, jnp.where(alive, sums.mass, 0.0))
    scale = _scale(spread, g, least)
    logits = jnp.where(alive, jnp.log(mass), -jnp.inf)
    means = _where(alive, g.means + shift, g.means)
    tied = len(scale) < g.num_components
    return GMM(logits, means, scale if tied else _where(alive, scale, g.scale))


def _pooled(spread, mass):
    """The average of covariances or variances over components, with a leading 1."""
    mass = mass.reshape(-1, *[1] * (spread.ndim - 1))
    return jnp.sum(mass * spread, axis=0, keepdims=True) / jnp.sum(mass)


def _scale(spread, g, least):
    """Factors of covariances `(K or 1, D, D)`, or deviations of variances `(K or 1, D)`."""
    if is_full(g):
        return triangular.floored_cholesky(spread, least)
    if is_spherical(g):
        return jnp.sqrt(jnp.maximum(jnp.mean(spread, axis=1), least))
    return jnp.sqrt(jnp.maximum(spread, least[None]))


def _where(alive, new, old):
    """The new entries of components that are alive, the old ones of others."""
    alive = alive.reshape(-1, *[1] * (new.ndim - 1))
    return jnp.where(alive, new, old)
