"""The model: a Gaussian mixture is a NamedTuple of three arrays, and everything else is a function
of it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._mixture import linalg


class GMM(NamedTuple):
    r"""A Gaussian mixture, :math:`p(x) = \sum_k w_k\, \mathcal N(x; \mu_k, L_k L_k^\top)`.

    Every function of a mixture takes one of them; `jax.vmap` lifts it to batches (see
    `gmmjax.stack`). The rank of `scale` against the rank of `means` tells the type of covariance,
    also in a batch.

    Attributes:
      logits: `(K,)` unnormalised log-weights, :math:`w = \mathrm{softmax}(\text{logits})`. A logit
        of −inf means that the component is absent: it contributes nothing, and its gradients are
        zero.
      means: `(K, D)`.
      scale: `(K, D, D)` lower Cholesky factors (full; entries above the diagonal are ignored) ·
        `(K, D)` standard deviations (diagonal) · `(K,)` standard deviations (spherical) · any of
        these with a leading axis of 1 in place of K (tied). Signs on the diagonal do not matter.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> g = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0], [1.0]]), jnp.ones(2))
      >>> g.num_components, g.dim
      (2, 1)
    """

    logits: jax.Array
    means: jax.Array
    scale: jax.Array

    @property
    def num_components(self) -> int:
        """K, absent components included."""
        return self.means.shape[-2]

    @property
    def dim(self) -> int:
        """D, the dimension of the space."""
        return self.means.shape[-1]


def weights(g: GMM) -> jax.Array:
    r"""Component weights, :math:`w = \mathrm{softmax}(\text{logits})`; exact.

    Args:
      g: a mixture of K components.

    Returns:
      `(K,)` non-negative weights that sum to 1.

    Raises:
      TypeError: `g` is not a `GMM`.
      ValueError: its shapes disagree.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> g = gmmjax.GMM(jnp.log(jnp.array([1.0, 3.0])), jnp.zeros((2, 1)), jnp.ones(2))
      >>> print(gmmjax.weights(g).round(4))
      [0.25 0.75]
    """
    return _weights(as_float("g", g).logits)


def covariances(g: GMM) -> jax.Array:
    r"""Covariance matrices of the components, :math:`\Sigma_k = L_k L_k^\top`, whatever their
    structure; exact.

    Args:
      g: a mixture of K components in D dimensions.

    Returns:
      `(K, D, D)`, also for diagonal, spherical and tied scales.

    Raises:
      TypeError: `g` is not a `GMM`.
      ValueError: its shapes disagree.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> g = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 2)), jnp.array([[1.0, 2.0]]))
      >>> print(gmmjax.covariances(g))
      [[[1. 0.]
        [0. 4.]]]
    """
    g = as_float("g", g)
    return _covariances(g.scale, g.means)


def mean(g: GMM) -> jax.Array:
    r"""Mean of the mixture, :math:`\sum_k w_k \mu_k`; exact.

    Args:
      g: a mixture in D dimensions.

    Returns:
      `(D,)`.

    Raises:
      TypeError: `g` is not a `GMM`.
      ValueError: its shapes disagree.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> g = gmmjax.GMM(jnp.zeros(2), jnp.array([[0.0], [4.0]]), jnp.ones(2))
      >>> print(gmmjax.mean(g))
      [2.]
    """
    return _mean(as_float("g", g))


def covariance(g: GMM) -> jax.Array:
    r"""Covariance of the mixture, :math:`\sum_k w_k (\Sigma_k + (\mu_k - \bar\mu)(\mu_k -
    \bar\mu)^\top)`; exact.

    Args:
      g: a mixture in D dimensions.

    Returns:
      `(D, D)`.

    Raises:
      TypeError: `g` is not a `GMM`.
      ValueError: its shapes disagree.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> g = gmmjax.GMM(jnp.zeros(2), jnp.array([[0.0], [4.0]]), jnp.ones(2))
      >>> print(gmmjax.covariance(g))
      [[5.]]
    """
    return _covariance(as_float("g", g))


# Compiled as a whole, for outside `jit` every operation would be a program of its own.
_weights = jax.jit(jax.nn.softmax)
_covariances = jax.jit(linalg.dense_covariances)


@jax.jit
def _mean(g):
    return jnp.matmul(_weights(g.logits), g.means, precision=linalg.HIGHEST)


@jax.jit
def _covariance(g):
    w, centred = _weights(g.logits), g.means - _mean(g)[None]
    within = jnp.tensordot(w, _covariances(g.scale, g.means), axes=1, precision=linalg.HIGHEST)
    return within + jnp.matmul(centred.T * w[None], centred, precision=linalg.HIGHEST)


def as_float(name: str, g: GMM) -> GMM:
    """`g` with floating leaves of one dtype, its shapes checked; `name` is the argument to complain
    about.
    """
    if not isinstance(g, GMM):
        raise TypeError(
            f"{name}: expected a gmmjax.GMM, got {type(g).__name__} (gmmjax.interop.as_gmm converts other packages')"
        )
    leaves = [jnp.asarray(leaf) for leaf in g]
    dtype = jnp.result_type(*leaves)
    if not jnp.issubdtype(dtype, jnp.floating):
        dtype = jnp.result_type(float)
    if dtype not in (jnp.float32, jnp.float64):
        raise TypeError(f"{name}: expected float32 or float64, got {dtype}; convert it first")
    logits, means, scale = (leaf.astype(dtype) for leaf in leaves)
    check_shapes([f"{name}.{leaf}" for leaf in GMM._fields], logits.shape, means.shape, scale.shape)
    return GMM(logits, *_canonical(means, scale))


@jax.jit
def _canonical(means, scale):
    """Factors without what stands above their diagonal, which is not theirs, and NaN for what is
    infinite.
    """
    # A component at infinity has no density; without this it would just be left out of some
    # results.
    lower = jnp.tril(scale) if scale.ndim > means.ndim else scale
    return tuple(
        jax.lax.select(jax.lax.is_finite(x), x, jnp.full_like(x, jnp.nan)) for x in (means, lower)
    )


def as_real(name, value):
    """Real numbers as an array of floats."""
    try:
        value = value if isinstance(value, jax.Array) else np.asarray(value)
    except ValueError:
        raise ValueError(
            f"{name}: expected an array of numbers, got parts of unequal lengths"
        ) from None
    if not (jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)):
        raise ValueError(f"{name}: expected real numbers, got an array of {value.dtype}")
    return (
        value if jnp.issubdtype(value.dtype, jnp.floating) else value.astype(jnp.result_type(float))
    )


def common_float(**mixtures: GMM) -> tuple[GMM, ...]:
    """Several mixtures in one dtype and one space; the keywords are the arguments' names."""
    checked = {name: as_float(name, g) for name, g in mixtures.items()}
    (first, reference), *others = checked.items()
    for name, g in others:
        if g.dim != reference.dim:
            raise ValueError(
                f"{name}: has dimension {g.dim} (means {g.means.shape}), "
                f"but {first} has dimension {reference.dim} (means {reference.means.shape})"
            )
    dtype = jnp.result_type(*(g.means for g in checked.values()))
    return tuple(GMM(*(leaf.astype(dtype) for leaf in g)) for g in checked.values())


