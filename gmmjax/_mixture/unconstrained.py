"""Parameters that any optimiser may move freely."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gmmjax._matrices import linalg
from gmmjax._mixture.gmm import GMM, as_float
from gmmjax._mixture.structure import is_full


class Unconstrained(NamedTuple):
    """Free parameters of a mixture, of a type of their own so that they cannot be taken for one.

    Attributes:
      logits: as in `GMM`; −inf stays −inf.
      means: as in `GMM`.
      scale: as in `GMM`, with the logarithm of the absolute diagonal (of the standard deviations,
        for a diagonal or spherical scale) and zeros above it.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> u = gmmjax.unconstrain(gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.ones(1)))
      >>> type(u).__name__, float(u.scale[0])
      ('Unconstrained', 0.0)
    """

    logits: jax.Array
    means: jax.Array
    scale: jax.Array


def unconstrain(g: GMM) -> Unconstrained:
    r"""Parameters without constraints; exact.

    .. math:: (\text{logits}, \mu, L \text{ with } \log|L_{ii}|)

    Args:
      g: a mixture. Columns of a full factor with a negative diagonal are flipped, which changes no
        covariance.

    Returns:
      An `Unconstrained` of the same shapes: every value of its leaves is a mixture.

    Raises:
      TypeError: `g` is not a `GMM`.
      ValueError: its shapes disagree.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> g = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.array([2.0]))
      >>> print(gmmjax.constrain(gmmjax.unconstrain(g)).scale)
      [2.]
    """
    return _unconstrain(as_float("g", g, singular=True))


@jax.jit
def _unconstrain(g):
    if not is_full(g):
        return Unconstrained(g.logits, g.means, jnp.log(jnp.abs(g.scale)))
    diagonal = linalg.diagonal(g.scale)
    signs = jnp.where(diagonal < 0, -1.0, 1.0).astype(g.scale.dtype)
    below = jnp.tril(g.scale, -1) * signs[:, None, :]
    logs = linalg.diagonal_matrices(jnp.log(jnp.abs(diagonal)))
    return Unconstrained(g.logits, g.means, below + logs)


def constrain(u: Unconstrained) -> GMM:
    r"""The mixture of free parameters, the inverse of `unconstrain`; exact.

    Args:
      u: an `Unconstrained`; entries of `u.scale` above the diagonal are ignored.

    Returns:
      A `GMM` of the same shapes.

    Raises:
      TypeError: `u` is not an `Unconstrained`.
      ValueError: its shapes disagree.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> g = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 2)), jnp.array([[[3.0, 0.0], [1.0, 2.0]]]))
      >>> print(gmmjax.constrain(gmmjax.unconstrain(g)).scale.round(5))
      [[[3. 0.]
        [1. 2.]]]
    """
    if not isinstance(u, Unconstrained):
        raise TypeError(f"u: expected the result of gmmjax.unconstrain, got {type(u).__name__}")
    return _constrain(as_float("u", GMM(*u), singular=True))


@jax.jit
def _constrain(g):
    if not is_full(g):
        return g._replace(scale=jnp.exp(g.scale))
    diagonal = jnp.exp(linalg.diagonal(g.scale))
    return g._replace(scale=jnp.tril(g.scale, -1) + linalg.diagonal_matrices(diagonal))
