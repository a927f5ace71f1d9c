"""Mixtures of the libraries of probability distributions, which all build them of a categorical and
a normal one.
"""

from typing import Any

import jax
import jax.numpy as jnp

from gmmjax._matrices import triangular
from gmmjax._mixture.gmm import GMM
from gmmjax.interop._partner import as_array, belongs_to, describe

_WRAPPERS = ("Independent", "ExpandedDistribution")
_FULL = ("MultivariateNormal", "LowRankMultivariateNormal")
_DIAGONAL = ("LinearOperatorDiag", "LinearOperatorScaledIdentity")


def read(distribution, package: str) -> GMM:
    """The mixture in a `MixtureSameFamily` of normal distributions, or the one component of one."""
    components = _unwrapped(distribution)
    if belongs_to(distribution, package) and _is_normal(components):
        shape = *distribution.batch_shape, 1
        logits = jnp.zeros(shape, as_array(components.loc).dtype)
    else:
        mixing, components = parts(distribution, package)
        logits = as_array(mixing.logits if mixing.logits is not None else mixing.logits_parameter())
    event = tuple(distribution.event_shape)
    if logits.ndim != 1:
        raise ValueError(
            f"distribution: is a batch of mixtures, of shape {logits.shape[:-1]}; convert one"
        )
    if len(event) > 1:
        raise ValueError(f"distribution: expected events of rank 0 or 1, got shape {event}")
    loc, scale = as_array(components.loc), scale_of(components)
    if not event:
        loc, scale, event = loc[..., None], jnp.atleast_1d(scale), (1,)
    elif type(components).__name__ == "Normal":
        scale = _deviations(scale, event)
    return GMM(logits, jnp.broadcast_to(loc, (logits.shape[0], *event)), scale)


def parts(distribution, package: str):
    """What chooses a component of a `MixtureSameFamily`, and the components, without wrappers."""
    if not belongs_to(distribution, package, "MixtureSameFamily"):
        raise TypeError(
            f"distribution: expected {package}'s MixtureSameFamily, or a normal distribution, got "
            f"{describe(distribution)}"
        )
    mixing = _first(distribution, "mixing_distribution", "mixture_distribution")
    components = _first(distribution, "component_distribution", "components_distribution")
    return mixing, _unwrapped(components)


def _unwrapped(distribution):
    while type(distribution).__name__ in _WRAPPERS:
        distribution = _first(distribution, "base_dist", "distribution")
    return distribution


def _is_normal(distribution):
    kind = type(distribution).__name__
    return kind == "Normal" or kind.startswith(_FULL)


def is_full(components) -> bool:
    """Whether the scales of components are matrices."""
    diagonal = type(getattr(components, "scale", None)).__name__ in _DIAGONAL
    return not (
        type(components).__name__ == "Normal" or hasattr(components, "scale_diag") or diagonal
    )


def _first(obj, *names):
    return next(getattr(obj, name) for name in names if hasattr(obj, name))


def _deviations(scale, event):
    """Standard deviations `(K or 1, D)` of independent coordinates, which may share them."""
    rows = jnp.atleast_2d(scale)
    return jnp.broadcast_to(rows, (rows.shape[0], *event))


def scale_of(components) -> jax.Array:
    """Lower factors or deviations of the components; one that they share has a leading axis of
    1.
    """
    kind = type(components).__name__
    scale: Any = getattr(components, "scale", None)
    if kind == "Normal":
        return as_array(scale)
    if hasattr(components, "scale_diag"):
        return jnp.atleast_2d(as_array(components.scale_diag))
    if type(scale).__name__ in _DIAGONAL:
        return jnp.atleast_2d(as_array(scale.diag_part()))
    if hasattr(components, "scale_tril"):
        return _matrices(components.scale_tril)
    if type(scale).__name__ == "LinearOperatorLowerTriangular":
        return _matrices(scale.to_dense())
    if getattr(components, "is_lower", False):
        return _matrices(components.scale_tri)
    if kind.startswith(_FULL):
        return triangular.cholesky(_matrices(_covariance(components)))
    raise _unknown(components)


def _covariance(components):
    for name in ("covariance_matrix", "covariance"):
        if hasattr(components, name):
            covariance = getattr(components, name)
            return covariance() if callable(covariance) else covariance
    raise _unknown(components)


def _unknown(components):
    return TypeError(
        "distribution: expected components that are Normal, Independent(Normal) or "
        f"MultivariateNormal, got {describe(components)}"
    )


def _matrices(scale):
    scale = as_array(scale)
    return scale if scale.ndim > 2 else scale[None]
