"""Log-densities: centre, whiten, square, logsumexp."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._jax import is_traced
from gmmjax._logs import log_softmax
from gmmjax._matrices import scales, tiles, whitening
from gmmjax._mixture import rounding
from gmmjax._mixture.gmm import GMM, as_float, as_real, float_of, in_dtype


class Density(NamedTuple):
    """What evaluating a density at points about 0 needs."""

    log_peaks: jax.Array  # (K,) log w_k N(μ_k; μ_k, Σ_k)
    rows: tuple[jax.Array, ...]  # blocks of rows of (−L_k⁻¹μ_k, L_k⁻¹), or a diagonal L_k⁻¹
    shift: jax.Array  # (K, D) L_k⁻¹μ_k


class Prepared(NamedTuple):
    """A mixture and what is computed of it once, not for every block of points."""

    mixture: GMM
    inverse: jax.Array  # L_k⁻¹, in the structure of the scale
    density: Density


def prepare(g: GMM, reference: jax.typing.ArrayLike = 0.0) -> Prepared:
    """Invert the factors of a checked mixture about 0.

    Log-densities come out as they are plus `reference`: in ratios it cancels, and near that of
    normalisers it leaves float32 its digits for the weights.
    """
    inverse = scales.inverse(g.scale, g.means)
    shift = scales.apply(inverse, g.means)
    rows = whitening.row_blocks(inverse, shift)
    peaks = log_softmax(g.logits) - (log_normalisers(g) - reference)
    return Prepared(g, inverse, Density(peaks, rows, shift))


def packed(g: Prepared) -> Prepared:
    """The same with nothing twice, so that derivatives of it are small."""
    logits, means, scale = g.mixture
    mixture = GMM(jax.lax.stop_gradient(logits), means, jax.lax.stop_gradient(scale))
    return Prepared(mixture, g.inverse, g.density._replace(rows=()))


def unpacked(g: Prepared) -> Prepared:
    """What was packed; weights and scale have lost their derivative, and leave it to the rest."""
    rows = whitening.row_blocks(g.inverse, g.density.shift)
    return g._replace(density=g.density._replace(rows=rows))


def log_normalisers(g: GMM) -> jax.Array:
    """½ log|2π Σ_k| of each component, `(K,)`."""
    normaliser = 0.5 * g.dim * float(np.log(2 * np.pi)) + scales.log_abs_det(g.scale, g.means)
    return jnp.broadcast_to(normaliser, g.logits.shape)


def log_peaks(g: GMM) -> jax.Array:
    """Log w_k N(μ_k; μ_k, Σ_k) of each component, `(K,)`."""
    return log_softmax(g.logits) - log_normalisers(g)


def squared_distances(d: Density, x: jax.Array) -> jax.Array:
    """‖L_k⁻¹(x − μ_k)‖² for points `(D, n)` about 0, as `(K, n)`."""
    return whitening.squared_norms(d.rows, d.shift, x)


def component_table(d: Density, distances: jax.Array) -> jax.Array:
    """Log w_k N(x; μ_k, Σ_k) at points with these squared distances, both `(K, n)`."""
    return d.log_peaks[:, None] - 0.5 * distances


def evaluate(d: Density, x: jax.Array) -> jax.Array:
    """Log p(x), `(n,)`, at points `(D, n)` about 0."""

    def distances(parts, x):
        rows, shift = parts
        return whitening.squared_norms(rows, shift, x)

    width = whitening.table_width(d.rows, d.shift)
    return tiles.log_sum(d.log_peaks, distances, (d.rows, d.shift), width, x)


def log_prob(g: GMM, x) -> jax.Array:
    r"""Log-density of a mixture; exact, in nats.

    .. math:: \log p(x) = \log \sum_k w_k\, \mathcal N(x; \mu_k, \Sigma_k)

    Args:
      g: a mixture in D dimensions.
      x: points `(…, D)`; integers are converted.

    Returns:
      `(…)`.

    Raises:
      TypeError: `g` is not a `GMM`.
      ValueError: its shapes disagree, or the points are not in its space.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> g = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0], [1.0]]), jnp.ones(2))
      >>> print(gmmjax.log_prob(g, jnp.zeros((3, 1))).round(4))
      [-1.4189 -1.4189 -1.4189]
    """
    return _at_points(_sums, *_checked(g, x))


def component_log_prob(g: GMM, x) -> jax.Array:
    r"""Log-density of each component; exact, in nats.

    .. math:: \log w_k + \log \mathcal N(x; \mu_k, \Sigma_k)

    Args:
      g: a mixture of K components in D dimensions.
      x: points `(…, D)`; integers are converted.

    Returns:
      `(…, K)`; −inf for absent components. `logsumexp` over the last axis is `log_prob`.

    Raises:
      TypeError: `g` is not a `GMM`.
      ValueError: its shapes disagree, or the points are not in its space.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> g = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0], [1.0]]), jnp.ones(2))
      >>> print(gmmjax.component_log_prob(g, jnp.ones(1)).round(4))
      [-3.6121 -1.6121]
    """
    return _at_points(_rows, *_checked(g, x))


def responsibilities(g: GMM, x) -> jax.Array:
    r"""Posterior probability of each component; exact.

    .. math:: r_k(x) = w_k\, \mathcal N(x; \mu_k, \Sigma_k) / p(x)

    Args:
      g: a mixture of K components in D dimensions.
      x: points `(…, D)`; integers are converted.

    Returns:
      `(…, K)`, non-negative, with sum 1 over the last axis.

    Raises:
      TypeError: `g` is not a `GMM`.
      ValueError: its shapes disagree, or the points are not in its space.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> g = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0], [1.0]]), jnp.ones(2))
      >>> print(gmmjax.responsibilities(g, jnp.zeros(1)))
      [0.5 0.5]
    """
    return _at_points(_shares, *_checked(g, x))


def _checked(g, x):
    """Both, in one dtype."""
    g = as_float("g", g)
    x = as_real("x", x)
    if x.ndim == 0 or x.shape[-1] != g.dim:
        raise ValueError(f"x: expected points of shape (…, {g.dim}), got {x.shape}")
    dtype = float_of(g.means, x)
    if dtype == jnp.float32 and not is_traced(g) and x.dtype == np.float64:
        rounding.warn_of_moved_points("x", dtype, x, jax.device_get(g.scale))
    return in_dtype(g, dtype), jnp.asarray(x, dtype)


def _table(g, x):
    """Log w_k N(x; μ_k, Σ_k) at points `(n, D)`, `(K, n)`."""
    # Points of a user are exact, however far from 0, and stay so.
    inverse = scales.inverse(g.scale, g.means)
    return log_peaks(g)[:, None] - 0.5 * whitening.squared_distances(inverse, g.means, x.T)


def _rows(g, x):
    return _table(g, x).T


def _sums(g, x):
    def distances(parts, x):
        inverse, means = parts
        return whitening.squared_distances(inverse, means, x)

    inverse = scales.inverse(g.scale, g.means)
    return tiles.log_sum(log_peaks(g), distances, (inverse, g.means), g.dim, x.T)


def _shares(g, x):
    return jax.nn.softmax(_table(g, x), axis=0).T


@jax.jit(static_argnums=0)
def _at_points(function, g, x):
    """Values of a function of a mixture and points `(n, D)` at points `(…, D)`."""
    found = tiles.over_blocks(function, g, x.reshape(-1, g.dim))
    return found.reshape(*x.shape[:-1], *found.shape[1:])
