"""PyTorch's `MixtureSameFamily`."""

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._mixture import rounding
from gmmjax._mixture.gmm import GMM, float_of
from gmmjax.interop._distributions import read
from gmmjax.interop._partner import load, untied


def from_torch(distribution) -> GMM:
    r"""The mixture of a PyTorch `MixtureSameFamily`, in the same structure; exact.

    Tensors are detached and copied: gradients do not pass from one library to the other.

    Args:
      distribution: a `MixtureSameFamily` over a `Categorical` of K components that are `Normal`,
        `Independent` of `Normal`, or `MultivariateNormal` (also of low rank). One such by itself
        is a mixture of one. It may not be a batch.

    Returns:
      A `GMM` in JAX's default dtype (float32 unless `jax_enable_x64`).

    Raises:
      TypeError: `distribution` is not such an object, or its components are of another kind.
      ValueError: it is a batch.

    Warns:
      UserWarning: rounding to float32 moves a mean by more than a thousandth of its standard
        deviation, or changes the smallest eigenvalue of a covariance by more than a hundredth.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> g = gmmjax.GMM(jnp.zeros(3), jnp.zeros((3, 2)), jnp.ones((3, 2)))
      >>> gmmjax.interop.from_torch(gmmjax.interop.to_torch(g)).scale.shape
      (3, 2)
    """
    with jax.enable_x64(True):  # tensors in double precision are read as such
        logits, means, scale = (np.asarray(leaf) for leaf in read(distribution, "torch"))
    dtype = float_of(logits, means, scale)
    if dtype == jnp.float32:
        names = "distribution: means", "distribution: scale"
        rounding.warn_of_rounding(dtype, logits, means, scale, names)
    return GMM(*(jnp.asarray(leaf, dtype) for leaf in (logits, means, scale)))


def to_torch(g: GMM):
    r"""A PyTorch `MixtureSameFamily` with the density of a mixture, over `(D,)` vectors; exact.

    Absent components (weight 0) are dropped, except under `jit`; what components share is repeated.
    Arrays are copied.

    Args:
      g: a mixture of K components in D dimensions.

    Returns:
      A `MixtureSameFamily` of `MultivariateNormal` for a full scale, of `Independent` `Normal` for
      any other.

    Raises:
      ImportError: torch is not installed.
      TypeError: `g` is not a `GMM`.
      ValueError: its shapes disagree.

    Example:
      >>> import gmmjax, torch, jax.numpy as jnp
      >>> g = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 2)), jnp.ones(1))
      >>> print(gmmjax.interop.to_torch(g).log_prob(torch.zeros(2)).numpy().round(4))
      -1.8379
    """
    torch = load("torch", "torch", "to_torch")
    dist = torch.distributions
    logits, means, scale = (torch.tensor(np.asarray(leaf)) for leaf in untied(g))
    if scale.ndim == 3:
        components = dist.MultivariateNormal(means, scale_tril=scale)
    else:
        components = dist.Independent(dist.Normal(means, scale), 1)
    return dist.MixtureSameFamily(dist.Categorical(logits=logits), components)
