"""scikit-learn's `GaussianMixture`."""

import numpy as np

from gmmjax._mixture.files import from_arrays, to_arrays
from gmmjax._mixture.gmm import GMM

_ATTRIBUTES = ("weights_", "means_", "covariances_")


def from_sklearn(model) -> GMM:
    r"""The mixture of a fitted `sklearn.mixture.GaussianMixture`, in the same structure; exact.

    Only attributes are read, and scikit-learn is not imported. A `BayesianGaussianMixture` gives
    the plug-in mixture of its `weights_`, `means_` and `covariances_`: its own `score_samples` is
    another quantity, in which expected log-weights and log-determinants stand for these, and not
    the log of that density.

    Args:
      model: an object with `weights_` `(K,)`, `means_` `(K, D)`, `covariances_` and
        `covariance_type`, one of 'full' `(K, D, D)`, 'tied' `(D, D)`, 'diag' `(K, D)` or
        'spherical' `(K,)`.

    Returns:
      A `GMM` in JAX's default dtype (float32 unless `jax_enable_x64`).

    Raises:
      TypeError: `model` is not such an object.
      ValueError: it is not fitted, or its attributes are not a mixture.

    Example:
      >>> import gmmjax, numpy
      >>> from sklearn.mixture import GaussianMixture
      >>> model = GaussianMixture(2, covariance_type="tied", random_state=0)
      >>> g = gmmjax.interop.from_sklearn(model.fit(numpy.arange(12.0).reshape(6, 2) ** 2))
      >>> g.means.shape, g.scale.shape
      ((2, 2), (1, 2, 2))
    """
    if isinstance(model, type) or not hasattr(model, "covariance_type"):
        got = model.__name__ if isinstance(model, type) else type(model).__name__
        raise TypeError(f"model: expected a fitted sklearn.mixture.GaussianMixture, got {got}")
    missing = [name for name in _ATTRIBUTES if not hasattr(model, name)]
    if missing:
        raise ValueError(f"model: is not fitted (no {', '.join(missing)}); call model.fit(X) first")
    try:
        return from_arrays(
            model.weights_, model.means_, model.covariances_, str(model.covariance_type)
        )
    except ValueError as error:
        raise ValueError(f"model: {error}") from None


def to_sklearn(g: GMM):
    r"""A fitted `sklearn.mixture.GaussianMixture` with the density of a mixture; exact, in float64.

    Absent components (weight 0) are dropped. A tied diagonal or sphere, which scikit-learn does not
    have, is repeated for every component. The model can score, predict and sample; `lower_bound_`
    is NaN, for no data were seen.

    Args:
      g: a mixture of K components in D dimensions.

    Returns:
      A `GaussianMixture` of covariance type 'full', 'tied', 'diag' or 'spherical', as `g.scale` has
      it.

    Raises:
      ImportError: scikit-learn is not installed.
      TypeError: `g` is not a `GMM`.
      ValueError: its shapes disagree, or its logits are not those of a mixture.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> g = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 2)), jnp.ones(1))
      >>> print(gmmjax.interop.to_sklearn(g).score_samples([[0.0, 0.0]]).round(4))
      [-1.8379]
    """
    arrays = to_arrays(g)
    try:
        from sklearn.mixture import GaussianMixture
    except ImportError as error:
        raise ImportError("to_sklearn needs scikit-learn: pip install gmmjax[sklearn]") from error
    kind, covariances = arrays["covariance_type"], arrays["covariances"]
    present = np.flatnonzero(arrays["weights"])
    scale = np.asarray(g.scale, np.float64)
    if kind == "tied":
        roots, precisions = (array[0] for array in _precisions(scale))
    else:
        covariances = _of_present(covariances, g.num_components, present)
        roots, precisions = _precisions(_of_present(scale, g.num_components, present))
    model = GaussianMixture(len(present), covariance_type=kind)
    model.weights_, model.means_ = arrays["weights"][present], arrays["means"][present]
    model.covariances_ = covariances
    model.precisions_cholesky_, model.precisions_ = roots, precisions
    model.converged_, model.n_iter_, model.lower_bound_ = True, 0, np.nan
    vars(model)["n_features_in_"] = model.means_.shape[1]  # which scikit-learn sets while fitting
    return model


def _of_present(values, count, present):
    """Rows of the components that are present; a leading 1, shared, is repeated for each."""
    return np.broadcast_to(values, (count, *values.shape[1:]))[present]


def _precisions(scale):
    """Upper factors U and precisions UUᵀ, or roots of precisions and these, as scikit-learn has
    them.
    """
    if scale.ndim < 3:
        roots = 1 / np.abs(scale)
        return roots, roots**2
    from scipy.linalg import solve_triangular

    # From the factor that we have: a second Cholesky of L Lᵀ would double the digits lost.
    signs = np.sign(np.diagonal(scale, axis1=1, axis2=2))
    positive = np.tril(scale) * signs[:, None, :]
    identity = np.eye(scale.shape[-1])
    inverses = [solve_triangular(lower, identity, lower=True) for lower in positive]
    roots = np.stack([inverse.T for inverse in inverses])
    return roots, roots @ roots.swapaxes(1, 2)
