"""Mixtures from weights, means and covariances, and several mixtures as one batch."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._mixture.gmm import GMM, as_float, as_real, check_shapes
from gmmjax._validate import is_traced

ASYMMETRY = 1e-5  # of the largest entry: what rounding may have done to a covariance


def from_covariances(weights, means, covariances) -> GMM:
    r"""Build a mixture from weights, means and covariances (not standard deviations); exact.

    Args:
      weights: `(K,)` non-negative, normalised for you; 0 makes a component absent (logit −inf).
      means: `(K, D)`.
      covariances: `(K, D, D)` matrices, `(K, D)` variances or `(K,)` variances; a leading 1 in
        place of K is one covariance for all components (tied). For scikit-learn's tied `(D, D)`
        pass `covariances[None]`.

    Returns:
      A `GMM` in the dtype JAX gives the input (float32 unless `jax_enable_x64`), integers
      converted. It is differentiable in all three arguments.

    Raises:
      ValueError: shapes disagree; weights are negative, not finite or all 0; means are not finite;
        covariances are not finite, not symmetric or not positive definite. Under `jit` only shapes
        can be checked, and bad values give NaN.

    Example:
      >>> import gmmjax
      >>> g = gmmjax.from_covariances([0.3, 0.7], [[0.0], [2.0]], [1.0, 4.0])
      >>> print(g.scale)
      [1. 2.]
    """
    arrays = {"weights": weights, "means": means, "covariances": covariances}
    arrays = {name: as_real(name, value) for name, value in arrays.items()}
    _check_layout(*(value.shape for value in arrays.values()))
    factor = None
    if not is_traced(arrays):
        concrete = {name: np.asarray(value, np.float64) for name, value in arrays.items()}
        check_values(**concrete)
        factor = checked_factor(concrete["covariances"], means_ndim=2)
    dtype = jnp.result_type(
        *(jax.dtypes.canonicalize_dtype(value.dtype) for value in arrays.values())
    )
    w, mu, cov = (jnp.asarray(value, dtype) for value in arrays.values())
    logits = log_weights(w)
    # factorised in double precision: rounding to float32 first can lose definiteness
    if factor is not None:
        return GMM(logits, mu, jnp.asarray(factor, dtype))
    if cov.ndim < 3:
        return GMM(logits, mu, jnp.sqrt(cov))
    skew, size = (jnp.max(jnp.abs(a), axis=(1, 2), keepdims=True) for a in (cov - cov.mT, cov))
    return GMM(logits, mu, jnp.linalg.cholesky(jnp.where(skew <= ASYMMETRY * size, cov, jnp.nan)))


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
    return _stack(check_mixtures(list(mixtures.values()) if named else mixtures))


@jax.jit
def _stack(mixtures):
    count = max(g.num_components for g in mixtures)
    rank = max(g.scale.ndim for g in mixtures)
    tied = all(g.scale.shape[0] == 1 for g in mixtures)
    padded = [pad(g, count, rank, 1 if tied else count) for g in mixtures]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *padded)


def check_mixtures(mixtures, name="mixtures"):
    """Several mixtures of one space; errors call the argument `name`."""
    if isinstance(mixtures, GMM) or not len(mixtures):
        found = "a GMM" if len(mixtures) else "none"
        raise ValueError(f"{name}: expected at least one GMM in a sequence, got {found}")
    checked = [as_float(f"{name}[{i}]", g) for i, g in enumerate(mixtures)]
    dims = [g.dim for g in checked]
    if len(set(dims)) > 1:
        raise ValueError(f"{name}: expected one dimension, got {dims}")
    return checked


def concatenate(mixtures: Sequence[GMM]) -> GMM:
    """The components of checked mixtures side by side, with their log-weights in their own."""
    rank = max(g.scale.ndim for g in mixtures)
    alike = [pad(g, g.num_components, rank, g.num_components) for g in mixtures]
    alike = [g._replace(logits=jax.nn.log_softmax(g.logits)) for g in alike]
    return GMM(*(jnp.concatenate(leaves) for leaves in zip(*alike, strict=True)))


def pad(g, count, rank, scale_count):
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
    if (
        len(means) == 2
        and len(covariances) == 2
        and covariances != means
        and covariances[0] == covariances[1]
    ):
        if covariances[0] == means[1] and covariances[0] != 1:
            raise ValueError(
                f"covariances: one {covariances} matrix for {means[0]} components; "
                "for a covariance that they share (tied) pass covariances[None]"
            )
    if len(covariances) == 0:
        raise ValueError("covariances: expected an array of rank 1 to 3, got a scalar")
    check_shapes(["weights", "means", "covariances"], weights, means, covariances)


@jax.jit
def log_weights(w: jax.Array) -> jax.Array:
    """Logarithms of normalised weights, −inf for 0."""
    present = w != 0  # NaN and negative weights stay in the logarithm, and come out as NaN
    return jnp.where(present, jnp.log(jnp.where(present, w, 1.0)) - jnp.log(jnp.sum(w)), -jnp.inf)


def check_values(weights, means, covariances):
    """Refuse concrete values that are not those of a mixture."""
    check_weights(weights)
    for name, value in (("means", means), ("covariances", covariances)):
        bad = value[~np.isfinite(value)]
        if bad.size:
            raise ValueError(
                f"{name}: expected finite values, got {bad[0]} in an array of shape {value.shape}"
            )


def check_weights(weights):
    """Refuse concrete values that are not those of weights."""
    bad = weights[~(np.isfinite(weights) & (weights >= 0))]
    if bad.size:
        raise ValueError(f"weights: expected finite and non-negative values, got {bad[0]}")
    if weights.sum() <= 0:
        raise ValueError(f"weights: all {weights.size} are 0; at least one must be positive")


def checked_factor(covariances, means_ndim):
    """Cholesky factors or standard deviations of concrete, positive definite covariances."""
    if covariances.ndim <= means_ndim:
        if not (covariances > 0).all():
            raise ValueError(f"covariances: expected positive variances, got {covariances.min()}")
        return np.sqrt(covariances)
    skew = np.abs(covariances - covariances.swapaxes(1, 2)).max(axis=(1, 2))
    size = np.abs(covariances).max(axis=(1, 2))
    for k in np.flatnonzero(skew > ASYMMETRY * size):
        raise ValueError(
            f"covariances: matrix {k} is not symmetric, |C − Cᵀ| reaches {skew[k]:.3g}"
        )
    factors = np.empty_like(covariances)
    for k, matrix in enumerate((covariances + covariances.swapaxes(1, 2)) / 2):
        try:
            factors[k] = np.linalg.cholesky(matrix)
        except np.linalg.LinAlgError:
            smallest = np.linalg.eigvalsh(matrix)[0]
            raise ValueError(
                f"covariances: matrix {k} is not positive definite, "
                f"its smallest eigenvalue is {smallest:.3g}"
            ) from None
    return factors
