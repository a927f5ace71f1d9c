"""Mixtures side by side: as one batch, as one mixture, and with absent components or without."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._logs import log_softmax
from gmmjax._mixture.build import log_weights
from gmmjax._mixture.gmm import GMM, as_float, as_real, float_of, in_dtype, take
from gmmjax._mixture.structure import is_tied
from gmmjax._validate import check_count


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


def mix(mixtures: Sequence[GMM], weights) -> GMM:
    r"""Mixture of mixtures, :math:`\sum_j v_j\, p_j(x)`, with the components of all of them; exact.

    Types of covariance are promoted to the smallest that holds them all.

    Args:
      mixtures: J mixtures of one dimension, of any numbers of components and types of covariance.
      weights: `(J,)` non-negative numbers, normalised for you; 0 makes a mixture's components
        absent.

    Returns:
      A `GMM` of :math:`\sum_j K_j` components, in the order given, differentiable in all leaves and
      in `weights`; the derivative in a weight of 0 is 0, that of an absent mixture.

    Raises:
      TypeError: one of the mixtures is not a `GMM`.
      ValueError: there are none; their shapes or dimensions disagree; there is not one weight each;
        weights are negative, not finite or all 0 (under `jit` only shapes can be checked, and bad
        weights give NaN).

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.zeros((2, 1)), jnp.ones(2))
      >>> q = gmmjax.GMM(jnp.zeros(1), jnp.ones((1, 1)), jnp.ones(1))
      >>> print(gmmjax.weights(gmmjax.mix([p, q], [1.0, 3.0])).round(4))
      [0.125 0.125 0.75 ]
    """
    checked = check_mixtures(mixtures)
    weights = as_real("weights", weights)
    if weights.shape != (len(checked),):
        raise ValueError(
            f"weights: expected shape ({len(checked)},), one per mixture, got {weights.shape}"
        )
    dtype = float_of(*(g.means for g in checked))
    mixtures = [in_dtype(g, dtype) for g in checked]
    return _mix(mixtures, log_weights(weights, dtype))


@jax.jit
def _mix(mixtures, shares):
    counts = [g.num_components for g in mixtures]
    shares = jnp.repeat(shares, np.array(counts), total_repeat_length=sum(counts))
    together = concatenate(mixtures)
    return together._replace(logits=together.logits + shares)


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
    return pad_checked(g, count)


@jax.jit(static_argnums=1)
def pad_checked(g: GMM, count: int) -> GMM:
    """The same of a mixture that has been looked at."""
    return _promote(g, count, g.scale.ndim, 1 if is_tied(g) else count)


def drop_absent(g: GMM) -> GMM:
    """A concrete mixture without its absent components."""
    return take(g, np.flatnonzero(np.asarray(g.logits) > -np.inf))


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
