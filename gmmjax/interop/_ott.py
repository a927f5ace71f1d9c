"""OTT's `GaussianMixture`."""

import jax

from gmmjax._matrices import scales
from gmmjax._mixture.gmm import GMM
from gmmjax.interop._partner import belongs_to, describe, load, untied


def from_ott(model) -> GMM:
    r"""The mixture of an `ott.tools.gaussian_mixture` `GaussianMixture`; exact.

    Differentiable in the parameters of the model.

    Args:
      model: a `GaussianMixture` of K components in D dimensions.

    Returns:
      A `GMM` with a full scale, in the dtype of the model.

    Raises:
      TypeError: `model` is not such an object.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> g = gmmjax.GMM(jnp.zeros(3), jnp.zeros((3, 2)), jnp.ones(3))
      >>> gmmjax.interop.from_ott(gmmjax.interop.to_ott(g)).scale.shape
      (3, 2, 2)
    """
    if not belongs_to(model, "ott", "GaussianMixture"):
        raise TypeError(f"model: expected ott's GaussianMixture, got {describe(model)}")
    return GMM(model.log_component_weights(), model.loc, model.cholesky)


def to_ott(g: GMM):
    r"""An `ott.tools.gaussian_mixture` `GaussianMixture` with the density of a mixture; exact.

    Absent components (weight 0) are dropped, except under `jit`; every scale becomes full, which is
    all that OTT has. Differentiable in `g`.

    Args:
      g: a mixture of K components in D dimensions.

    Returns:
      A `GaussianMixture`.

    Raises:
      ImportError: ott-jax is not installed.
      TypeError: `g` is not a `GMM`.
      ValueError: its shapes disagree.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> g = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 2)), jnp.ones(1))
      >>> print(gmmjax.interop.to_ott(g).log_prob(jnp.zeros((1, 2))).round(4))
      [-1.8379]
    """
    package = "ott.tools.gaussian_mixture"
    mixture = load(f"{package}.gaussian_mixture", "ott-jax", "to_ott")
    probabilities = load(f"{package}.probabilities", "ott-jax", "to_ott")
    scale_tril = load(f"{package}.scale_tril", "ott-jax", "to_ott")
    logits, means, scale = untied(g)

    def unconstrained(factor):
        return scale_tril.ScaleTriL.from_cholesky(factor).params

    free = jax.vmap(unconstrained)(scales.dense_factors(scale, means))
    weights = probabilities.Probabilities(logits[:-1] - logits[-1])  # softmax of these and a 0
    return mixture.GaussianMixture(loc=means, scale_params=free, component_weight_ob=weights)
