"""What it costs to merge two components: functions `(p, i)` to the costs of merging i with each."""

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._mixture import linalg, triangular
from gmmjax._mixture.gmm import GMM, as_float
from gmmjax._mixture.moments import covariance
from gmmjax._reduction.merge import merged
from gmmjax._reduction.parts import Parts, from_gmm


def runnalls(p: GMM, i) -> jax.Array:
    r"""Runnalls' cost of merging component i with each j.

    :math:`\tfrac12 [(w_i + w_j) \log|P_{ij}| - w_i \log|P_i| - w_j \log|P_j|]`.
    An upper bound, in nats, on how much KL from the mixture grows by the merge, which keeps weight,
    mean and covariance of the pair (:math:`P_{ij}`); exact as such, and invariant to affine maps.

    Args:
      p: a mixture of K components.
      i: index of a component.

    Returns:
      `(K,)` costs; that of i itself has no meaning.

    Raises:
      TypeError: `p` is not a `GMM`.
      ValueError: its shapes disagree.

    Reference:
      Runnalls (2007), "Kullback-Leibler approach to Gaussian mixture reduction", equation 21.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(3), jnp.array([[0.0], [1.0], [5.0]]), jnp.ones(3))
      >>> print(gmmjax.runnalls(p, 0)[1:].round(3))
      [0.074 0.66 ]
    """
    c = from_gmm(as_float("p", p))
    terms = _weighted_log_dets(c)
    return 0.5 * (_weighted_log_dets(merged(c, i)) - terms - terms[i])


def salmond(p: GMM, i) -> jax.Array:
    r"""Salmond's cost of merging component i with each j.

    :math:`\frac{w_iw_j}{w_i+w_j}\|\mu_i-\mu_j\|^2_{P^{-1}}`.
    The part of the covariance P of the mixture that a merge moves from between to within
    components; exact as such, and invariant to affine maps.

    Args:
      p: a mixture of K components.
      i: index of a component.

    Returns:
      `(K,)` costs; that of i itself is 0.

    Raises:
      TypeError: `p` is not a `GMM`.
      ValueError: its shapes disagree.

    Reference:
      Salmond (1990), "Mixture reduction algorithms for target tracking in clutter", section 4.1.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(3), jnp.array([[0.0], [1.0], [5.0]]), jnp.ones(3))
      >>> print(gmmjax.salmond(p, 0)[1:].round(3))
      [0.029 0.735]
    """
    p = as_float("p", p)
    w = jax.nn.softmax(p.logits)
    total = w[i] + w
    rate = linalg.safe_divide(w[i] * w, total)
    return rate * _mahalanobis(covariance(p)[None], p.means - p.means[i][None])


def west(p: GMM, i) -> tuple[jax.Array, jax.Array]:
    r"""West's order of merging component i with each j: the lightest first, with its neighbour.

    Its nearest neighbour is that of least :math:`\|\mu_i-\mu_j\|^2` in the mean covariance of the
    pair; exact as such, and invariant to affine maps.

    Args:
      p: a mixture of K components.
      i: index of a component.

    Returns:
      Two arrays `(K,)`, the smaller weight of the pair and its distance: a cost that is compared as
      tuples are.

    Raises:
      TypeError: `p` is not a `GMM`.
      ValueError: its shapes disagree.

    Reference:
      West (1993), "Approximating posterior distributions by mixtures", section 3.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(3), jnp.array([[0.0], [1.0], [5.0]]), jnp.ones(3))
      >>> print(gmmjax.west(p, 0)[1])
      [ 0.  1. 25.]
    """
    c = from_gmm(as_float("p", p))
    lighter = jnp.minimum(c.weights[i], c.weights)
    pooled = 0.5 * (c.covariances[i][None] + c.covariances)
    return lighter, _mahalanobis(pooled, c.means - c.means[i][None])


def williams(p: GMM, i) -> jax.Array:
    r"""Williams' cost of merging component i with each j.

    :math:`\int (w_iN_i+w_jN_j-(w_i+w_j)N_{ij})^2`.
    The integrated square error between the mixtures before and after the merge; exact.

    Args:
      p: a mixture of K components.
      i: index of a component.

    Returns:
      `(K,)` costs; that of i itself has no meaning.

    Raises:
      TypeError: `p` is not a `GMM`.
      ValueError: its shapes disagree.

    Reference:
      Williams and Maybeck (2003), "Cost-function-based Gaussian mixture reduction for target
      tracking", equation 8.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(3), jnp.array([[0.0], [1.0], [5.0]]), jnp.ones(3))
      >>> costs = 1e3 * gmmjax.williams(p, 0)
      >>> print(f"{costs[1]:.2f} {costs[2]:.2f}")
      0.01 24.84
    """
    c = from_gmm(as_float("p", p))
    both = merged(c, i)
    one = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[i][None], leaf.shape), c)
    squares = _overlap(one, one) + _overlap(c, c) + _overlap(both, both)
    return squares + 2 * (_overlap(one, c) - _overlap(one, both) - _overlap(c, both))


def _weighted_log_dets(c: Parts):
    return c.weights * _log_det(c.covariances)


def _log_det(matrices):
    return 2 * jnp.sum(jnp.log(linalg.diagonal(triangular.cholesky(matrices))), axis=-1)


def _mahalanobis(matrices, vectors):
    """vᵀ M⁻¹ v of each matrix, or of one, and each vector."""
    inverse = triangular.tril_inverse(triangular.cholesky(matrices))
    white = linalg.matmul(inverse, vectors[:, :, None])[:, :, 0]
    return jnp.sum(white * white, axis=1)


def _overlap(a: Parts, b: Parts):
    """∫ w_a N_a w_b N_b, component by component."""
    both = a.covariances + b.covariances
    distance = _mahalanobis(both, a.means - b.means)
    normaliser = a.means.shape[1] * float(np.log(2 * np.pi)) + _log_det(both)
    return a.weights * b.weights * jnp.exp(-0.5 * (normaliser + distance))
