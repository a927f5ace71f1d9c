"""NumPyro's `MixtureSameFamily`."""

from gmmjax._mixture.gmm import GMM
from gmmjax.interop._distributions import read
from gmmjax.interop._partner import load, untied


def from_numpyro(distribution) -> GMM:
    r"""The mixture of a NumPyro `MixtureSameFamily`, in the same structure; exact.

    Differentiable in the parameters of the distribution.

    Args:
      distribution: a `MixtureSameFamily` over a `Categorical` of K components that are `Normal`,
        `Independent` of `Normal`, or `MultivariateNormal` (also of low rank). One such by itself
        is a mixture of one. It may not be a batch.

    Returns:
      A `GMM` in the dtype of the distribution.

    Raises:
      TypeError: `distribution` is not such an object, or its components are of another kind.
      ValueError: it is a batch.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> g = gmmjax.GMM(jnp.zeros(3), jnp.zeros((3, 2)), jnp.ones((3, 2)))
      >>> gmmjax.interop.from_numpyro(gmmjax.interop.to_numpyro(g)).scale.shape
      (3, 2)
    """
    return read(distribution, "numpyro")


def to_numpyro(g: GMM):
    r"""A NumPyro `MixtureSameFamily` with the density of a mixture, over `(D,)` vectors; exact.

    Absent components (weight 0) are dropped, except under `jit`; what components share is repeated.
    Differentiable in `g`.

    Args:
      g: a mixture of K components in D dimensions.

    Returns:
      A `MixtureSameFamily` of `MultivariateNormal` for a full scale, of independent `Normal` for
      any other.

    Raises:
      ImportError: numpyro is not installed.
      TypeError: `g` is not a `GMM`.
      ValueError: its shapes disagree.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> g = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 2)), jnp.ones(1))
      >>> print(gmmjax.interop.to_numpyro(g).log_prob(jnp.zeros(2)).round(4))
      -1.8379
    """
    dist = load("numpyro.distributions", "numpyro", "to_numpyro")
    logits, means, scale = untied(g)
    if scale.ndim == 3:
        components = dist.MultivariateNormal(means, scale_tril=scale)
    else:
        components = dist.Normal(means, scale).to_event(1)
    return dist.MixtureSameFamily(dist.Categorical(logits=logits), components)
