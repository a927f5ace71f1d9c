"""The table that bounds and merges are made of."""

import jax

from gmmjax._mixture.gmm import GMM, common_float
from gmmjax._pairs import components
from gmmjax._validate import keyless


@keyless
def component_kl(p: GMM, q: GMM) -> jax.Array:
    r"""Kullback–Leibler divergences between the components of two mixtures; exact, in nats.

    .. math:: \mathrm{KL}(p_a \| q_b) = \mathbb E_{p_a}[\log p_a - \log q_b]

    Weights play no part in it. Absent components may hold anything: their rows and columns are
    those of the heaviest component.

    Args:
      p: a mixture of K_p components.
      q: a mixture of K_q components, of the same dimension.

    Returns:
      `(K_p, K_q)`, differentiable in means and scales.

    Raises:
      TypeError: `p` or `q` is not a `GMM`.
      ValueError: shapes disagree.

    Reference:
      Hershey and Olsen (2007), "Approximating the Kullback Leibler divergence between Gaussian
      mixture models", equation 2.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[0.0], [2.0]]), jnp.ones(2))
      >>> print(gmmjax.component_kl(p, p))
      [[0. 2.]
       [2. 0.]]
    """
    return _component_kl(*common_float(p=p, q=q))


_component_kl = jax.jit(components.pairwise_kl)
