"""Weighted points of a mixture in NumPy, so that a search over mixtures compiles nothing."""

from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from gmmjax._reduction import natural
from gmmjax._reduction.parts import Parts


class Cloud(NamedTuple):
    """Points in double precision: Σ weight·f(x) estimates E_p[f]."""

    x: np.ndarray  # (n, D)
    weight: np.ndarray  # (n,)
    log_prob: np.ndarray  # (n,) of p, so that losses are KL
    spread: np.ndarray | None = None  # (n, D, D) where points are Gaussians

    def features(self, some: slice, ndim: int) -> np.ndarray:
        """Features `(F, n)` of some points, or their means."""
        spread = None if self.spread is None else self.spread[some]
        return natural.features(self.x[some], ndim, spread)


def draw(rng, p: Parts, num_points: int) -> Cloud:
    """About so many points, of which each component has its share, of just its mean and covariance.

    Where a component of p belongs to one of q, the moments of its points are then its own, and
    nothing is fitted to noise. Densities are not filled in.
    """
    count, dim = p.means.shape
    share = 0.75 * p.weights + 0.25 / count  # no rare component is missed
    numbers = np.ceil(share * num_points).astype(int)
    factors = np.linalg.cholesky(p.covariances)
    normals = np.split(_normals(rng, numbers, dim), np.cumsum(numbers)[:-1])
    x = [m + _standardised(z) @ f.T for m, f, z in zip(p.means, factors, normals, strict=True)]
    weight = np.repeat(p.weights / numbers, numbers)
    return Cloud(np.concatenate(x), weight, np.zeros_like(weight))


def whole(p: Parts) -> Cloud:
    """The components themselves, as points that are Gaussians.

    On them the fixed point is that of a bound: E_i[log q] is replaced by the logarithm of
    Σ_k W_k exp E_i[log N_k], which is not above it, and close where components of p are small.
    """
    return Cloud(p.means, p.weights, np.zeros_like(p.weights), p.covariances)


def sample(rng, p: Parts, number: int) -> np.ndarray:
    """Draws `(number, D)`."""
    chosen = rng.choice(len(p.weights), number, p=p.weights)
    factors = np.linalg.cholesky(p.covariances[chosen])
    z = rng.normal(size=(number, p.means.shape[1]))
    return p.means[chosen] + np.einsum("nij,nj->ni", factors, z)


def _normals(rng, numbers, dim):
    """Standard normal points: those of each component come from a lattice, shifted at random."""
    index = np.concatenate([np.arange(number) for number in numbers])
    shift = np.repeat(rng.uniform(size=(len(numbers), dim - 1)), numbers, axis=0)
    first = (index + 0.5) / np.repeat(numbers, numbers)
    others = (shift + index[:, None] * _generators(dim - 1)) % 1.0
    uniform = np.clip(np.column_stack([first, others]), 1e-12, 1 - 1e-12)
    quantile = NormalDist().inv_cdf
    return np.array([quantile(u) for u in uniform.ravel().tolist()]).reshape(uniform.shape)


def _generators(dim):
    """Powers of 1 over the root of x^(d+1) = x + 1: the golden ratio and its kin."""
    root = 1.5
    for _ in range(60):
        root = (1 + root) ** (1 / (dim + 1))
    return root ** -np.arange(1.0, dim + 1)


def _standardised(z):
    """Points of mean 0 and, where there are enough of them, covariance 1."""
    number, dim = z.shape
    if number == 1:
        return z
    centred = z - z.mean(axis=0)
    if number < 4 * dim:
        return centred
    factor = np.linalg.cholesky(centred.T @ centred / number)
    return np.linalg.solve(factor, centred.T).T
