"""A mixture of which some coordinates are known."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._algebra.far import Square, image, log_weights
from gmmjax._jax import is_traced
from gmmjax._matrices import scales, triangular, whitening
from gmmjax._mixture.affine import check_dims
from gmmjax._mixture.gmm import GMM, as_float, as_real
from gmmjax._mixture.structure import is_full
from gmmjax._validate import on_any_mesh


@on_any_mesh
def condition(g: GMM, dims: Sequence[int], values) -> GMM:
    r"""Distribution of the other coordinates where some are known; exact.

    .. math:: p(x_R \mid x_E = v) = \sum_k w_k(v)\, \mathcal N(x_R; \mu_k(v), \Sigma_k')

    Each component is conditioned as a Gaussian, and weighs
    :math:`w_k(v) \propto w_k\, \mathcal N(v; \mu_{k,E}, \Sigma_{k,EE})`, in log space: right also
    where v is far from all components. The type of covariance stays what it is: full, diagonal or
    spherical, tied or not. Several v at once: `jax.vmap(condition, (None, None, 0))`, with `dims`
    bound before.

    Args:
      g: a mixture in D dimensions.
      dims: which coordinates are known: E < D Python ints, negative ones count from the end (static
        under `jit`).
      values: `(E,)` what they are, in the order of `dims`; a number where there is one.

    Returns:
      A `GMM` of K components over the other D − E coordinates, in their order; its logits are
      normalised. It is differentiable in all leaves of `g` and in `values`.

    Raises:
      TypeError: `g` is not a `GMM`, or `dims` is not a sequence of ints.
      ValueError: shapes disagree; `dims` is empty, holds all coordinates, names one twice or one
        that does not exist; there is not one value each, or it is not finite (under `jit` only
        shapes can be checked).

    Reference:
      Bishop (2006), "Pattern recognition and machine learning", equations 2.81 and 2.82.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> scale = jnp.array([[[1.0, 0.0], [1.0, 2.0]]])
      >>> g = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 2)), scale)
      >>> rest = gmmjax.condition(g, [0], [3.0])
      >>> print(rest.means, rest.scale)
      [[3.]] [[[2.]]]
    """
    g = as_float("g", g)
    known = check_dims(dims, g.dim)
    if len(known) == g.dim:
        raise ValueError(f"dims: all {g.dim} coordinates are known, and none is left")
    values = as_real("values", values)
    if len(known) == 1 and values.shape == ():
        values = values.reshape(1)
    if values.shape != (len(known),):
        raise ValueError(
            f"values: expected shape ({len(known)},), one for each of dims, got {values.shape}"
        )
    if not is_traced(values) and not np.isfinite(values).all():
        raise ValueError(f"values: expected finite numbers, got {values}")
    return _condition(g, jnp.asarray(values, g.means.dtype), known)


@jax.jit(static_argnums=2)
def _condition(g, values, known):
    rest = tuple(d for d in range(g.dim) if d not in known)
    known_means, means = g.means[:, np.array(known)], g.means[:, np.array(rest)]
    full = is_full(g)
    if full:
        rows = g.scale[:, np.array(known)]
        known_scale, cross, scale = _split(g.scale, known + rest, len(known))
    else:
        known_scale, scale = _choose(g.scale, known), _choose(g.scale, rest)
        rows = jnp.broadcast_to(known_scale.reshape(len(known_scale), -1), known_means.shape)
    inverse = scales.inverse(known_scale, known_means)
    white = whitening.whiten(inverse, known_means, values[:, None])[:, :, 0]
    if full:
        means += scales.apply(cross, white)
    solved = scales.apply(inverse.mT if full else inverse, white)
    square = Square(values[None], known_means, solved, image(rows, solved))
    log_dets = scales.log_abs_det(known_scale, known_means)
    return GMM(log_weights(g.logits, log_dets, square), means, scale)


def _split(scale, order, count):
    """Parts of the lower factors in another order of coordinates: known, mixed and other rows."""
    rows = scale[:, np.array(order)]
    # What is lower-triangular already stays what it is.
    lower = rows if order == tuple(range(len(order))) else triangular.lower_factor(rows)
    return lower[:, :count, :count], lower[:, count:, :count], lower[:, count:, count:]


def _choose(scale, kept):
    """The deviations of some coordinates; spherical ones are those of any."""
    return scale[:, np.array(kept)] if scale.ndim == 2 else scale
