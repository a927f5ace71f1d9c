"""Distrax's `MixtureSameFamily`."""

from gmmjax._mixture.gmm import GMM
from gmmjax.interop._distributions import read
from gmmjax.interop._partner import load, untied


def from_distrax(distribution) -> GMM:
    r"""The mixture of a Distrax `MixtureSameFamily`, in the same structure; exact.

    Differentiable in the parameters of the distribution.

    Args:
      distribution: a `MixtureSameFamily` over a `Categorical` of K components that are `Normal`,
        `Independent` of `Normal`, or `MultivariateNormalTri`, `…FullCovariance` or `…Diag`. One
        such by itself is a mixture of one. It may not be a batch.

    Returns:
      A `GMM` in the dtype of the distribution.

    Raises:
      TypeError: `distribution` is not such an object, or its components are of another kind.
      ValueError: it is a batch.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> g = gmmjax.GMM(jnp.zeros(3), jnp.zeros((3, 2)), jnp.ones((3, 2)))
      >>> gmmjax.interop.from_distrax(gmmjax.interop.to_distrax(g)).scale.shape
      (3, 2)
    """
    return read(distribution, "distrax")


def to_distrax(g: GMM):
    r"""A Distrax `MixtureSameFamily` with the density of a mixture, over `(D,)` vectors; exact.

    Absent components (weight 0) are dropped, except under `jit`; what components share is repeated.
    Differentiable in `g`.

    Args:
      g: a mixture of K components in D dimensions.

    Returns:
      A `MixtureSameFamily` of `MultivariateNormalTri` for a full scale, of `MultivariateNormalDiag`
      for any other.

    Raises:
      ImportError: distrax is not installed.
      TypeError: `g` is not a `GMM`.
      ValueError: its shapes disagree.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> g = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 2)), jnp.ones(1))
      >>> print(gmmjax.interop.to_distrax(g).log_prob(jnp.zeros(2)).round(4))
      -1.8379
    """
    distrax = load("distrax", "distrax", "to_distrax")
    logits, means, scale = untied(g)
    normal = distrax.MultivariateNormalTri if scale.ndim == 3 else distrax.MultivariateNormalDiag
    return distrax.MixtureSameFamily(distrax.Categorical(logits=logits), normal(means, scale))
