"""Pictures of mixtures, fits and divergence matrices, drawn with matplotlib (`pip install
gmmjax[plot]`).

Every function draws into the `ax` it is given, or the current one, and returns it. `import gmmjax`
alone does not load matplotlib: this module is imported by name, `from gmmjax import plot`.
"""

import jax.numpy as jnp
import numpy as np

from gmmjax._mixture.algebra import marginal
from gmmjax._mixture.density import component_log_prob, log_prob
from gmmjax._mixture.gmm import GMM, as_float
from gmmjax._mixture.moments import covariances, weights

try:
    import matplotlib.pyplot as plt
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Ellipse
except ImportError as error:
    raise ImportError("gmmjax.plot needs matplotlib: pip install gmmjax[plot]") from error

_REGIONS = (0.95, 0.8, 0.6, 0.4, 0.2)  # probability inside each contour
_GRID = 240


def density(g: GMM, ax=None, *, color="C0", label=None, components: bool = True):
    """The density of a mixture in one or two dimensions, with its components.

    In one dimension a curve over its weighted components. In two, the smallest regions that hold
    20, 40, 60, 80 and 95 % of the probability, and for each component the ellipse of two standard
    deviations, fainter for less weight.

    Args:
      g: a mixture of dimension 1 or 2.
      ax: matplotlib axes; the current ones by default.
      color: any matplotlib colour.
      label: the mixture's name in a legend.
      components: whether to show the components too.

    Returns:
      The axes.

    Raises:
      TypeError: `g` is not a `GMM`.
      ValueError: its shapes disagree, or its dimension is above 2 (see `gmmjax.plot.marginals`).

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> from gmmjax import plot
      >>> g = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0], [3.0]]), jnp.array([1.0, 0.5]))
      >>> plot.density(g, label="two modes").get_ylabel()
      'density'
    """
    g = as_float("g", g)
    if g.dim > 2:
        raise ValueError(
            f"g: expected dimension 1 or 2, got {g.dim}; gmmjax.plot.marginals shows more"
        )
    ax = plt.gca() if ax is None else ax
    draw = _density_on_line if g.dim == 1 else _density_in_plane
    draw(_present(g), ax, color, label, components)
    return ax


def marginals(g: GMM, axes=None, *, color="C0", labels=None):
    """All one- and two-dimensional marginals of a mixture, as a triangle of plots.

    Args:
      g: a mixture in D ≥ 2 dimensions.
      axes: a `(D, D)` array of matplotlib axes; a new figure by default.
      color: any matplotlib colour.
      labels: D names of the coordinates.

    Returns:
      The `(D, D)` array of axes; those above the diagonal are hidden.

    Raises:
      TypeError: `g` is not a `GMM`.
      ValueError: its shapes disagree, its dimension is 1, or `axes` or `labels` do not match it.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> from gmmjax import plot
      >>> plot.marginals(gmmjax.GMM(jnp.zeros(2), jnp.eye(2, 3), jnp.ones(2))).shape
      (3, 3)
    """
    g = as_float("g", g)
    if g.dim < 2:
        raise ValueError("g: expected dimension 2 or more, got 1; gmmjax.plot.density shows it")
    labels = [f"$x_{{{i + 1}}}$" for i in range(g.dim)] if labels is None else list(labels)
    if len(labels) != g.dim:
        raise ValueError(f"labels: expected {g.dim} names, got {len(labels)}")
    if axes is None:
        side = max(4.8, 1.7 * g.dim)
        axes = plt.figure(figsize=(side, side), layout="constrained").subplots(g.dim, g.dim)
    axes = np.asarray(axes)
    if axes.shape != (g.dim, g.dim):
        raise ValueError(f"axes: expected an array of shape ({g.dim}, {g.dim}), got {axes.shape}")
    diagonal = [axes[i, i] for i in range(g.dim)]
    for (row, column), ax in np.ndenumerate(axes):
        if column > row:
            ax.set_visible(False)
            continue
        density(marginal(g, [row] if row == column else [column, row]), ax, color=color)
        ax.set(
            xlabel=labels[column] if row == g.dim - 1 else "",
            ylabel=labels[row] if column == 0 < row else "",
        )
        ax.tick_params(labelbottom=row == g.dim - 1, labelleft=column == 0 < row)
        if row == column:
            ax.set_yticks([])
        else:
            ax.set_xlim(*diagonal[column].get_xlim())
    return axes


def history(result, ax=None, *, color="C0", label=None):
    """The loss over the steps of a fit, with a band of two standard errors.

    The scale is logarithmic where the loss stays positive and falls by more than a factor of 30.

    Args:
      result: a `FitResult`, or anything with arrays `losses` and `stderrs`, `(num_steps,)`; NaN
        steps are left out.
      ax: matplotlib axes; the current ones by default.
      color: any matplotlib colour.
      label: the fit's name in a legend.

    Returns:
      The axes.

    Raises:
      TypeError: `result` has no such arrays.

    Example:
      >>> import types
      >>> from gmmjax import plot
      >>> fitted = types.SimpleNamespace(losses=[3.0, 2.0, 1.5], stderrs=[0.2, 0.1, 0.1])
      >>> plot.history(fitted).get_xlabel()
      'step'
    """
    if not (hasattr(result, "losses") and hasattr(result, "stderrs")):
        raise TypeError(
            f"result: expected losses and stderrs, as a fit has them, got {type(result).__name__}"
        )
    ax = plt.gca() if ax is None else ax
    loss, stderr = (np.asarray(v, np.float64) for v in (result.losses, result.stderrs))
    steps = np.arange(loss.size)
    (line,) = ax.plot(steps, loss, color=color, label=label, linewidth=1.2)
    low, high = loss - 2 * stderr, loss + 2 * stderr
    if np.nanmin(loss) > 0 and np.nanmax(loss) > 30 * np.nanmin(loss):
        ax.set_yscale("log")
        low = np.maximum(low, np.nanmin(loss) / 10)
    ax.fill_between(steps, low, high, color=line.get_color(), alpha=0.25, linewidth=0)
    ax.set(xlabel="step", ylabel="loss ± 2 standard errors", xmargin=0.01)
    return ax


