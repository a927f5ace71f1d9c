"""Where a fit to a mixture may begin: functions `(key, p, num_components) -> GMM`."""

import jax
import jax.numpy as jnp

from gmmjax._matrices import linalg, triangular
from gmmjax._mixture.gmm import GMM, as_float
from gmmjax._mixture.moments import checked_mean, covariance_factor
from gmmjax._pairs.as_one import pooled
from gmmjax._reduction import costs, merge
from gmmjax._sampling.sample import sample
from gmmjax._validate import check_count, keyed

NUM_DRAWS = 4096  # of k-means: sees modes of weight 1/1000 a few times, and costs nothing


@keyed
def greedy_start(key, p: GMM, num_components: int, *, cost=costs.runnalls) -> GMM:
    r"""A mixture of fewer components by merging the cheapest pair again and again.

    An approximation of `p`. Merges keep weight, mean and covariance of each pair
    (:math:`P_{ij} = \sum_k \tfrac{w_k}{w_i+w_j} (P_k + (\mu_k-\mu_{ij})(\mu_k-\mu_{ij})^\top)`),
    hence those of the mixture. Deterministic: the key is not used.

    Args:
      key: a JAX key.
      p: a mixture of K components.
      num_components: how many to keep, a Python int; K or fewer are left.
      cost: `gmmjax.runnalls`, `gmmjax.salmond`, `gmmjax.west`, `gmmjax.williams`, or any function
        `(p, i)` to the costs `(K,)` of merging i with each.

    Returns:
      A full `GMM`.

    Raises:
      TypeError: `key` is not a key, `p` is not a `GMM`, or `num_components` is not an int.
      ValueError: shapes disagree, or `num_components` < 1.

    Reference:
      Runnalls (2007), "Kullback-Leibler approach to Gaussian mixture reduction", section V.

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(3), jnp.array([[0.0], [1.0], [5.0]]), jnp.ones(3))
      >>> print(gmmjax.greedy_start(jax.random.key(0), p, 2).means[:, 0])
      [0.5 5. ]
    """
    num_components = check_count("num_components", num_components)
    p = as_float("p", p)
    count = min(num_components, p.num_components)
    return _greedy_start(p, count, cost)


@jax.jit(static_argnums=(1, 2))
def _greedy_start(p, count, cost):
    labels = merge.greedy(p, p.num_components - count, cost)
    return pooled(p, labels, count)


@keyed
def moment_start(key, p: GMM, num_components: int) -> GMM:
    r"""Equal weights, means drawn from a Gaussian with the moments of `p`, its covariance for each.

    Of `p` only :math:`\bar\mu` and :math:`\bar\Sigma` are used, means are drawn from
    :math:`\mathcal N(\bar\mu, \bar\Sigma)`: an approximation, wide enough for every component to
    see all of `p`.

    Args:
      key: a JAX key.
      p: a mixture in D dimensions.
      num_components: how many components, a Python int.

    Returns:
      A full `GMM`.

    Raises:
      TypeError: `key` is not a key, `p` is not a `GMM`, or `num_components` is not an int.
      ValueError: shapes disagree, or `num_components` < 1.

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(3), jnp.array([[0.0], [1.0], [5.0]]), jnp.ones(3))
      >>> gmmjax.moment_start(jax.random.key(0), p, 2).scale.shape
      (2, 1, 1)
    """
    num_components = check_count("num_components", num_components)
    p = as_float("p", p)
    factor = covariance_factor(p)[0][None]
    z = jax.random.normal(key, (num_components, p.dim), p.means.dtype)
    means = checked_mean(p)[None] + linalg.matmul(z, factor[0].T)
    return _equal(means, factor)


