"""Mixtures from weights, means and covariances, and several mixtures as one batch."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._jax import is_traced
from gmmjax._logs import log_softmax
from gmmjax._mixture import values
from gmmjax._mixture.gmm import GMM, as_float, as_real, check_shapes, float_of, of_present
from gmmjax._mixture.structure import is_tied
from gmmjax._validate import check_count, warn


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
      converted. It is differentiable in all three arguments.

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
    rounded = values.round_to(dtype, means, values.checked_factor(covariances))
    return GMM(*(jnp.asarray(leaf, dtype) for leaf in (logits, *rounded)))


@jax.jit
def _build(logits, means, cov: jax.Array):
    means, cov = of_present(logits, means), of_present(logits, cov)
    if cov.ndim < 3:
        return GMM(logits, means, jnp.sqrt(cov))
    skew, size = (jnp.max(jnp.abs(a), axis=(1, 2), keepdims=True) for a in (cov - cov.mT, cov))
    symmetric = jnp.where(skew <= values.ASYMMETRY * size, cov, jnp.nan)
    return GMM(logits, means, jnp.linalg.cholesky(symmetric))


def stack(mixtures: Sequence[GMM] | Mapping[Any, GMM]) -> GMM:
    r"""One batch of mixtures, for `jax.vmap`: every leaf gains a leading axis of length B; exact.

    Fewer components than the largest are padded with absent ones (logit −inf), and covariance types
    are promoted to the smallest type that holds them all, so that each mixture keeps its density.

    Args:
      mixtures: B mixtures of one dimension D, of any numbers of components and types of covariance;
        of a dict its values, in their order.

    Returns:
      A `GMM` of leaves `(B, K)`, `(B, K, D)` and `(B, …)`.

    Raises:
      ValueError: there are none, or their dimensions differ.
      TypeError: one of them is not a `GMM`.

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> a = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 2)), jnp.ones(1))
      >>> b = gmmjax.GMM(jnp.zeros(3), jnp.zeros((3, 2)), jnp.ones((3, 2)))
      >>> batch = gmmjax.stack([a, b])
      >>> batch.scale.shape, jax.vmap(gmmjax.mean)(batch).shape
      ((2, 3, 2), (2, 2))
    """
    named = isinstance(mixtures, Mapping)
    return stack_checked(check_mixtures(list(mixtures.values()) if named else mixtures))


@jax.jit
def stack_checked(mixtures: Sequence[GMM]) -> GMM:
    """The same of mixtures whose values have been looked at, in fewer operations."""
    count = max(g.num_components for g in mixtures)
    rank = max(g.scale.ndim for g in mixtures)
    tied = all(g.scale.shape[0] == 1 for g in mixtures)
    padded = [_promote(g, count, rank, 1 if tied else count) for g in mixtures]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *padded)


def pad(g: GMM, num_components: int) -> GMM:
    r"""The same density with more components, of which the new ones are absent; exact.

    Programs are compiled for one number of components: mixtures whose numbers vary, as in tracking
    or in a search, share one where all are padded to the largest.

    Args:
      g: a mixture of K components; its type of covariance stays what it is.
      num_components: how many to have, at least K, a Python int (static under `jit`).

    Returns:
      A `GMM` whose first K components are those of `g`, and whose others have logit −inf and
      gradient 0.

    Raises:
      TypeError: `g` is not a `GMM`, or `num_components` is not an int.
      ValueError: shapes disagree, or `num_components` is below K.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> g = gmmjax.GMM(jnp.zeros(2), jnp.zeros((2, 3)), jnp.ones(2))
      >>> print(gmmjax.weights(gmmjax.pad(g, 4)))
      [0.5 0.5 0.  0. ]
    """
    g = as_float("g", g, singular=True)
    count = check_count("num_components", num_components)
    if count < g.num_components:
        raise ValueError(
            f"num_components: expected at least the {g.num_components} there are, got {count}; "
            "gmmjax.reduce_mixture makes fewer of them"
        )
    return _pad(g, count)


@jax.jit(static_argnums=1)
def _pad(g, count):
    return _promote(g, count, g.scale.ndim, 1 if is_tied(g) else count)


def check_mixtures(mixtures, name="mixtures"):
    """Several mixtures of one space; errors call the argument `name`."""
    if isinstance(mixtures, GMM) or not len(mixtures):
        found = "a GMM" if len(mixtures) else "none"
        raise ValueError(f"{name}: expected at least one GMM in a sequence, got {found}")
    checked = [as_float(f"{name}[{i}]", g, singular=True) for i, g in enumerate(mixtures)]
    dims = [g.dim for g in checked]
    if len(set(dims)) > 1:
        raise ValueError(f"{name}: expected one dimension, got {dims}")
    return checked


def concatenate(mixtures: Sequence[GMM]) -> GMM:
    """The components of checked mixtures side by side, with their log-weights in their own."""
    rank = max(g.scale.ndim for g in mixtures)
    alike = [_promote(g, g.num_components, rank, g.num_components) for g in mixtures]
    alike = [g._replace(logits=log_softmax(g.logits)) for g in alike]
    return GMM(*(jnp.concatenate(leaves) for leaves in zip(*alike, strict=True)))


def _promote(g, count, rank, scale_count):
    """Add absent components up to `count`, and store the scale in a larger structure."""
    scale = g.scale
    if scale.ndim < rank:
        scale = jnp.broadcast_to(scale.reshape(scale.shape[0], -1), (scale.shape[0], g.dim))
    if scale.ndim < rank:
        scale = scale[:, :, None] * jnp.eye(g.dim, dtype=scale.dtype)[None]
    if scale.shape[0] == 1 and scale_count > 1:
        scale = jnp.broadcast_to(scale, (g.num_components, *scale.shape[1:]))
    # Absent components repeat the last one: finite, and as well conditioned as the mixture itself.
    missing = count - g.num_components
    logits = jnp.concatenate([g.logits, jnp.full(missing, -jnp.inf, g.logits.dtype)])
    means = _repeat_last(g.means, missing)
    return GMM(logits, means, _repeat_last(scale, scale_count - scale.shape[0]))


def _repeat_last(leaf, times):
    """Append the last element of an array so many times."""
    return jnp.concatenate([leaf, jnp.repeat(leaf[-1:], times, axis=0)])


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