def recentred(*mixtures: GMM) -> tuple[GMM, ...]:
    """All mixtures moved so that the first has its mean at 0, which changes no divergence between
    them.
    """
    # float32 has no digits to spare for an offset.
    origin = jax.lax.stop_gradient(mean(mixtures[0]))[None]
    return tuple(g._replace(means=g.means - origin) for g in mixtures)


def check_shapes(names: Sequence[str], logits: tuple, means: tuple, scale: tuple) -> None:
    """Refuse shapes that are not those of one mixture; `names` are what the three arrays are
    called.
    """
    if len(logits) > 1 and len(means) == len(logits) + 1:
        raise ValueError(
            f"{names[1]}: is a batch of mixtures, of shape {means} with {names[0]} {logits}; "
            "this function takes one: lift it with jax.vmap"
        )
    if len(means) != 2 or 0 in means:
        raise ValueError(f"{names[1]}: expected shape (K, D) with K, D ≥ 1, got {means}")
    count, dim = means
    if logits != (count,):
        raise ValueError(
            f"{names[0]}: expected shape ({count},) to match means {means}, got {logits}"
        )
    allowed = {(k, *rest) for k in (count, 1) for rest in ((dim, dim), (dim,), ())}
    if scale not in allowed:
        raise ValueError(
            f"{names[2]}: expected ({count}, {dim}, {dim}) full, ({count}, {dim}) diagonal or ({count},) "
            f"spherical, or a leading 1 for tied, to match means {means}, got {scale}"
        )