@keyed
def random_start(key, p: GMM, num_components: int) -> GMM:
    r"""Equal weights, means drawn from `p`, and the covariance of `p` shrunk for each.

    It is shrunk by :math:`n^{-2/D}`, an approximation: n components of that size fill about the
    volume of `p`.

    Args:
      key: a JAX key.
      p: a mixture in D dimensions.
      num_components: n, how many components, a Python int.

    Returns:
      A full `GMM`.

    Raises:
      TypeError: `key` is not a key, `p` is not a `GMM`, or `num_components` is not an int.
      ValueError: shapes disagree, or `num_components` < 1.

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(3), jnp.array([[0.0], [1.0], [5.0]]), jnp.ones(3))
      >>> gmmjax.random_start(jax.random.key(0), p, 2).means.shape
      (2, 1)
    """
    num_components = check_count("num_components", num_components)
    p = as_float("p", p)
    factor = covariance_factor(p)[0][None] * num_components ** (-1.0 / p.dim)
    return _equal(sample(key, p, num_components), factor)


@keyed
def kmeans_start(key, p: GMM, num_components: int) -> GMM:
    r"""Means by k-means++ on draws from `p`, weights and covariances of the draws nearest to each.

    Each next mean is a draw chosen with probability proportional to its squared distance from the
    nearest mean so far, in the metric of the covariance of `p`. An approximation; a thousandth of
    the covariance of `p` is added to each, so that none is singular.

    Args:
      key: a JAX key.
      p: a mixture in D dimensions.
      num_components: how many components, a Python int.

    Returns:
      A full `GMM`.

    Raises:
      TypeError: `key` is not a key, `p` is not a `GMM`, or `num_components` is not an int.
      ValueError: shapes disagree, or `num_components` < 1.

    Reference:
      Arthur and Vassilvitskii (2007), "k-means++: the advantages of careful seeding", section 2.2.

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(3), jnp.array([[0.0], [1.0], [50.0]]), jnp.ones(3))
      >>> print(jnp.sort(gmmjax.weights(gmmjax.kmeans_start(jax.random.key(0), p, 2))).round(1))
      [0.3 0.7]
    """
    num_components = check_count("num_components", num_components)
    return _kmeans_start(key, as_float("p", p), num_components)


@jax.jit(static_argnums=2)
def _kmeans_start(key, p, count):
    key_draws, key_choice = jax.random.split(key)
    factor = covariance_factor(p)[0][None]
    inverse = triangular.tril_inverse(factor)[0]
    draws = sample(key_draws, p, NUM_DRAWS)
    white = linalg.matmul(draws - checked_mean(p)[None], inverse.T)
    centres = _kmeans_centres(key_choice, white, count)
    distances = jax.vmap(_squared_distances, in_axes=(None, 0))(white, centres)
    member = jax.nn.one_hot(jnp.argmin(distances, axis=0), count, axis=0, dtype=white.dtype)
    mass = jnp.sum(member, axis=1)
    share = member / jnp.maximum(mass, 1.0)[:, None]
    means = linalg.matmul(share, white)
    apart = white.T[None] - means[:, :, None]
    spread = linalg.matmul(apart * share[:, None, :], apart.mT)
    lower = triangular.cholesky(spread + 1e-3 * jnp.eye(p.dim, dtype=white.dtype)[None])
    logits = jnp.where(mass > 0, jnp.log(jnp.maximum(mass, 1.0)), -jnp.inf)
    moved = checked_mean(p)[None] + linalg.matmul(means, factor[0].T)
    return GMM(logits, moved, linalg.matmul(factor, lower))


def _kmeans_centres(key, points, count):
    """Points `(count, D)`, each drawn in proportion to the squared distance from those before."""

    def add(nearest: jax.Array, key):
        positive = nearest > 0
        safe = jnp.where(positive, nearest, 1.0)
        log_chance = jnp.where(positive, jnp.log(safe), -jnp.inf)
        chosen = points[jax.random.categorical(key, log_chance)]
        return jnp.minimum(nearest, _squared_distances(points, chosen)), chosen

    # All points are equally far before the first is chosen, and farther than from any of them.
    start = jnp.full(len(points), 1e6, points.dtype)
    return jax.lax.scan(add, start, jax.random.split(key, count))[1]


def _squared_distances(points, centre):
    return jnp.sum((points - centre[None]) ** 2, axis=1)


def _equal(means, factor):
    """Components of equal weight with one factor."""
    count, dim = means.shape
    return GMM(jnp.zeros(count, means.dtype), means, jnp.broadcast_to(factor, (count, dim, dim)))
