"""What it costs to merge two components: functions `(p, i)` to the costs of merging i with each."""

import jax
import jax.numpy as jnp

from gmmjax._matrices import linalg, scales
from gmmjax._mixture.gmm import GMM, as_float
from gmmjax._mixture.moments import covariance_factor
from gmmjax._pairs.as_one import Join, squared_norm


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
    p = as_float("p", p)
    join = Join.of(p, i)
    within = join.factors(join.rest, join.share)
    both = 2 * scales.log_abs_det(within, p.means) + jnp.log1p(
        join.spread * squared_norm(within, join.apart)
    )
    w = jax.nn.softmax(p.logits)
    alone = 2 * w * scales.log_abs_det(p.scale, p.means)
    return 0.5 * ((w[i] + w) * both - alone - alone[i])


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
    rate = linalg.safe_divide(w[i] * w, w[i] + w)
    factor, _ = covariance_factor(p)
    return rate * squared_norm(factor[None], p.means - p.means[i][None])


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
    p = as_float("p", p)
    w, join = jax.nn.softmax(p.logits), Join.of(p, i)
    half = jnp.full_like(w, 0.5)
    return jnp.minimum(w[i], w), squared_norm(join.factors(half, half), join.apart)


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
    p = as_float("p", p)
    w, join = jax.nn.softmax(p.logits), Join.of(p, i)
    rest, share, spread = join.rest, join.share, join.spread
    one, none = jnp.ones_like(w), jnp.zeros_like(w)
    # Of two Gaussians each: how much of the covariances of i, of j and of δ δᵀ is in the sum of
    # theirs, and how many δ their means are apart.
    one_both = join.log_overlap(one + rest, share, spread, share)
    other_both = join.log_overlap(rest, one + share, spread, rest)
    both_both = join.log_overlap(2 * rest, 2 * share, 2 * spread, none)
    one_one = join.log_overlap(2 * one, none, none, none)
    other_other = join.log_overlap(none, 2 * one, none, none)
    one_other = join.log_overlap(one, one, none, one)
    total = w[i] + w
    squares = [
        w[i] ** 2 * jnp.exp(one_one) + w**2 * jnp.exp(other_other),
        total**2 * jnp.exp(both_both) + 2 * w[i] * w * jnp.exp(one_other),
        -2 * total * (w[i] * jnp.exp(one_both) + w * jnp.exp(other_both)),
    ]
    return sum(squares[1:], squares[0])
