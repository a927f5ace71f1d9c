"""TensorFlow Probability's `MixtureSameFamily`, on JAX."""

from gmmjax._mixture.gmm import GMM
from gmmjax.interop._distributions import read
from gmmjax.interop._partner import load, untied


def from_tfp(distribution) -> GMM:
    r"""The mixture of a TFP `MixtureSameFamily`, in the same structure; exact.

    Differentiable in the parameters of the distribution. Releases up to 0.25 do not import with
    current JAX; `tfp-nightly` does.

    Args:
      distribution: a `MixtureSameFamily` over a `Categorical` of K components that are `Normal`,
        `Independent` of `Normal`, or `MultivariateNormalTriL`, `…Diag` or `…FullCovariance`. One
        such by itself is a mixture of one. It may not be a batch.

    Returns:
      A `GMM` in the dtype of the distribution.

    Raises:
      TypeError: `distribution` is not such an object, or its components are of another kind.
      ValueError: it is a batch.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> g = gmmjax.GMM(jnp.zeros(3), jnp.zeros((3, 2)), jnp.ones((3, 2)))
      >>> gmmjax.interop.from_tfp(gmmjax.interop.to_tfp(g)).scale.shape
      (3, 2)
    """
    return read(distribution, "tensorflow_probability")


def to_tfp(g: GMM):
    r"""A TFP `MixtureSameFamily` with the density of a mixture, over vectors of length D; exact.

    Absent components (weight 0) are dropped, except under `jit`; what components share is repeated.
    Differentiable in `g`.

    Args:
      g: a mixture of K components in D dimensions.

    Returns:
      A `MixtureSameFamily` of `MultivariateNormalTriL` for a full scale, of
      `MultivariateNormalDiag` for any other.

    Raises:
      ImportError: tensorflow-probability is not installed.
      TypeError: `g` is not a `GMM`.
      ValueError: its shapes disagree.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> g = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 2)), jnp.ones(1))
      >>> print(gmmjax.interop.to_tfp(g).log_prob(jnp.zeros(2)).round(4))
      -1.8379
    """
    tfd = load("tensorflow_probability.substrates.jax", "tfp-nightly", "to_tfp").distributions
    logits, means, scale = untied(g)
    normal = tfd.MultivariateNormalTriL if scale.ndim == 3 else tfd.MultivariateNormalDiag
    return tfd.MixtureSameFamily(tfd.Categorical(logits=logits), normal(means, scale))
