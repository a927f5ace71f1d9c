"""The model: a Gaussian mixture is a NamedTuple of three arrays."""

import numbers
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._jax import is_traced
from gmmjax._mixture import rounding, values

MOST_SEEN = 1 << 18  # numbers in the scales of a mixture, of which NumPy takes a millisecond


class GMM(NamedTuple):
    r"""A Gaussian mixture, :math:`p(x) = \sum_k w_k\, \mathcal N(x; \mu_k, L_k L_k^\top)`.

    Every function of a mixture takes one of them; `jax.vmap` lifts it to batches (see
    `gmmjax.stack`). The rank of `scale` against the rank of `means` tells the type of covariance,
    also in a batch.

    Attributes:
      logits: `(K,)` unnormalised log-weights, :math:`w = \mathrm{softmax}(\text{logits})`. A logit
        of −inf means that the component is absent: it contributes nothing, its gradients are zero,
        and its mean and scale may hold anything.
      means: `(K, D)`.
      scale: `(K, D, D)` lower Cholesky factors (full; entries above the diagonal are ignored) ·
        `(K, D)` standard deviations (diagonal) · `(K,)` standard deviations (spherical) · any of
        these with a leading axis of 1 in place of K (tied). Signs on the diagonal do not matter.

    Arrays of JAX are taken as they are: what was lost where they were made, as 0.03 of 1e6 + 0.03
    in float32, nobody is told. Arrays of NumPy, and `gmmjax.from_covariances`, say what rounding
    to float32 costs.

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


def as_float(name: str, g: GMM, *, singular: bool = False) -> GMM:
    """Check a mixture, and give its leaves one floating dtype.

    Errors name the argument `name`. Values are checked where they are concrete. Components that are
    absent become copies of the heaviest one: they may hold anything.

    Args:
      name: what the argument is called.
      g: the mixture.
      singular: whether scales of 0 will do, which have moments but no density.
    """
    if not isinstance(g, GMM):
        raise TypeError(
            f"{name}: expected a gmmjax.GMM, got {type(g).__name__} "
            "(gmmjax.interop.as_gmm converts other packages')"
        )
    try:
        dtype = float_of(*g)
    except TypeError as error:
        raise TypeError(f"{name}: expected arrays of numbers, not lists; {error}") from None
    if dtype not in (jnp.float32, jnp.float64):
        raise TypeError(f"{name}: expected float32 or float64, got {dtype}; convert it first")
    names = [f"{name}.{leaf}" for leaf in GMM._fields]
    check_shapes(names, *map(jnp.shape, g))
    if dtype == jnp.float32 and not is_traced(g) and not all(isinstance(x, jax.Array) for x in g):
        rounding.warn_of_rounding(dtype, *g, names[1:])
    g = in_dtype(g, dtype)
    if _is_at_hand(g) and values.is_usable(*map(np.asarray, g)):
        return g
    if is_traced(g):
        return _canonical(g)
    checked, verdict = _judged(g)
    if not is_traced(verdict):  # as it is inside another program, whatever is known of g
        values.refuse(names, g, checked, np.asarray(verdict), singular)
    return checked


def _is_at_hand(g):
    """Whether NumPy can look at all numbers before a program that does could be compiled."""
    if is_traced(g) or g.scale.size > MOST_SEEN:
        return False
    return all(leaf.is_fully_addressable for leaf in g)


def float_of(*arrays) -> np.dtype:
    """The floating dtype that JAX gives some arrays together, whatever its rules for mixing them.

    Wider ones win; integers are no reason for one.
    """
    dtypes = {leaf.dtype if isinstance(leaf, jax.Array) else None for leaf in arrays}
    if dtypes in ({jnp.dtype("float32")}, {jnp.dtype("float64")}):
        return arrays[0].dtype  # asking JAX takes longer
    with jax.numpy_dtype_promotion("standard"):
        dtype = jnp.result_type(*arrays)
    return dtype if jnp.issubdtype(dtype, jnp.inexact) else jnp.result_type(float)


@jax.jit
def _canonical(g):
    """A clean mixture.

    Drop what stands above the diagonal of factors and what absent components hold, and make NaN of
    what is infinite: a component at infinity has no density, and would just be left out of some
    results.
    """
    logits, means, scale = g
    scale = jnp.tril(scale) if scale.ndim > means.ndim else scale
    present = [of_present(logits, leaf) for leaf in (means, scale)]
    return GMM(logits, *(jnp.where(jnp.isfinite(leaf), leaf, jnp.nan) for leaf in present))


@jax.jit
def _judged(g):
    """A clean mixture, and what is wrong with it."""
    checked = _canonical(g)
    logits, means, scale = checked
    pivots = jnp.diagonal(scale, axis1=1, axis2=2) if scale.ndim > means.ndim else scale
    verdict = [
        ~jnp.isfinite(jnp.max(logits)),
        jnp.any(jnp.isnan(means)),
        jnp.any(jnp.isnan(scale)),
        jnp.any(pivots == 0),
    ]
    return checked, jnp.stack(verdict)


def of_present(logits: jax.Array, leaf: jax.Array) -> jax.Array:
    """The means or scales of components, those of the heaviest one for absent ones."""
    if len(leaf) != len(logits) or len(logits) == 1:
        return leaf
    heaviest = jax.lax.dynamic_index_in_dim(jax.lax.stop_gradient(leaf), jnp.argmax(logits))
    absent = (logits == -jnp.inf).reshape(-1, *[1] * (leaf.ndim - 1))
    return jnp.where(absent, heaviest, leaf)


def as_real(name, value):
    """Real numbers as an array of floats."""
    if not isinstance(value, jax.Array):
        value = _as_numbers(name, value)
    if jnp.issubdtype(value.dtype, jnp.floating):
        return value
    if not jnp.issubdtype(value.dtype, jnp.integer):
        raise ValueError(f"{name}: expected real numbers, got an array of {value.dtype}")
    # Integers of NumPy may need more digits than float32 has, and are rounded later, aloud.
    wide = jnp.result_type(float) if isinstance(value, jax.Array) else np.float64
    return value.astype(wide)


def _as_numbers(name, value):
    """An array of NumPy, of numbers where it holds Python's, as frames of nullable columns do."""
    if np.ma.is_masked(value):
        raise ValueError(f"{name}: has masked entries; leave their rows out, or fill them in")
    try:
        value = np.asarray(value)
    except ValueError:
        raise ValueError(
            f"{name}: expected an array of numbers, got parts of unequal lengths"
        ) from None
    if value.dtype != object:
        return value
    for entry in value.flat:
        if isinstance(entry, bool) or not isinstance(entry, numbers.Real):
            raise ValueError(
                f"{name}: expected real numbers, got an array of objects, one of which is "
                f"{entry!r} of type {type(entry).__name__}"
            )
    try:
        return value.astype(np.float64)
    except OverflowError:
        raise ValueError(f"{name}: has a number that is too large for float64") from None


