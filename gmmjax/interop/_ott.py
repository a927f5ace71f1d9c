"""OTT's `GaussianMixture`."""

import jax
import jax.numpy as jnp

from gmmjax._mixture.gmm import GMM
from gmmjax.interop._partner import belongs_to, describe, load, untied


def from_ott(model) -> GMM:
    r"""The mixture of an `ott.tools.gaussian_mixture` `GaussianMixture`; exact, differentiable in
    its parameters.

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
    r"""An `ott.tools.gaussian_mixture` `GaussianMixture` with the density of a mixture; exact,
    differentiable in `g`.

    Absent components (weight 0) are dropped, except under `jit`; every scale becomes full, which is
    all that OTT has.

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
    mixture, probabilities, scale_tril = (
        load(f"{package}.{name}", "ott-jax", "to_ott")
        for name in ("gaussian_mixture", "probabilities", "scale_tril")
    )
    logits, means, scale = untied(g)
    factors = (
        scale if scale.ndim == 3 else scale[:, :, None] * jnp.eye(g.dim, dtype=scale.dtype)[None]
    )
    free = jax.vmap(lambda factor: scale_tril.ScaleTriL.from_cholesky(factor).params)(factors)
    weights = probabilities.Probabilities(logits[:-1] - logits[-1])  # softmax of these and a 0
    return mixture.GaussianMixture(loc=means, scale_params=free, component_weight_ob=weights)
