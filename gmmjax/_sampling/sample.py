"""Plain draws from a mixture."""

import jax
import jax.numpy as jnp

from gmmjax._mixture.gmm import GMM, as_float
from gmmjax._sampling import allocation
from gmmjax._sampling.blocks import block_size
from gmmjax._validate import check_count, keyed


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