def common_float(**mixtures: GMM) -> tuple[GMM, ...]:
    """Several mixtures in one dtype and one space; the keywords are the arguments' names."""
    return _in_common({name: as_float(name, g) for name, g in mixtures.items()})


def common_singular(**mixtures: GMM) -> tuple[GMM, ...]:
    """The same of mixtures that need no density: scales of 0 will do."""
    return _in_common({name: as_float(name, g, singular=True) for name, g in mixtures.items()})


def _in_common(checked):
    (first, reference), *others = checked.items()
    for name, g in others:
        if g.dim != reference.dim:
            raise ValueError(
                f"{name}: has dimension {g.dim} (means {g.means.shape}), "
                f"but {first} has dimension {reference.dim} (means {reference.means.shape})"
            )
    dtype = float_of(*(g.means for g in checked.values()))
    return tuple(in_dtype(g, dtype) for g in checked.values())


def in_dtype(g, dtype):
    """A mixture in a dtype; untouched where it is, for asking JAX takes longer than looking."""
    if all(isinstance(leaf, jax.Array) and leaf.dtype == dtype for leaf in g):
        return g
    return GMM(*(jnp.asarray(leaf, dtype) for leaf in g))


def index(batch, i):
    """Element i of a batch, whatever tree of arrays it is."""
    return jax.tree.map(lambda leaf: leaf[i], batch)


def take(g: GMM, chosen: jax.Array | np.ndarray) -> GMM:
    """Some components of a mixture, with the logits that they had."""
    rows = [leaf if len(leaf) < g.num_components else leaf[chosen] for leaf in g]
    return GMM(*rows)


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