def matrix(values, labels=None, ax=None, *, cmap="viridis_r"):
    """A matrix of divergences between models, row against column.

    Args:
      values: `(M, N)` numbers, or an `Estimate` of such.
      labels: names of the models: M of them for a square matrix, or a pair of lists, of rows and of
        columns.
      ax: matplotlib axes; the current ones by default.
      cmap: a matplotlib colour map.

    Returns:
      The axes. Up to 12 models the numbers are written into their cells.

    Raises:
      ValueError: `values` is not a matrix, or there are not as many labels as models.

    Example:
      >>> from gmmjax import plot
      >>> plot.matrix([[0.0, 1.2], [0.8, 0.0]], labels=["a", "b"]).get_ylabel()
      'p'
    """
    values = np.asarray(getattr(values, "value", values), np.float64)
    if values.ndim != 2:
        raise ValueError(f"values: expected a matrix, got shape {values.shape}")
    rows, columns = _names(labels, values.shape)
    ax = plt.gca() if ax is None else ax
    image = ax.imshow(values, cmap=cmap)
    ax.figure.colorbar(image, ax=ax, label="nats")
    if len(rows):
        ax.set_yticks(range(len(rows)), rows)
        ax.set_xticks(range(len(columns)), columns)
    if sum(map(len, columns)) > 30:  # they would not fit side by side
        ax.tick_params(axis="x", rotation=45)
        for tick in ax.get_xticklabels():
            tick.set(ha="right", rotation_mode="anchor")
    if max(values.shape) <= 12:
        colors = image.to_rgba(values)
        for (i, j), value in np.ndenumerate(values):
            red, green, blue, _ = colors[i, j]
            dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
            ax.text(
                j,
                i,
                f"{value:.2g}",
                ha="center",
                va="center",
                color="white" if dark else "black",
                size=8,
            )
    ax.xaxis.set_label_position("top")  # long names leave no room for it below
    ax.set(xlabel="q", ylabel="p")
    return ax


def _density_on_line(g, ax, color, label, components):
    means, sds = np.asarray(g.means)[:, 0], np.sqrt(np.asarray(covariances(g))[:, 0, 0])
    # As fine as the narrowest component wants it, but only around that one.
    x = np.unique(
        np.concatenate(
            [mean + sd * np.linspace(-4, 4, 161) for mean, sd in zip(means, sds, strict=True)]
        )
    )
    points = jnp.asarray(x, g.means.dtype)[:, None]
    y = np.exp(log_prob(g, points))
    if components:
        for part in np.exp(component_log_prob(g, points)).T:
            ax.plot(x, part, color=color, alpha=0.7, linewidth=0.9, linestyle=(0, (4, 2)))
    ax.fill_between(x, y, color=color, alpha=0.18, linewidth=0)
    ax.plot(x, y, color=color, label=label, linewidth=1.8)
    # of all mixtures that are drawn here
    ax.set(xlabel="x", ylabel="density", ylim=(0, 1.05 * ax.dataLim.y1))


def _density_in_plane(g, ax, color, label, components):
    means, covs, w = (np.asarray(v, np.float64) for v in (g.means, covariances(g), weights(g)))
    reach = 3.2 * np.sqrt(np.diagonal(covs, axis1=1, axis2=2))
    low, high = (means - reach).min(0), (means + reach).max(0)
    x, y = (np.linspace(*ends, _GRID) for ends in zip(low, high, strict=True))
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    z = np.exp(np.asarray(log_prob(g, jnp.asarray(grid, g.means.dtype)), np.float64))
    ordered = np.sort(z, axis=None)[::-1]
    inside = np.cumsum(ordered) / ordered.sum()
    levels = np.unique([ordered[np.searchsorted(inside, share)] for share in _REGIONS])
    fills = [(*to_rgba(color)[:3], alpha) for alpha in np.linspace(0.12, 0.6, len(levels))]
    ax.contourf(x, y, z, levels=[*levels, max(z.max(), levels[-1]) * 1.001], colors=fills)
    for k in np.argsort(w) if components else ():
        variances, axes = np.linalg.eigh(covs[k])
        angle = np.degrees(np.arctan2(axes[1, 1], axes[0, 1]))
        alpha = 1 - 0.8 * (1 - w[k] / w.max())
        size = 4 * np.sqrt(variances[::-1])
        style = {"fill": False, "edgecolor": color, "alpha": alpha, "linewidth": 1.2, "zorder": 3}
        ax.add_patch(Ellipse(tuple(means[k]), *size, angle=angle, **style))
        ax.plot(*means[k], "+", color=color, alpha=alpha, markersize=5)
    if label is not None:
        ax.fill([], [], color=color, alpha=0.6, label=label)
    ax.set(xlabel="$x_1$", ylabel="$x_2$")


def _present(g):
    present = np.asarray(g.logits) > -np.inf
    scale = g.scale[present] if g.scale.shape[0] == g.num_components else g.scale
    return GMM(g.logits[present], g.means[present], scale)


def _names(labels, shape):
    if labels is None:
        return (), ()
    rows, columns = (labels, labels) if isinstance(labels[0], str) else labels
    for name, length in zip((rows, columns), shape, strict=True):
        if len(name) != length:
            raise ValueError(f"labels: expected {length} names, got {len(name)}")
    return rows, columns
