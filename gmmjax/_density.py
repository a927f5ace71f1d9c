"""Log-densities: centre, whiten, square, logsumexp."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gmmjax import _linalg
from gmmjax._gmm import GMM, as_float, as_real


class Precision(NamedTuple):
    """What evaluating a density needs, computed once per mixture rather than once per block of points."""

    log_peaks: jax.Array  # (K,) log w_k N(μ_k; μ_k, Σ_k)
    means: jax.Array
    inverse: jax.Array


def precision(g: GMM) -> Precision:
    """Factorised form of a checked mixture."""
    normaliser = 0.5 * g.dim * jnp.log(2 * jnp.pi).astype(g.means.dtype) + _linalg.log_abs_det(g.scale, g.means)
    log_peaks = jax.nn.log_softmax(g.logits) - jnp.broadcast_to(normaliser, g.logits.shape)
    return Precision(log_peaks, g.means, _linalg.inverse_scale(g.scale, g.means))


def evaluate_components(d: Precision, x: jax.Array) -> jax.Array:
    """Log w_k N(x; μ_k, Σ_k) for points `(D, n)`, as `(K, n)`."""
    return d.log_peaks[:, None] - 0.5 * _linalg.squared_distances(d.inverse, d.means, x)


def evaluate(d: Precision, x: jax.Array) -> jax.Array:
    """Log p(x) for points `(D, n)`, as `(n,)`."""
    return jax.nn.logsumexp(evaluate_components(d, x), axis=0)


def log_prob(g: GMM, x) -> jax.Array:
    r"""Log-density of a mixture, :math:`\log p(x) = \log \sum_k w_k\, \mathcal N(x; \mu_k, \Sigma_k)`; exact, in nats.

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
    return jax.nn.logsumexp(component_log_prob(g, x), axis=-1)


def component_log_prob(g: GMM, x) -> jax.Array:
    r"""Log-density of each component, :math:`\log w_k + \log \mathcal N(x; \mu_k, \Sigma_k)`; exact, in nats.

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
    g = as_float("g", g)
    x = jnp.asarray(as_real("x", x))
    if x.ndim == 0 or x.shape[-1] != g.dim:
        raise ValueError(f"x: expected points of shape (…, {g.dim}), got {x.shape}")
    dtype = jnp.result_type(g.means, x)
    g = GMM(*(leaf.astype(dtype) for leaf in g))
    table = _component_table(g, x.reshape(-1, g.dim).astype(dtype))
    return table.reshape(*x.shape[:-1], g.num_components)


def responsibilities(g: GMM, x) -> jax.Array:
    r"""Posterior probability of each component, :math:`r_k(x) = w_k\, \mathcal N(x; \mu_k, \Sigma_k) / p(x)`; exact.

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
    return jax.nn.softmax(component_log_prob(g, x), axis=-1)


@jax.jit
def _component_table(g, x):
    return evaluate_components(precision(g), x.T).T
