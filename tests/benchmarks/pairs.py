"""Pairs of mixtures to measure on: four from the literature, the others random, D = 1 … 39."""

from typing import NamedTuple

import numpy as np


class Mixture(NamedTuple):
    """Parameters `(K,)`, `(K, D)` and `(K, D, D)` in float64, for whatever library takes them."""

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray


class Pair(NamedTuple):
    """Two mixtures, and KL(p‖q) in nats where quadrature gives it."""

    p: Mixture
    q: Mixture
    exact: float | None = None

    @property
    def dim(self):
        """D."""
        return self.p.means.shape[1]

    @property
    def counts(self):
        """Numbers of components, as text."""
        return f"{len(self.p.weights)}/{len(self.q.weights)}"


def random_mixture(rng, num_components, dim, separation):
    """A mixture of full covariances: means spread by `separation`, Wishart-like factors."""
    weights = rng.dirichlet(np.full(num_components, 2.0))
    means = rng.normal(size=(num_components, dim)) * separation
    a = rng.normal(size=(num_components, dim, dim)) / np.sqrt(dim)
    return Mixture(weights, means, 0.7 * a @ a.swapaxes(1, 2) + 0.3 * np.eye(dim))


def random_pair(seed, count_p, count_q, dim, separation):
    """Two unrelated mixtures."""
    rng = np.random.default_rng(seed)
    return Pair(
        random_mixture(rng, count_p, dim, separation), random_mixture(rng, count_q, dim, separation)
    )


def near_pair(seed, count, dim, separation, shift):
    """A mixture, and the same with every parameter moved by about `shift`."""
    rng = np.random.default_rng(seed)
    p = random_mixture(rng, count, dim, separation)
    weights = p.weights * np.exp(shift * rng.normal(size=count))
    means = p.means + shift * rng.normal(size=p.means.shape)
    covariances = p.covariances * np.exp(shift * rng.normal(size=(count, 1, 1)))
    return Pair(p, Mixture(weights / weights.sum(), means, covariances))


def study():
    """All pairs by name, in order of dimension within each family."""
    pairs = _published()
    sizes = [(1, 5, 4, 2), (2, 10, 8, 2), (3, 5, 5, 1), (3, 10, 10, 3), (5, 10, 5, 1), (5, 5, 5, 3)]
    sizes += [
        (10, 10, 10, 0.5),
        (10, 10, 10, 2),
        (20, 10, 10, 0.3),
        (20, 20, 20, 1),
        (39, 20, 20, 0.3),
    ]
    sizes += [(39, 64, 32, 0.5)]
    for dim, count_p, count_q, separation in sizes:
        name = f"random_{dim}d_{count_p}_vs_{count_q}_sep{separation}"
        pairs[name] = random_pair(100 * dim + count_p, count_p, count_q, dim, separation)
    for dim, count in ((3, 8), (10, 10), (20, 10)):
        pairs[f"near_{dim}d_{count}"] = near_pair(dim, count, dim, 1.0, 0.1)
    return pairs


def _published():
    return {
        "crouse_10_to_6": _crouse(),
        "planar_3_to_2": _planar(),
        "seven_vs_nine_far": _seven_vs_nine(),
        "rare_mode": Pair(
            _scalar([0.999, 0.001], [0, 30], [1, 1]), _scalar([1], [0], [1]), 0.442092744888
        ),
    }


def _scalar(weights, means, variances):
    weights, means, variances = (
        np.asarray(values, np.float64) for values in (weights, means, variances)
    )
    return Mixture(weights / weights.sum(), means[:, None], variances[:, None, None])


def _crouse():
    """The scalar example of Crouse et al. (2011), and the six components that a reduction by
    pruning keeps.
    """
    weights = [0.03, 0.18, 0.12, 0.19, 0.02, 0.16, 0.06, 0.1, 0.08, 0.06]
    means = [1.45, 2.2, 0.67, 0.48, 1.49, 0.91, 1.01, 1.42, 2.77, 0.89]
    variances = [0.0487, 0.0305, 0.1171, 0.0174, 0.0295, 0.0102, 0.0323, 0.038, 0.0115, 0.0679]
    q = _scalar([0.18, 0.12, 0.19, 0.16, 0.1, 0.08], [2.2, 0.67, 0.48, 0.91, 1.42, 2.77],
                [0.0305, 0.1171, 0.0174, 0.0102, 0.038, 0.0115])  # fmt: skip
    return Pair(_scalar(weights, means, variances), q, 0.0207767987175)


def _planar():
    """The planar example of the tracking literature, and its last two components."""
    means = np.array([[1.0, -1.0], [-1.0, 1.0], [0.0, 0.0]])
    covariances = (
        np.array([[[4.0, 2.8], [2.8, 4.0]], [[4.0, 0.0], [0.0, 4.0]], [[2.0, -1.0], [-1.0, 3.0]]])
        / 9
    )
    q = Mixture(np.array([2.0, 1.0]) / 3, means[1:], covariances[1:])
    return Pair(Mixture(np.array([0.25, 0.5, 0.25]), means, covariances), q, 0.745602972618)


def _seven_vs_nine():
    """The first mixture of Nielsen and Sun (2016) against a comb that misses most of it."""
    p = _scalar([0.05, 0.1, 0.2, 0.2, 0.05, 0.3, 0.1], [-5, -2, 5, 10, 15, 25, 30],
                [1, 0.25, 0.09, 0.25, 0.16, 0.25, 4])  # fmt: skip
    q = _scalar([0.1] * 4 + [0.2] + [0.1] * 4, np.arange(-16, 17, 4), [0.25, 0.04] * 4 + [0.25])
    return Pair(p, q, 93.6351193962)
