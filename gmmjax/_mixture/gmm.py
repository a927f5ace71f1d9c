"""The model: a Gaussian mixture is a NamedTuple of three arrays."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


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


def as_float(name: str, g: GMM) -> GMM:
    """Check the shapes of a mixture, and give its leaves one floating dtype.

    Errors name the argument `name`.
    """
    if not isinstance(g, GMM):
        raise TypeError(
            f"{name}: expected a gmmjax.GMM, got {type(g).__name__} "
            "(gmmjax.interop.as_gmm converts other packages')"
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
    """Drop what stands above the diagonal of factors, and make NaN of what is infinite."""
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


def index(batch, i):
    """Element i of a batch, whatever tree of arrays it is."""
    return jax.tree.map(lambda leaf: leaf[i], batch)


def check_shapes(names: Sequence[str], logits: tuple, means: tuple, scale: tuple) -> None:
    """Refuse shapes that are not those of one mixture; the arrays are called `names`."""
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
            f"{names[2]}: expected ({count}, {dim}, {dim}) full, ({count}, {dim}) diagonal "
            f"or ({count},) spherical, or a leading 1 for tied, to match means {means}, got {scale}"
        )
