"""The distribution function of a mixture on the line, and its inverse."""

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._algebra import on_line
from gmmjax._algebra.on_line import OnLine
from gmmjax._jax import is_traced
from gmmjax._matrices import linalg
from gmmjax._mixture.gmm import GMM, as_float, as_real, float_of, in_dtype
from gmmjax._validate import on_any_mesh


@on_any_mesh
def cdf(g: GMM, x) -> jax.Array:
    r"""Distribution function of a mixture on the line; exact.

    .. math:: F(x) = \sum_k w_k\, \Phi\big((x - \mu_k) / \sigma_k\big)

    To its last digits in the lower tail; the upper tail of g is the lower one of
    `affine(g, -1.0)` at −x.

    Args:
      g: a mixture in one dimension.
      x: numbers of any shape, infinite ones too.

    Returns:
      Probabilities in the shape of `x`; differentiable in all leaves of `g` and in `x`.

    Raises:
      TypeError: `g` is not a `GMM`.
      ValueError: its shapes disagree, it is not one-dimensional, or `x` holds no real numbers.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> g = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0], [1.0]]), jnp.ones(2))
      >>> print(gmmjax.cdf(g, jnp.array([-jnp.inf, 0.0, jnp.inf])))
      [0.  0.5 1. ]
    """
    return _cdf(*_checked(g, "x", x))


@on_any_mesh
def quantile(g: GMM, u) -> jax.Array:
    r"""Quantiles of a mixture on the line, :math:`F^{-1}(u)`; exact to rounding.

    Newton's method on normal scores, inside a bracket that starts as the quantiles of the
    components: right in tails as small as floating point has them, and in wide gaps. For a small
    upper tail t, 1 − t loses digits: `-quantile(affine(g, -1.0), t)` does not. The gradient is that
    of the implicit function; do not take second derivatives.

    Args:
      g: a mixture in one dimension.
      u: probabilities of any shape; 0 and 1 give −inf and +inf, with gradient 0.

    Returns:
      Numbers in the shape of `u`; differentiable in all leaves of `g` and in `u`.

    Raises:
      TypeError: `g` is not a `GMM`.
      ValueError: its shapes disagree, it is not one-dimensional, or `u` is not in [0, 1] (under
        `jit` that gives NaN).

    Reference:
      Figurnov, Mohamed and Mnih (2018), "Implicit reparameterization gradients", equation 4.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> g = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0], [1.0]]), jnp.ones(2))
      >>> print(gmmjax.quantile(g, jnp.array([0.2614, 0.5, 1.0])).round(3))
      [-1.  0. inf]
    """
    g, u = _checked(g, "u", u)
    if not is_traced(u):
        outside = np.asarray(u)[(np.asarray(u) < 0) | (np.asarray(u) > 1)]
        if outside.size:
            raise ValueError(f"u: expected probabilities in [0, 1], got {outside[0]}")
    return _quantile(g, u)


def _checked(g, name, values):
    """A mixture on the line and numbers, in one dtype."""
    g = as_float("g", g)
    if g.dim != 1:
        raise ValueError(
            f"g: expected a mixture in one dimension, got {g.dim} (means {g.means.shape}); "
            "gmmjax.marginal takes one coordinate of it"
        )
    values = jnp.asarray(as_real(name, values))
    dtype = float_of(g.means, values)
    return in_dtype(g, dtype), values.astype(dtype)


def _as_line(g: GMM) -> OnLine:
    deviations = jnp.broadcast_to(jnp.abs(g.scale.reshape(-1, 1)), g.means.shape)
    return OnLine(jax.nn.softmax(g.logits), g.means, deviations)


@jax.jit
def _cdf(g: GMM, x: jax.Array) -> jax.Array:
    line = _as_line(g)
    infinite = jnp.isinf(x)
    flat = jnp.where(infinite, 0.0, x).reshape(-1)
    mass = on_line.lower_tail((flat[None] - line.means) / line.deviations)
    found = linalg.matmul(line.weights, mass).reshape(x.shape)
    return jnp.where(infinite, (x > 0).astype(x.dtype), found)


@jax.jit
def _quantile(g, u):
    return _invert(_as_line(g), u.reshape(-1)).reshape(u.shape)


@jax.custom_jvp
def _invert(p: OnLine, u: jax.Array) -> jax.Array:
    """F_p⁻¹(u), `(n,)`."""
    inside = (u > 0) & (u < 1)
    level = jnp.where(inside, u, 0.5)
    upper = level > 0.5
    tail = jax.scipy.special.ndtri(jnp.where(upper, 1 - level, level))
    found = on_line.quantile(p, jnp.where(upper, -tail, tail))
    ends = jnp.where(u == 0, -jnp.inf, jnp.where(u == 1, jnp.inf, jnp.nan)).astype(u.dtype)
    # NaN parameters would give the middle of an empty bracket.
    bad = jnp.isnan(jnp.sum(p.weights) + jnp.sum(p.means) + jnp.sum(p.deviations))
    return jnp.where(bad, jnp.nan, jnp.where(inside, found, ends))


@_invert.defjvp
def _invert_jvp(primals, tangents):
    (p, u), (moved, rise) = primals, tangents
    x = _invert(p, u)
    finite = jnp.isfinite(x)
    at = jnp.where(finite, x, 0.0)
    z = (at[None] - p.means) / p.deviations
    density = linalg.matmul(p.weights, jnp.exp(-0.5 * z * z) / p.deviations)
    density = density / jnp.sqrt(2 * jnp.pi).astype(u.dtype)
    added = linalg.matmul(moved.weights, on_line.below(p, at, (u > 0.5)[None]))
    steps: jax.Array = on_line.quantile_tangent(p, moved.means, moved.deviations, at)
    steps += (rise - added) / jnp.where(finite, density, 1.0)
    return x, jnp.where(jnp.isinf(x), 0.0, steps)
