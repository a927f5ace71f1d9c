"""Weights, means and covariances of a mixture and of its components."""

import jax
import jax.numpy as jnp

from gmmjax._matrices import linalg, scales, triangular
from gmmjax._mixture.gmm import GMM, as_float


def weights(g: GMM) -> jax.Array:
    r"""Component weights, :math:`w = \mathrm{softmax}(\text{logits})`; exact.

    Args:
      g: a mixture of K components.

    Returns:
      `(K,)` non-negative weights that sum to 1.

    Raises:
      TypeError: `g` is not a `GMM`.
      ValueError: its shapes disagree.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> g = gmmjax.GMM(jnp.log(jnp.array([1.0, 3.0])), jnp.zeros((2, 1)), jnp.ones(2))
      >>> print(gmmjax.weights(g).round(4))
      [0.25 0.75]
    """
    return _weights(as_float("g", g, singular=True).logits)


def covariances(g: GMM) -> jax.Array:
    r"""Covariance matrices of the components, whatever their structure; exact.

    .. math:: \Sigma_k = L_k L_k^\top

    Args:
      g: a mixture of K components in D dimensions.

    Returns:
      `(K, D, D)`, also for diagonal, spherical and tied scales; of absent components, which may
      hold anything, that of the heaviest one.

    Raises:
      TypeError: `g` is not a `GMM`.
      ValueError: its shapes disagree.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> g = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 2)), jnp.array([[1.0, 2.0]]))
      >>> print(gmmjax.covariances(g))
      [[[1. 0.]
        [0. 4.]]]
    """
    g = as_float("g", g, singular=True)
    return _covariances(g.scale, g.means)


def mean(g: GMM) -> jax.Array:
    r"""Mean of the mixture, :math:`\sum_k w_k \mu_k`; exact.

    Args:
      g: a mixture in D dimensions.

    Returns:
      `(D,)`.

    Raises:
      TypeError: `g` is not a `GMM`.
      ValueError: its shapes disagree.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> g = gmmjax.GMM(jnp.zeros(2), jnp.array([[0.0], [4.0]]), jnp.ones(2))
      >>> print(gmmjax.mean(g))
      [2.]
    """
    return checked_mean(as_float("g", g, singular=True))


def covariance(g: GMM) -> jax.Array:
    r"""Covariance of the mixture; exact.

    .. math:: \sum_k w_k (\Sigma_k + (\mu_k - \bar\mu)(\mu_k - \bar\mu)^\top)

    Args:
      g: a mixture in D dimensions.

    Returns:
      `(D, D)`.

    Raises:
      TypeError: `g` is not a `GMM`.
      ValueError: its shapes disagree.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> g = gmmjax.GMM(jnp.zeros(2), jnp.array([[0.0], [4.0]]), jnp.ones(2))
      >>> print(gmmjax.covariance(g))
      [[5.]]
    """
    return checked_covariance(as_float("g", g, singular=True))


# Compiled as a whole, for outside `jit` every operation would be a program of its own.
_weights = jax.jit(jax.nn.softmax)
_covariances = jax.jit(scales.dense_covariances)


@jax.jit
def checked_mean(g: GMM) -> jax.Array:
    """`mean` of a mixture whose values have been looked at, in fewer operations."""
    return jnp.sum(_weights(g.logits)[:, None] * g.means, axis=0)


@jax.jit
def checked_covariance(g: GMM) -> jax.Array:
    """`covariance` of a mixture whose values have been looked at, in fewer operations."""
    w, centred = _weights(g.logits), g.means - checked_mean(g)[None]
    within = jnp.tensordot(w, _covariances(g.scale, g.means), axes=1, precision=linalg.HIGHEST)
    return within + linalg.matmul(centred.T * w[None], centred)


@jax.jit
def covariance_factor(g: GMM) -> tuple[jax.Array, jax.Array]:
    """A lower factor of `covariance`, `(D, D)`, and what rounding may have done to its entries."""
    factors = scales.dense_factors(g.scale, g.means)
    return factor_of_spread(_weights(g.logits), g.means - checked_mean(g)[None], factors)


def factor_of_spread(
    shares: jax.Array, centred: jax.Array, factors: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The lower factor of Σ_k s_k (L_k L_kᵀ + δ_k δ_kᵀ), and what rounding may have done to it.

    The sum of squares, where components are far apart, has lost what they are within. The factor
    is regular whatever is lost: that much noise is in it.
    """
    count, dim = centred.shape
    roots = linalg.safe_sqrt(shares)[:, None, None]
    columns = roots * jnp.concatenate(
        [jnp.broadcast_to(factors, (count, dim, dim)), centred[:, :, None]], axis=2
    )
    rows = jnp.swapaxes(columns, 0, 1).reshape(dim, -1)
    noise = 8 * jnp.finfo(rows.dtype).eps * jnp.linalg.norm(jax.lax.stop_gradient(rows))
    noisy = jnp.concatenate([rows, noise * jnp.eye(dim, dtype=rows.dtype)], axis=1)
    return triangular.lower_factor(noisy), noise


def recentred(*mixtures: GMM) -> tuple[GMM, ...]:
    """Move all mixtures so that the first has its mean at 0, which changes no divergence."""
    # float32 has no digits to spare for an offset.
    origin = jax.lax.stop_gradient(checked_mean(mixtures[0]))[None]
    return tuple(g._replace(means=g.means - origin) for g in mixtures)
