"""Which structure the covariances of a mixture have, as the shape of its scale tells."""

from gmmjax._mixture.gmm import GMM


def is_full(*mixtures: GMM) -> bool:
    """Whether scales are triangular factors, those of any of them."""
    return any(g.scale.ndim > g.means.ndim for g in mixtures)


def is_spherical(*mixtures: GMM) -> bool:
    """Whether all scales are one deviation for all coordinates."""
    return all(g.scale.ndim < g.means.ndim for g in mixtures)


def is_tied(g: GMM) -> bool:
    """Whether several components share one scale."""
    return g.scale.shape[g.means.ndim - 2] < g.num_components
