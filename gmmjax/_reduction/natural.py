"""Gaussians as an exponential family: log-densities and moments as products with features of x.

Mixtures may come in batches, `(C, K, …)`.
"""

import numpy as np

from gmmjax._reduction.parts import Parts


def features(x: np.ndarray, ndim: int, spread: np.ndarray | None = None) -> np.ndarray:
    """1, x, and the products of two coordinates (squares alone unless full), `(F, n)`.

    Or their means over Gaussians at `x` with covariances `spread`.
    """
    i, j = _pairs(x.shape[1], ndim)
    x = np.ascontiguousarray(x.T)
    products = x[i] * x[j]
    if spread is not None:
        products += spread[:, i, j].T
    return np.concatenate([np.ones((1, x.shape[1])), x, products])


def coefficients(g: Parts, ndim: int) -> np.ndarray:
    """Rows `(C, K, F)` whose products with features are log w + log N."""
    dim = g.means.shape[-1]
    precision = np.linalg.inv(g.covariances)
    log_det = np.linalg.slogdet(g.covariances)[1]
    linear = (precision @ g.means[..., None])[..., 0]
    i, j = _pairs(dim, ndim)
    square = np.where(i == j, -0.5, -1.0) * precision[..., i, j]
    with np.errstate(divide="ignore"):
        constant = np.log(g.weights) - 0.5 * (dim * np.log(2 * np.pi) + log_det)
    constant = constant - 0.5 * np.sum(linear * g.means, axis=-1)
    return np.concatenate([constant[..., None], linear, square], axis=-1)


def moments(averages: np.ndarray, dim: int, ndim: int) -> tuple[np.ndarray, np.ndarray]:
    """Means and covariances, in the structure, of averages of features without the first."""
    means, products = averages[..., :dim], averages[..., dim:]
    i, j = _pairs(dim, ndim)
    covariances = np.zeros((*means.shape, dim))
    spread = products - means[..., i] * means[..., j]
    if ndim == 1:
        spread = np.broadcast_to(spread.mean(axis=-1, keepdims=True), spread.shape)
    covariances[..., i, j] = spread
    covariances[..., j, i] = spread
    return means, covariances


def structured(covariances: np.ndarray, ndim: int) -> np.ndarray:
    """Covariances without what a structure cannot keep: a loss that ignored it would be too low."""
    eye = np.eye(covariances.shape[-1])
    if ndim == 1:
        return np.trace(covariances, axis1=-2, axis2=-1)[..., None, None] / len(eye) * eye
    return covariances if ndim == 3 else covariances * eye


def free(g: Parts) -> np.ndarray:
    """Free parameters `(C, P)`: log-weights, means, factors with the logarithm of the diagonal."""
    dim = g.means.shape[-1]
    factor = _factors(g.covariances)
    on = np.arange(dim)
    factor[..., on, on] = np.log(factor[..., on, on])
    log_weights = np.log(np.maximum(g.weights, 1e-30))
    leaves = [log_weights, g.means, factor]
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)


def parts(theta: np.ndarray, shape) -> Parts:
    """The way back to mixtures whose means have that shape."""
    batch, count, dim = shape
    log_weights, means, factor = np.split(theta, [count, count + count * dim], axis=1)
    weights = np.exp(log_weights - log_weights.max(axis=1, keepdims=True))
    factor = factor.reshape(batch, count, dim, dim).copy()
    on = np.arange(dim)
    # An extrapolation may lead anywhere; its loss then says so, if its matrices have inverses.
    factor[..., on, on] = np.exp(np.clip(factor[..., on, on], -30, 30))
    covariances = factor @ factor.mT
    weights = weights / weights.sum(axis=1, keepdims=True)
    return Parts(weights, means.reshape(shape), covariances)


def _factors(covariances):
    """Cholesky factors, also where rounding has left a covariance indefinite."""
    try:
        return np.linalg.cholesky(covariances)
    except np.linalg.LinAlgError:
        finite = np.isfinite(covariances).all(axis=(-2, -1), keepdims=True)
        values, vectors = np.linalg.eigh(np.where(finite, covariances, 1.0))
        values = np.maximum(values, 1e-14 * values[..., -1:])
        upper = np.linalg.qr((vectors * np.sqrt(values)[..., None, :]).mT).R
        signs = np.sign(np.diagonal(upper, axis1=-2, axis2=-1))
        return (upper * signs[..., None]).mT


def _pairs(dim, ndim):
    if ndim == 3:
        return np.triu_indices(dim)
    return np.arange(dim), np.arange(dim)
