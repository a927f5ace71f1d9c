"""Lower bounds from one dimension: no marginal of two mixtures is further apart than they are.

Nor are the marginals under a little noise, by the same data-processing inequality: with it nothing
is narrower than the steps of a plain sum over the line.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._mixture import linalg, triangular
from gmmjax._mixture.gmm import GMM
from gmmjax._mixture.moments import covariance, mean

GRID = np.linspace(-6, 6, 385)  # in deviations of both mixtures together
NOISE = 0.75  # its deviation, in steps of the grid
NUM_STARTS = 6  # directions that are turned uphill, that of the means among them
TURNS = 0.5 * 0.75 ** np.arange(44)  # radians


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def projected(integrand: Callable, p: GMM, q: GMM) -> jax.Array:
    """A divergence along the direction in which it is largest, less what the sum may be off by.

    As far as found: any direction gives a lower bound. It carries no gradient, for the divergence
    is stationary in the best one.

    Args:
      integrand: of the divergence, from both log-densities; nowhere negative.
      p: a mixture.
      q: a mixture of the same dimension.
    """
    return _search(integrand, p, q)[1]


@projected.defjvp
def _projected_jvp(integrand, primals, tangents):
    v, value = _search(integrand, *primals)

    def along(p, q):
        return _along(integrand, p, q, _frame(p, q), v)

    return value, jax.jvp(along, primals, tangents)[1]


def kl_integrand(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    """Of KL: p log(p/q) − p + q."""
    return jnp.exp(log_p) * (log_p - log_q - 1) + jnp.exp(log_q)


def js_integrand(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    """Of JS: ½ p log(p/m) + ½ q log(q/m), with m the middle."""
    log_m = jnp.logaddexp(log_p, log_q) - jnp.log(2.0).astype(log_p.dtype)
    return 0.5 * (jnp.exp(log_p) * (log_p - log_m) + jnp.exp(log_q) * (log_q - log_m))


class _Frame(NamedTuple):
    """Where two mixtures are, together."""

    gap: jax.Array  # between the means
    centre: jax.Array
    whitener: jax.Array  # gives both together unit covariance


def _frame(p, q):
    means = mean(p), mean(q)
    gap = means[0] - means[1]
    pooled = 0.5 * (covariance(p) + covariance(q)) + 0.25 * gap[:, None] * gap[None]
    whitener = triangular.tril_inverse(triangular.cholesky(pooled))
    return _Frame(gap, 0.5 * (means[0] + means[1]), whitener)


def _search(integrand, p, q):
    """The best of some directions that are turned uphill, in white coordinates; its value."""
    frame = _frame(p, q)
    dim, dtype = p.dim, p.means.dtype

    def climb(v, turn):
        height, slope = jax.value_and_grad(_along, argnums=4)(integrand, p, q, frame, v)
        slope -= jnp.vdot(slope, v) * v
        return _unit(v + turn * _unit(slope)), (v, height)

    others = jnp.asarray(np.random.default_rng(0).normal(size=(NUM_STARTS - 1, dim)), dtype)
    # Equal means have no difference.
    start = linalg.matmul(frame.whitener, frame.gap) + jnp.finfo(dtype).eps * others[0]
    starts = jnp.concatenate([start[None], others])
    turns = jnp.asarray(TURNS, dtype)
    _, (ends, heights) = jax.vmap(lambda v: jax.lax.scan(climb, _unit(v), turns))(starts)
    best = jnp.argmax(heights[:, -1])
    return ends[best, -1], heights[best, -1]


def _unit(v):
    return v * jax.lax.rsqrt(jnp.vdot(v, v) + jnp.finfo(v.dtype).tiny)


def _along(integrand, p, q, frame, v):
    """The divergence along a direction, less the error of the sum and of rounding."""
    direction = linalg.matmul(v, frame.whitener)
    points = jnp.vdot(frame.centre, direction) + jnp.asarray(GRID, v.dtype)
    terms = integrand(*(_log_density(g, direction, points) for g in (p, q)))
    step = float(GRID[1] - GRID[0])
    fine, coarse = step * jnp.sum(terms), 2 * step * jnp.sum(terms[::2])
    rounding = 64 * jnp.finfo(v.dtype).eps * (1 + jnp.abs(fine))
    return fine - jnp.abs(fine - coarse) - rounding


def _log_density(g, direction, points):
    """Log-densities of a mixture along a direction, under a little noise, `(n,)`."""
    if g.scale.ndim > g.means.ndim:
        rows = linalg.matmul(direction[None, None], g.scale)[:, 0]
    else:
        rows = g.scale.reshape(len(g.scale), -1) * direction[None]
    variances = jnp.sum(rows * rows, axis=1) + float(NOISE * (GRID[1] - GRID[0])) ** 2
    centred = points[None] - linalg.matmul(g.means, direction)[:, None]
    log_peaks = jax.nn.log_softmax(g.logits) - 0.5 * jnp.log(2 * jnp.pi * variances)
    return jax.nn.logsumexp(log_peaks[:, None] - 0.5 * centred**2 / variances[:, None], axis=0)
