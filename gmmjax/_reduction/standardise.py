"""Coordinates in which a mixture has mean 0 and covariance 1, so that nothing depends on units."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from gmmjax._mixture.gmm import GMM
from gmmjax._reduction import parts


class Frame(NamedTuple):
    """x = origin + L z, where L has the structure of a scale; in double precision."""

    origin: np.ndarray  # (D,)
    factor: np.ndarray  # (D, D), (D,) or ()


def frame(g: GMM) -> Frame:
    """The frame of a concrete mixture: its mean, and a factor of its covariance."""
    whole = parts.pool(parts.to_numpy(g))
    return Frame(whole.means[0], parts.factors(g, whole.covariances)[0])


def into(f: Frame, g: GMM) -> GMM:
    """A mixture in the coordinates of a frame of its own structure, or of a smaller one."""
    factor = _as_matrix(f)
    apart = np.asarray(g.means, np.float64) - f.origin
    means = np.linalg.solve(factor, apart.T).T
    return _replaced(g, means, _mapped(np.linalg.inv(factor), g))


def out_of(f: Frame, g: GMM) -> GMM:
    """The way back."""
    factor = _as_matrix(f)
    means = f.origin + np.asarray(g.means, np.float64) @ factor.T
    return _replaced(g, means, _mapped(factor, g))


def _mapped(matrix, g):
    """The scale of `g` after a lower-triangular, diagonal or scalar map, in its own structure."""
    scale = np.asarray(g.scale, np.float64)
    if scale.ndim == 3:
        return matrix @ np.tril(scale)
    if scale.ndim == 2:
        return scale * np.diagonal(matrix)
    return scale * matrix[0, 0]


def _as_matrix(f):
    if f.factor.ndim == 2:
        return f.factor
    return np.diag(np.broadcast_to(f.factor, f.origin.shape))


def _replaced(g, means, scale):
    dtype = g.means.dtype
    return GMM(g.logits, jnp.asarray(means, dtype), jnp.asarray(scale, dtype))
