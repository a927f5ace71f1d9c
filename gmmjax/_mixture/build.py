"""Mixtures from weights, means and covariances."""

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._jax import is_traced
from gmmjax._logs import log_softmax
from gmmjax._mixture import rounding, values
from gmmjax._mixture.gmm import GMM, as_real, check_shapes, float_of, of_present
from gmmjax._validate import warn


def from_covariances(weights, means, covariances) -> GMM:
    r"""Build a mixture from weights, means and covariances (not standard deviations); exact.

    Args:
      weights: `(K,)` non-negative, normalised for you in float64; 0 makes a component absent (logit
        −inf), and its mean and covariance may then be anything.
      means: `(K, D)`.
      covariances: `(K, D, D)` matrices, `(K, D)` variances or `(K,)` variances; a leading 1 in
        place of K is one covariance for all components (tied). For scikit-learn's tied `(D, D)`
        pass `covariances[None]`.

    Returns:
      A `GMM` in the dtype JAX gives the input (float32 unless `jax_enable_x64`), integers
      converted. It is differentiable in all three arguments; the derivative in a weight of 0 is 0,
      that of an absent component, and in a tiny weight what it tends to.

    Raises:
      ValueError: shapes disagree; weights are negative, not finite or all 0; means are not finite;
        covariances are not finite, not symmetric or not positive definite, or too large or small
        for the dtype. Under `jit` only shapes can be checked, and bad values give NaN.

    Warns:
      UserWarning: rounding to float32 moves a mean by more than a thousandth of its standard
        deviation, or changes the smallest eigenvalue of a covariance by more than a hundredth;
        `(D, D)` variances for K = D look like one covariance.

    Example:
      >>> import gmmjax
      >>> g = gmmjax.from_covariances([0.3, 0.7], [[0.0], [2.0]], [1.0, 4.0])
      >>> print(g.scale)
      [1. 2.]
    """
    arrays = {"weights": weights, "means": means, "covariances": covariances}
    arrays = {name: as_real(name, value) for name, value in arrays.items()}
    _check_layout(*(value.shape for value in arrays.values()))
    if not is_traced(arrays["covariances"]):
        _ask_whether_tied(arrays["covariances"], arrays["means"])
    return build(**arrays)


def build(weights, means, covariances) -> GMM:
    """A mixture from real arrays whose shapes agree: checked and rounded aloud where concrete."""
    arrays = [weights, means, covariances]
    dtype = float_of(*arrays)
    if is_traced(arrays):
        logits = log_weights(weights, dtype)
        return _build(logits, jnp.asarray(means, dtype), jnp.asarray(covariances, dtype))
    weights, means, covariances = (np.asarray(value, np.float64) for value in arrays)
    logits = values.log_of_weights(weights)
    means, covariances = (values.of_present(value, weights) for value in (means, covariances))
    values.check_finite(means=means, covariances=covariances)
    # factorised in double precision: rounding to float32 first can lose definiteness
    rounded = rounding.round_to(dtype, means, values.checked_factor(covariances))
    return GMM(*(jnp.asarray(leaf, dtype) for leaf in (logits, *rounded)))


@jax.jit
def _build(logits, means, cov: jax.Array):
    means, cov = of_present(logits, means), of_present(logits, cov)
    if cov.ndim < 3:
        return GMM(logits, means, jnp.sqrt(cov))
    skew, size = (jnp.max(jnp.abs(a), axis=(1, 2), keepdims=True) for a in (cov - cov.mT, cov))
    symmetric = jnp.where(skew <= values.ASYMMETRY * size, cov, jnp.nan)
    return GMM(logits, means, jnp.linalg.cholesky(symmetric))


def _check_layout(weights, means, covariances):
    if len(means) == 2 and covariances == (means[1],) * 2 and covariances not in (means, (1, 1)):
        raise ValueError(
            f"covariances: one {covariances} matrix for {means[0]} components; "
            "for a covariance that they share (tied) pass covariances[None]"
        )
    if len(covariances) == 0:
        raise ValueError("covariances: expected an array of rank 1 to 3, got a scalar")
    check_shapes(["weights", "means", "covariances"], weights, means, covariances)


def _ask_whether_tied(covariances, means):
    """Doubt `(D, D)` numbers for D components which could be one covariance, as of scikit-learn."""
    table = np.asarray(covariances, np.float64)
    if table.shape != means.shape or not values.could_be_tied(table):
        return
    as_tied = "for one covariance that all components share (tied) pass covariances[None]"
    if not (table > 0).all():
        raise ValueError(
            f"covariances: {table.shape} are variances, a row for each component, and must be "
            f"positive, got {table.min()}; {as_tied}"
        )
    warn(
        f"covariances: this {table.shape} table is taken for variances, a row for each component, "
        f"but it is symmetric and positive definite as a covariance is; {as_tied}, and for "
        "variances without this warning [numpy.diag(row) for row in covariances], or "
        "gmmjax.GMM(numpy.log(weights), means, numpy.sqrt(covariances))"
    )


def log_weights(weights, dtype) -> jax.Array:
    """Logarithms of normalised weights, −inf for 0.

    Concrete weights are normalised in float64 before anything is rounded: a logit of −115 is no
    problem in float32, which has no weight of 1e-50.
    """
    if is_traced(weights):
        return _log_weights(jnp.asarray(weights, dtype))
    return jnp.asarray(values.log_of_weights(np.asarray(weights, np.float64)), dtype)


@jax.jit
def _log_weights(w):
    present = w != 0  # NaN and negative weights stay in the logarithm, and come out as NaN
    safe = jax.lax.select(present, w, jnp.ones_like(w))
    return log_softmax(jnp.where(present, jnp.log(safe), -jnp.inf))
