"""Mixture reduction by merging one pair of components at a time, and what a merge costs."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._mixture import linalg, triangular
from gmmjax._mixture.gmm import GMM, as_float
from gmmjax._mixture.moments import covariance


class Parts(NamedTuple):
    """Components as weights `(K,)`, means `(K, D)` and covariances `(K, D, D)`: what merging is
    done in.
    """

    weights: jax.Array
    means: jax.Array
    covariances: jax.Array


def parts(g: GMM) -> Parts:
    """Parts of a checked mixture."""
    return Parts(jax.nn.softmax(g.logits), g.means, linalg.dense_covariances(g.scale, g.means))


def from_parts(c: Parts) -> GMM:
    """A full mixture of parts; weight 0 is absent."""
    present = c.weights > 0
    logits = jnp.where(present, jnp.log(jnp.where(present, c.weights, 1.0)), -jnp.inf)
    return GMM(logits, c.means, triangular.cholesky(c.covariances))


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
    c = parts(as_float("p", p))
    both = merged(c, i)
    log_dets = _log_det(c.covariances)
    return 0.5 * (
        both.weights * _log_det(both.covariances)
        - c.weights * log_dets
        - c.weights[i] * log_dets[i]
    )


def salmond(p: GMM, i) -> jax.Array:
    r"""Salmond's cost of merging component i with each j,
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
    rate = w[i] * w / jnp.where(total > 0, total, 1.0)
    return rate * _mahalanobis(covariance(p)[None], p.means - p.means[i][None])


def west(p: GMM, i) -> tuple[jax.Array, jax.Array]:
    r"""West's order of merging component i with each j: the lightest component first, with its
    nearest neighbour.

    Nearest by :math:`\|\mu_i-\mu_j\|^2` in the mean covariance of the pair; exact as such, and
    invariant to affine maps.

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
    c = parts(as_float("p", p))
    pooled = 0.5 * (c.covariances[i][None] + c.covariances)
    return jnp.minimum(c.weights[i], c.weights), _mahalanobis(pooled, c.means - c.means[i][None])


def williams(p: GMM, i) -> jax.Array:
    r"""Williams' cost of merging component i with each j, :math:`\int
    (w_iN_i+w_jN_j-(w_i+w_j)N_{ij})^2`.

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
    c = parts(as_float("p", p))
    both = merged(c, i)
    one = Parts(*(jnp.broadcast_to(leaf[i][None], leaf.shape) for leaf in c))
    squares = _overlap(one, one) + _overlap(c, c) + _overlap(both, both)
    return squares + 2 * (_overlap(one, c) - _overlap(one, both) - _overlap(c, both))


def greedy(p: GMM, num_merges, cost: Callable = runnalls) -> tuple[Parts, jax.Array, jax.Array]:
    """Merge the cheapest pair `num_merges` times; one row of the table of costs changes per merge.

    Returns parts `(K, …)`, which of them are left, and where each component of `p` went.
    """
    c = parts(p)
    count = len(c.weights)
    row = lambda c, i: jax.tree.leaves(cost(from_parts(c), i))
    table = jax.lax.map(lambda i: row(c, i), jnp.arange(count))

    def merge(_, state):
        c, left, labels, table = state
        i, j = _cheapest(table, left)
        both = jax.tree.map(lambda leaf: leaf[j], merged(c, i))
        c = Parts(*(leaf.at[i].set(new) for leaf, new in zip(c, both, strict=True)))
        c = c._replace(weights=c.weights.at[j].set(0.0))
        table = [
            t.at[i].set(new).at[:, i].set(new) for t, new in zip(table, row(c, i), strict=True)
        ]
        return c, left.at[j].set(False), jnp.where(labels == j, i, labels), table

    state = (c, jnp.ones(count, bool), jnp.arange(count), table)
    c, left, labels, _ = jax.lax.fori_loop(0, num_merges, merge, state)
    return c, left, (jnp.cumsum(left) - 1)[labels]


def merged(c: Parts, i) -> Parts:
    """Component i merged with each of them: their common weight, mean and covariance."""
    total = c.weights[i] + c.weights
    share = jnp.where(total > 0, c.weights / jnp.where(total > 0, total, 1.0), 0.5)[:, None]
    apart = c.means - c.means[i][None]
    spread = apart[:, :, None] * apart[:, None, :]
    share_, rest_ = share[..., None], (1 - share)[..., None]
    covariances = rest_ * c.covariances[i][None] + share_ * c.covariances + share_ * rest_ * spread
    return Parts(total, c.means[i][None] + share * apart, covariances)


def _cheapest(table: Sequence[jax.Array], left: jax.Array):
    """Indices of the cheapest pair that is left; a tuple of tables is compared as tuples are."""
    count = len(left)
    # The triangle is a constant: comparing two iotas takes XLA seconds to compile for a CPU.
    candidates = left[:, None] & left[None] & np.triu(np.ones((count, count), bool), 1)
    for costs in table:
        least = jnp.min(jnp.where(candidates, costs, jnp.inf))
        slack = 8 * jnp.finfo(costs.dtype).eps * jnp.abs(least)  # ties up to rounding are ties
        candidates &= costs <= least + slack
    return jnp.divmod(jnp.argmax(candidates), count)


def _log_det(matrices):
    return 2 * jnp.sum(jnp.log(linalg.diagonal(triangular.cholesky(matrices))), axis=-1)


def _mahalanobis(matrices, vectors):
    inverse = triangular.tril_inverse(triangular.cholesky(matrices))
    white = linalg.matmul(inverse, vectors[:, :, None])[:, :, 0]
    return jnp.sum(white * white, axis=1)


def _overlap(a, b):
    """∫ w_a N_a w_b N_b, component by component."""
    both = a.covariances + b.covariances
    normaliser = a.means.shape[1] * jnp.log(2 * jnp.pi).astype(both.dtype) + _log_det(both)
    return (
        a.weights * b.weights * jnp.exp(-0.5 * (normaliser + _mahalanobis(both, a.means - b.means)))
    )
