"""Weights, means and covariances: what merging is done in, and the ways from a mixture and back.

And coordinates in which a mixture has mean 0 and covariance 1, so that nothing depends on units.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._mixture.gmm import GMM
from gmmjax._mixture.structure import is_full, is_spherical


class Parts(NamedTuple):
    """The components of a mixture, in NumPy's arrays of double precision."""

    weights: np.ndarray  # (K,)
    means: np.ndarray  # (K, D)
    covariances: np.ndarray  # (K, D, D)


def to_numpy(g: GMM) -> Parts:
    """Parts of a concrete mixture in double precision, whatever its dtype."""
    logits, means, scale = (np.asarray(leaf, np.float64) for leaf in g)
    weights = np.exp(logits - logits.max())
    count, dim = means.shape
    covariances = np.broadcast_to(_squares(scale, means), (count, dim, dim))
    return Parts(weights / weights.sum(), means, covariances)


def to_structure(like: GMM, c: Parts) -> GMM:
    """A mixture of concrete parts in the structure of another, but untied; of NumPy arrays.

    Of all mixtures in that structure it is the nearest in forward KL, component by component.
    """
    with np.errstate(divide="ignore"):
        logits = np.log(c.weights)
    return _numpy(logits, c.means, factors(like, c.covariances))


def to_jax(g: GMM, dtype, num_components: int = 1) -> GMM:
    """A mixture of JAX arrays, with absent components for want of others."""
    missing = max(num_components - g.num_components, 0)
    logits = np.pad(g.logits, (0, missing), constant_values=-np.inf)
    # Copies of the first are as good as any.
    means, scale = (np.concatenate([leaf, *[leaf[:1]] * missing]) for leaf in (g.means, g.scale))
    return GMM(*(jnp.asarray(leaf, dtype) for leaf in (logits, means, scale)))


def factors(like: GMM, covariances: np.ndarray) -> np.ndarray:
    """Scales of covariance matrices in the structure of a mixture."""
    if is_full(like):
        return np.linalg.cholesky(covariances)
    variances = np.diagonal(covariances, axis1=1, axis2=2)
    if is_spherical(like):
        variances = variances.mean(axis=1)
    return np.sqrt(variances)


def pool(c: Parts) -> Parts:
    """One component with the weight, the mean and the covariance of all of them together."""
    total = c.weights.sum()
    mean = np.average(c.means, axis=0, weights=c.weights)
    apart = c.means - mean
    spread = c.covariances + apart[:, :, None] * apart[:, None, :]
    covariance = np.sum(c.weights[:, None, None] * spread, axis=0) / total
    return Parts(total[None], mean[None], covariance[None])


def concatenate(*several: Parts) -> Parts:
    """The components of all of them, in order."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *several)


class Frame(NamedTuple):
    """x = origin + L z, where L has the structure of a scale."""

    origin: np.ndarray  # (D,)
    factor: np.ndarray  # (D, D), (D,) or ()


def frame(g: GMM) -> Frame:
    """The frame of a concrete mixture: its mean, and a factor of its covariance."""
    whole = pool(to_numpy(g))
    return Frame(whole.means[0], factors(g, whole.covariances)[0])


def into(f: Frame, g: GMM) -> GMM:
    """A mixture in the coordinates of a frame of its own structure, or of a smaller one."""
    factor = _as_matrix(f)
    apart = np.asarray(g.means, np.float64) - f.origin
    means = np.linalg.solve(factor, apart.T).T
    return _numpy(g.logits, means, _mapped(np.linalg.inv(factor), g))


def out_of(f: Frame, g: GMM) -> GMM:
    """The way back."""
    factor = _as_matrix(f)
    means = f.origin + np.asarray(g.means, np.float64) @ factor.T
    return _numpy(g.logits, means, _mapped(factor, g))


def _squares(scale, means):
    """Covariance matrices of a scale, `(K or 1, D, D)`."""
    if scale.ndim > means.ndim:
        lower = np.tril(scale)
        return lower @ lower.mT
    variances = (scale**2).reshape(len(scale), -1, 1)
    return variances * np.eye(means.shape[1])


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


def _numpy(*leaves):
    return GMM._make(np.asarray(leaf, np.float64) for leaf in leaves)
