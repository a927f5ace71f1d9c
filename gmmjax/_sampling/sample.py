"""Draws from a mixture: plain ones, and points with weights that carry all gradients."""

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._mixture.gmm import GMM, as_float
from gmmjax._sampling import allocation
from gmmjax._sampling.allocation import next_power_of_two
from gmmjax._sampling.blocks import block_size
from gmmjax._sampling.points import sobol
from gmmjax._validate import check_count, check_function, keyed


@keyed
def sample(key, g: GMM, num_samples: int) -> jax.Array:
    r"""Independent draws with :math:`k \sim w` and :math:`z \sim \mathcal N(0, I)`.

    .. math:: x = \mu_k + L_k z

    The draws are pathwise differentiable in `means` and `scale`. They carry NO gradient with
    respect to the weights, because the choice of a component is not differentiable: the gradient of
    a mean of f over them with respect to `logits` is exactly 0, and wrong. `gmmjax.expectation` has
    all three gradients.

    Args:
      key: a JAX key.
      g: a mixture in D dimensions.
      num_samples: n, a Python int (static under `jit`).

    Returns:
      `(n, D)` in the dtype of the mixture.

    Raises:
      TypeError: `g` is not a `GMM`, `key` is not a key, or `num_samples` is not an int.
      ValueError: shapes disagree, or `num_samples` < 1.

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> g = gmmjax.GMM(jnp.zeros(2), jnp.zeros((2, 3)), jnp.ones(2))
      >>> gmmjax.sample(jax.random.key(0), g, 5).shape
      (5, 3)
    """
    return _sample(key, as_float("g", g, singular=True), check_count("num_samples", num_samples))


@jax.jit(static_argnames="num_samples")
def _sample(key, g, num_samples):
    # In blocks, so that a large draw needs no (K, n, D) at once.
    block = block_size(g.num_components, g.dim)
    count = -(-num_samples // block)
    # NaN for weights that are none, from which `categorical` would draw
    bad = 0 * jnp.sum(jax.nn.softmax(g.logits))
    g = g._replace(means=g.means + bad)

    def draw(stream):
        choose, move = jax.random.split(stream)
        chosen = jax.random.categorical(choose, g.logits, shape=(min(block, num_samples),))
        z = jax.random.normal(move, (g.dim, len(chosen)), g.means.dtype)
        choice = allocation.chosen(chosen, g.num_components, z.dtype)
        return allocation.place(choice, g.means, g.scale, z[:, :, None]).T

    return jax.lax.map(draw, jax.random.split(key, count)).reshape(-1, g.dim)[:num_samples]


@keyed
def weighted_sample(key, g: GMM, num_samples: int, *, points=sobol) -> tuple[jax.Array, jax.Array]:
    r"""Points and weights whose sums have the right gradient in all leaves.

    .. math:: \sum_i \omega_i f(x_i) \approx \mathbb E_g[f]

    Both the sum and its gradient are unbiased, whatever is made of the points on the way. For use
    inside networks, where `sample` has no weight gradient; where f is at hand, `expectation` does
    the same and states its error. The points :math:`x_i = \mu_k + L_k z_i` move with means and
    scales; the weight :math:`\omega_i = w_k / (n \pi_k)`, times that of the point set, moves with
    the logits. The share :math:`\pi_k` of the points that component k gets is a choice, and carries
    no gradient: three quarters of them go out by weight and one evenly.

    The points of a component follow each other: shuffle both before taking batches of them.

    Args:
      key: a JAX key.
      g: a mixture in D dimensions.
      num_samples: n, a Python int (static under `jit`). With 8 or more points per component each
        component gets its points; with fewer, some may get none.
      points: `gmmjax.sobol` or `gmmjax.iid`.

    Returns:
      Points `(n, D)` and weights `(n,)`, positive and summing to about 1: exactly for `iid` and n a
      power of two, 8 per component or more.

    Raises:
      TypeError: `g` is not a `GMM`, `key` is not a key, or `num_samples` is not an int.
      ValueError: shapes disagree, or `num_samples` < 1.

    Reference:
      Owen (1997), "Monte Carlo variance of scrambled net quadrature"; Cochran (1977), "Sampling
      techniques", section 5.5 (stratified sampling).

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> g = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0], [1.0]]), jnp.ones(2))
      >>> x, weight = gmmjax.weighted_sample(jax.random.key(0), g, 1024)
      >>> print((weight @ x[:, 0] ** 2).round(2))
      2.0
    """
    check_function("points", points)
    g, count = as_float("g", g), check_count("num_samples", num_samples)
    return _weighted_sample(key, g, count, points)


@jax.jit(static_argnums=(2, 3))
def _weighted_sample(key, g, count, points):
    owned = allocation.allocate(g, count)
    rates = owned.rates(g.logits)[None] / count
    # In blocks, so that a large draw needs no (K, n, D) at once.
    size = min(block_size(g.num_components, g.dim), next_power_of_two(count))
    key, key_shift = jax.random.split(key)
    # A random shift makes the number of points of each component right on average.
    shift = jax.random.uniform(key_shift, (), g.means.dtype)

    def draw(start):
        z, weight = points(key, np.zeros(1, np.int32), start, size, g.dim, g.means.dtype)
        position = ((start + np.arange(size, dtype=np.int32)).astype(shift.dtype) + shift) / count
        choice = allocation.choose(owned, position)
        x = allocation.place(choice, g.means, g.scale, z.reshape(g.dim, size, 1))
        return x.T, weight[0] * allocation.pick(rates, choice)[0]

    starts = np.arange(0, count, size, dtype=np.int32)
    x, weight = jax.lax.map(draw, starts)
    return x.reshape(-1, g.dim)[:count], weight.reshape(-1)[:count]
