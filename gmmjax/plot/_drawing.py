"""What pictures are drawn with: curves, regions, ellipses, and the cells of a matrix."""

import math

import jax.numpy as jnp
import numpy as np

from gmmjax._mixture.density import component_log_prob, log_prob
from gmmjax._mixture.gmm import GMM
from gmmjax._mixture.moments import covariances, weights

try:
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Ellipse
    from matplotlib.ticker import MaxNLocator as MaxNLocator
except ImportError as error:
    raise ImportError("gmmjax.plot needs matplotlib: pip install gmmjax[plot]") from error

REGIONS = (0.95, 0.8, 0.6, 0.4, 0.2)  # probability inside each contour
NUM_GRID_POINTS = 240  # along each side


def current_axes(ax=None):
    """The axes that were given, or matplotlib's current ones."""
    if ax is None:
        return plt.gca()
    if not isinstance(ax, Axes):
        raise TypeError(
            f"ax: expected axes of matplotlib, got {type(ax).__name__}; what is drawn beside it "
            "is drawn by a call of its own with the same ax"
        )
    return ax


def density_on_line(g: GMM, ax, color, label, components: bool) -> None:
    """A curve over its weighted components."""
    x = _points_on_line(g)
    points = jnp.asarray(x, g.means.dtype)[:, None]
    if components:
        for part in np.exp(component_log_prob(g, points)).T:
            ax.plot(x, part, color=color, alpha=0.7, linewidth=0.9, linestyle=(0, (4, 2)))
    y = np.exp(log_prob(g, points))
    ax.fill_between(x, y, color=color, alpha=0.18, linewidth=0)
    ax.plot(x, y, color=color, label=label, linewidth=1.8)
    highest = ax.dataLim.y1  # of all mixtures that are drawn here
    ax.set(xlabel="x", ylabel="density", ylim=(0, 1.05 * highest))


def _points_on_line(g):
    """Points as fine as the narrowest component wants them, but only around that one."""
    means = np.asarray(g.means)  # (K, 1)
    deviations = np.sqrt(np.asarray(covariances(g)))[:, 0]  # (K, 1)
    return np.unique(means + deviations * np.linspace(-4, 4, 161))


def density_in_plane(g: GMM, ax, color, label, components: bool) -> None:
    """Regions of highest density, and an ellipse for each component."""
    x, y = _sides(g)
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    log_density = log_prob(g, jnp.asarray(grid, g.means.dtype))
    z = np.exp(np.asarray(log_density, np.float64))
    levels = _levels(z)
    top = max(z.max(), levels[-1]) * 1.001
    red, green, blue, _ = to_rgba(color)
    colors = [(red, green, blue, alpha) for alpha in np.linspace(0.12, 0.6, len(levels))]
    ax.contourf(x, y, z, levels=[*levels, top], colors=colors)
    if components:
        _draw_ellipses(g, ax, color)
    if label is not None:
        ax.fill([], [], color=color, alpha=0.6, label=label)
    ax.set(xlabel="$x_1$", ylabel="$x_2$")


def _sides(g):
    """Grid points along both axes, out to 3.2 deviations of every component."""
    means = np.asarray(g.means, np.float64)
    sigma = np.asarray(covariances(g), np.float64)
    reach = 3.2 * np.sqrt(np.diagonal(sigma, axis1=1, axis2=2))
    low = np.min(means - reach, axis=0)
    high = np.max(means + reach, axis=0)
    return np.linspace(low, high, NUM_GRID_POINTS).T


def _levels(z):
    """The densities that bound the smallest regions of the grid with given probabilities."""
    ordered = np.sort(z, axis=None)[::-1]
    inside = np.cumsum(ordered) / ordered.sum()
    return np.unique(ordered[np.searchsorted(inside, REGIONS)])


def _draw_ellipses(g, ax, color):
    """Two standard deviations of each component, fainter for less weight, the heaviest on top."""
    means = np.asarray(g.means, np.float64)
    sigma = np.asarray(covariances(g), np.float64)
    w = np.asarray(weights(g), np.float64)
    style = {"fill": False, "edgecolor": color, "linewidth": 1.2, "zorder": 3}
    for k in np.argsort(w):
        (minor, major), axes = np.linalg.eigh(sigma[k])
        x, y = axes[:, 1]  # along the major axis
        style["angle"] = np.degrees(np.arctan2(y, x))
        style["alpha"] = 1 - 0.8 * (1 - w[k] / w.max())
        width, height = 4 * np.sqrt(major), 4 * np.sqrt(minor)
        ax.add_patch(Ellipse(tuple(means[k]), width, height, **style))
        ax.plot(*means[k], "+", color=color, alpha=style["alpha"], markersize=5)


def name_rows_and_columns(ax, rows, columns) -> None:
    """Names at the ticks, tilted where they would not fit side by side."""
    ax.set_yticks(range(len(rows)), rows)
    ax.set_xticks(range(len(columns)), columns)
    if sum(map(len, columns)) > 30:
        ax.tick_params(axis="x", rotation=45)
        for tick in ax.get_xticklabels():
            tick.set(ha="right", rotation_mode="anchor")


def write_numbers(ax, image, values, decimals=None) -> None:
    """Each number into its cell, with equally many decimals, white on dark colours."""
    if decimals is None:
        decimals = _decimals(values)
    colors = image.to_rgba(values)
    for (i, j), value in np.ndenumerate(values):
        red, green, blue, _ = colors[i, j]
        dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
        style = {"ha": "center", "va": "center", "size": 8}
        ax.text(j, i, f"{value:.{decimals}f}", color="white" if dark else "black", **style)


def _decimals(values):
    """So many that the largest number has three digits."""
    finite = np.abs(values[np.isfinite(values)])
    largest = np.max(finite, initial=0.0)
    return max(0, 2 - math.floor(math.log10(largest))) if largest > 0 else 2


def cluster_order(distances) -> np.ndarray:
    """An order in which near models stand side by side: the leaves of a tree of average linkage."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    if len(distances) < 3:
        return np.arange(len(distances))
    symmetric = 0.5 * (distances + distances.T)
    np.fill_diagonal(symmetric, 0.0)
    condensed = squareform(np.nan_to_num(symmetric), checks=False)
    return leaves_list(linkage(condensed, "average", optimal_ordering=True))
