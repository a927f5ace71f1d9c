"""Mixtures: a density, and all marginals of one."""

import warnings

import numpy as np

from gmmjax._mixture.affine import marginal
from gmmjax._mixture.gmm import GMM, as_float
from gmmjax._mixture.join import drop_absent
from gmmjax.plot import _drawing
from gmmjax.plot._drawing import plt


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
    ax = _drawing.current_axes(ax)
    draw = _drawing.density_on_line if g.dim == 1 else _drawing.density_in_plane
    draw(drop_absent(g), ax, color, label, components)
    return ax


def marginals(
    g: GMM,
    axes=None,
    *,
    color="C0",
    label=None,
    coordinates=None,
    components: bool = True,
    labels=None,
):
    """All one- and two-dimensional marginals of a mixture, as a triangle of plots.

    Another mixture is drawn over it by passing the axes again; where they have labels,
    `axes[0, 0].figure.legend()` tells them apart, in the corner that is free.

    Args:
      g: a mixture in D ≥ 2 dimensions.
      axes: a `(D, D)` array of matplotlib axes; a new figure by default.
      color: any matplotlib colour.
      label: the mixture's name in a legend.
      coordinates: D names of the coordinates.
      components: whether to show the components too.
      labels: the former name of `coordinates`, which warns.

    Returns:
      The `(D, D)` array of axes; those above the diagonal are hidden.

    Raises:
      TypeError: `g` is not a `GMM`.
      ValueError: its shapes disagree, its dimension is 1, or `axes` or `coordinates` do not match
        it.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> from gmmjax import plot
      >>> plot.marginals(gmmjax.GMM(jnp.zeros(2), jnp.eye(2, 3), jnp.ones(2))).shape
      (3, 3)
    """
    g = as_float("g", g)
    if g.dim < 2:
        raise ValueError("g: expected dimension 2 or more, got 1; gmmjax.plot.density shows it")
    if labels is not None:
        warnings.warn("labels: is called coordinates now", DeprecationWarning, stacklevel=2)
        coordinates = labels
    names = _coordinate_names(coordinates, g.dim)
    axes = _square(axes, g.dim)
    diagonal = [axes[i, i] for i in range(g.dim)]
    for (row, column), ax in np.ndenumerate(axes):
        if column > row:
            ax.set_visible(False)
            continue
        kept = [row] if row == column else [column, row]
        named = label if row == column == 0 else None
        density(marginal(g, kept), ax, color=color, label=named, components=components)
        bottom, left = row == g.dim - 1, column == 0 < row
        ax.set(xlabel=names[column] if bottom else "", ylabel=names[row] if left else "")
        ax.tick_params(labelbottom=bottom, labelleft=left)
        if row == column:
            ax.set_yticks([])
        else:
            ax.set_xlim(*diagonal[column].get_xlim())
    return axes


def _coordinate_names(names, dim):
    if names is None:
        return [f"$x_{{{i + 1}}}$" for i in range(dim)]
    names = list(names)
    if len(names) != dim:
        raise ValueError(f"coordinates: expected {dim} names, got {len(names)}")
    return names


def _square(axes, dim):
    """The `(D, D)` axes that were given, or those of a new figure."""
    if axes is None:
        side = max(4.8, 1.7 * dim)
        axes = plt.figure(figsize=(side, side), layout="constrained").subplots(dim, dim)
    if isinstance(axes, GMM):
        raise TypeError(
            "axes: expected an array of axes of matplotlib, got GMM; a second mixture is drawn by "
            "a call of its own with the axes that the first one gives back"
        )
    axes = np.asarray(axes)
    if axes.shape != (dim, dim):
        raise ValueError(f"axes: expected an array of shape ({dim}, {dim}), got {axes.shape}")
    return axes
