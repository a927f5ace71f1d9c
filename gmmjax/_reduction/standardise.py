"""Coordinates in which a mixture has mean 0 and covariance 1, so that nothing depends on units."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from gmmjax._mixture.gmm import GMM


class Frame(NamedTuple):
    """x = origin + L z, with L in the structure of a scale: `(1, D, D)`, `(1, D)` or `(1,)`; in
    double precision.
    """

    origin: np.ndarray
    factor: np.ndarray


def frame(g: GMM) -> Frame:
    """The frame of a concrete mixture."""
    w, means, scale = arrays(g)
    origin = w @ means
    apart = means - origin
    if scale.ndim == 3:
        lower = np.broadcast_to(np.tril(scale), (len(w), *scale.shape[1:]))
        covariance = np.einsum("k,kij,klj->il", w, lower, lower) + (apart.T * w) @ apart
        return Frame(origin, np.linalg.cholesky(covariance)[None])
    squares = np.broadcast_to((scale**2).reshape(len(scale), -1), means.shape)
    variance = w @ (squares + apart**2)
    return Frame(
        origin, np.sqrt(variance if scale.ndim == 2 else variance.mean(keepdims=True)[0])[None]
    )


def into(f: Frame, g: GMM) -> GMM:
    """A mixture in the coordinates of a frame of its own structure, or of a smaller one."""
    factor, origin = _as_matrix(f, g.dim), f.origin
    means = np.linalg.solve(factor, (np.asarray(g.means, np.float64) - origin).T).T
    return GMM(g.logits, _like(g, means), _like(g, _scaled(np.linalg.inv(factor), g)))


def out_of(f: Frame, g: GMM) -> GMM:
    """The way back."""
    factor = _as_matrix(f, g.dim)
    means = f.origin + np.asarray(g.means, np.float64) @ factor.T
    return GMM(g.logits, _like(g, means), _like(g, _scaled(factor, g)))


def arrays(g: GMM):
    """Weights, means and scale of a concrete mixture in double precision."""
    logits, means, scale = (np.asarray(leaf, np.float64) for leaf in g)
    weights = np.exp(logits - logits.max())
    return weights / weights.sum(), means, scale


def _scaled(matrix, g):
    """The scale of `g` mapped by a lower-triangular, diagonal or scalar matrix: it keeps its
    structure.
    """
    scale = np.asarray(g.scale, np.float64)
    if scale.ndim == 3:
        return matrix[None] @ np.tril(scale)
    return scale * np.diagonal(matrix)[None] if scale.ndim == 2 else scale * matrix[0, 0]


def _as_matrix(f, dim):
    factor = f.factor[0]
    return factor if factor.ndim == 2 else np.diag(np.broadcast_to(factor, (dim,)))


def _like(g, values):
    return jnp.asarray(values, g.means.dtype)
