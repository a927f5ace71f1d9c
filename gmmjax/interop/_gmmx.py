"""gmmx's `GaussianMixtureModelJax`."""

import jax.numpy as jnp

from gmmjax._mixture.files import from_arrays, to_arrays
from gmmjax._mixture.gmm import GMM
from gmmjax.interop._partner import belongs_to, describe, load, untied


def from_gmmx(model) -> GMM:
    r"""The mixture of a `gmmx.GaussianMixtureModelJax`, in the same structure; exact.

    Args:
      model: a `GaussianMixtureModelJax` with full or diagonal covariances.

    Returns:
      A `GMM` in float32, as all of gmmx is.

    Raises:
      TypeError: `model` is not such an object.
      ValueError: its arrays are not a mixture.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> g = gmmjax.GMM(jnp.zeros(3), jnp.zeros((3, 2)), jnp.ones((3, 2)))
      >>> gmmjax.interop.from_gmmx(gmmjax.interop.to_gmmx(g)).scale.shape
      (3, 2)
    """
    if not belongs_to(model, "gmmx", "GaussianMixtureModelJax"):
        raise TypeError(f"model: expected gmmx's GaussianMixtureModelJax, got {describe(model)}")
    kind = str(model.covariances.type.value)
    try:
        return from_arrays(
            model.weights_numpy, model.means_numpy, model.covariances.values_numpy, kind
        )
    except ValueError as error:
        raise ValueError(f"model: {error}") from None


def to_gmmx(g: GMM):
    r"""A `gmmx.GaussianMixtureModelJax` with the density of a mixture, rounded to float32.

    It has no other precision. Absent components (weight 0) are dropped; what components share is
    repeated.

    Args:
      g: a mixture of K components in D dimensions.

    Returns:
      A `GaussianMixtureModelJax` with full covariances for a full scale, diagonal for any other.

    Raises:
      ImportError: gmmx is not installed.
      TypeError: `g` is not a `GMM`.
      ValueError: its shapes disagree, or its logits are not those of a mixture.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> g = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 2)), jnp.ones(1))
      >>> print(gmmjax.interop.to_gmmx(g).score_samples(jnp.zeros((1, 2))).ravel().round(4))
      [-1.8379]
    """
    gmmx = load("gmmx", "gmmx", "to_gmmx")
    arrays = to_arrays(GMM(*untied(g)))
    kind = arrays.pop("covariance_type")
    single = {name: jnp.asarray(array, jnp.float32) for name, array in arrays.items()}
    return gmmx.GaussianMixtureModelJax.from_squeezed(
        single["means"], single["covariances"], single["weights"], kind
    )
