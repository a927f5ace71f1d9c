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

from gmmjax._logs import log_softmax
from gmmjax._matrices import linalg, triangular
from gmmjax._mixture.gmm import GMM
from gmmjax._mixture.join import stack_checked
from gmmjax._mixture.moments import checked_mean, covariance_factor
from gmmjax._mixture.structure import is_full

GRID = np.linspace(-6, 6, 385)  # in deviations of both mixtures together
STEP = float(GRID[1] - GRID[0])
NOISE = 0.75  # its deviation, in steps of the grid
NUM_STARTS = 6  # directions that are turned uphill, that of the means among them
TURNS = 0.5 * 0.75 ** np.arange(32)  # radians; shorter steps from the start end elsewhere


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def projected(integrand: Callable, p: GMM, q: GMM) -> jax.Array:
    """A divergence along the direction in which it is largest, less what the sum may be off by.

    As far as found: any direction gives a lower bound. It carries no gradient, for the divergence
    is stationary in the best one.

    Args:
      integrand: of the divergence and its derivatives, from both log-densities; nowhere negative.
      p: a mixture.
      q: a mixture of the same dimension.
    """
    return _search(integrand, p, q)[1]


@projected.defjvp
def _projected_jvp(integrand, primals, tangents):
    v, value = _search(integrand, *primals)

    def along(p, q):
        frame = _frame(p, q)
        return _total(integrand, _densities(frame, linalg.matmul(v, frame.whitener)))[0]

    return value, jax.jvp(along, primals, tangents)[1]


def kl_integrand(log_p: jax.Array, log_q: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Of KL, p log(p/q) − p + q, and its derivatives in log p and log q."""
    p, q = jnp.exp(log_p), jnp.exp(log_q)
    by_log_p = p * (log_p - log_q)
    return by_log_p - p + q, by_log_p, q - p


def js_integrand(log_p: jax.Array, log_q: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Of JS, ½ p log(p/m) + ½ q log(q/m) with m the middle, and its derivatives."""
    log_m = jnp.logaddexp(log_p, log_q) - jnp.log(2.0).astype(log_p.dtype)
    by_log_p = 0.5 * jnp.exp(log_p) * (log_p - log_m)
    by_log_q = 0.5 * jnp.exp(log_q) * (log_q - log_m)
    return by_log_p + by_log_q, by_log_p, by_log_q


class _Frame(NamedTuple):
    """Both mixtures, in one batch for the sake of compile time, and where they are together."""

    both: GMM  # about the middle of their means
    gap: jax.Array  # between the means
    whitener: jax.Array  # gives both together unit covariance


def _frame(p, q):
    both = stack_checked([p, q])
    means = jax.vmap(checked_mean)(both)
    gap = means[0] - means[1]
    pooled, _ = covariance_factor(_blend(both))
    whitener = triangular.tril_inverse(pooled)
    centred = both.means - jnp.mean(means, axis=0)[None, None]
    return _Frame(both._replace(means=centred), gap, whitener)


def _blend(both):
    """Both mixtures with the same weight, as one."""
    _, count, dim = both.means.shape
    scale = jnp.broadcast_to(both.scale, (2, count, *both.scale.shape[2:]))
    logits = jax.vmap(log_softmax)(both.logits).reshape(-1)
    return GMM(logits, both.means.reshape(-1, dim), scale.reshape(-1, *scale.shape[2:]))


def _search(integrand, p, q):
    """The best of some directions that are turned uphill, in white coordinates; its value."""
    frame = _frame(p, q)
    dim, dtype = p.dim, p.means.dtype

    def climb(place, turn):
        v = place[0]
        height, slope = _height_and_slope(integrand, frame, v)
        slope -= jnp.vdot(slope, v) * v
        return (_unit(v + turn * _unit(slope)), v, height), None

    def end(v):
        first = _unit(v), v, jnp.zeros((), dtype)
        return jax.lax.scan(climb, first, jnp.asarray(TURNS, dtype))[0][1:]

    others = jnp.asarray(np.random.default_rng(0).normal(size=(NUM_STARTS - 1, dim)), dtype)
    # Equal means have no difference.
    start = linalg.matmul(frame.whitener, frame.gap) + jnp.finfo(dtype).eps * others[0]
    ends, heights = jax.vmap(end)(jnp.concatenate([start[None], others]))
    best = jnp.argmax(heights)
    return ends[best], heights[best]


def _unit(v):
    return v * jax.lax.rsqrt(jnp.vdot(v, v) + jnp.finfo(v.dtype).tiny)


class _Densities(NamedTuple):
    """Both mixtures along a direction, under a little noise."""

    rows: jax.Array  # (2, K or 1, D) of the direction's deviations
    variances: jax.Array  # (2, K or 1)
    gaps: jax.Array  # (2, K, n) from the means to the points
    logs: jax.Array  # (2, K, n) of weighted components
    log_sums: jax.Array  # (2, n)


def _densities(frame, direction):
    g = frame.both
    if is_full(g):
        rows = linalg.matmul(direction, g.scale)
    else:
        rows = g.scale.reshape(2, g.scale.shape[1], -1) * direction[None, None]
    variances = jnp.sum(rows * rows, axis=-1) + float(NOISE * STEP) ** 2
    grid = jnp.asarray(GRID, direction.dtype)[None, None]
    gaps = grid - linalg.matmul(g.means, direction)[:, :, None]
    log_peaks = jax.vmap(log_softmax)(g.logits) - 0.5 * jnp.log(2 * jnp.pi * variances)
    logs = log_peaks[:, :, None] - 0.5 * gaps**2 / variances[:, :, None]
    return _Densities(rows, variances, gaps, logs, jax.nn.logsumexp(logs, axis=1))


def _total(integrand, densities):
    """The divergence along a direction, less the error of the sum and of rounding; its slopes."""
    terms, *slopes = integrand(*densities.log_sums)
    fine, coarse = STEP * jnp.sum(terms), 2 * STEP * jnp.sum(terms[::2])
    rounding = 64 * jnp.finfo(terms.dtype).eps * (1 + jnp.abs(fine))
    return fine - jnp.abs(fine - coarse) - rounding, slopes


def _height_and_slope(integrand, frame, v):
    """The divergence along a direction, and by how much it rises with each coordinate of it."""
    # Written down: what differentiation makes of it takes three times as long to compile.
    densities = _densities(frame, linalg.matmul(v, frame.whitener))
    height, slopes = _total(integrand, densities)
    shares = jnp.exp(densities.logs - densities.log_sums[:, None]) * jnp.stack(slopes)[:, None]
    scaled = densities.gaps / densities.variances[:, :, None]
    by_mean = jnp.sum(shares * scaled, axis=-1)
    by_variance = jnp.sum(shares * (scaled * densities.gaps - 1), axis=-1) / densities.variances
    g = frame.both
    if is_full(g):
        turned = linalg.matvec(g.scale, densities.rows)
    else:
        turned = g.scale.reshape(2, g.scale.shape[1], -1) * densities.rows
    per_component = by_mean[..., None] * g.means + by_variance[..., None] * turned
    return height, linalg.matmul(frame.whitener, STEP * jnp.sum(per_component, axis=(0, 1)))
