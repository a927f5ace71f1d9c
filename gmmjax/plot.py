"""Pictures of mixtures, fits and divergence matrices, drawn with matplotlib (`gmmjax[plot]`).

Every function draws into the `ax` it is given, or the current one, and returns it. `import gmmjax`
alone does not load matplotlib: that waits until `gmmjax.plot` is first used.
"""

import numpy as np

from gmmjax import _drawing
from gmmjax._drawing import plt
from gmmjax._mixture.algebra import marginal
from gmmjax._mixture.gmm import GMM, as_float


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
    draw(_drawing.present(g), ax, color, label, components)
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
    names = [f"$x_{{{i + 1}}}$" for i in range(g.dim)] if labels is None else list(labels)
    if len(names) != g.dim:
        raise ValueError(f"labels: expected {g.dim} names, got {len(names)}")
    axes = _square(axes, g.dim)
    diagonal = [axes[i, i] for i in range(g.dim)]
    for (row, column), ax in np.ndenumerate(axes):
        if column > row:
            ax.set_visible(False)
            continue
        kept = [row] if row == column else [column, row]
        density(marginal(g, kept), ax, color=color)
        bottom, left = row == g.dim - 1, column == 0 < row
        ax.set(xlabel=names[column] if bottom else "", ylabel=names[row] if left else "")
        ax.tick_params(labelbottom=bottom, labelleft=left)
        if row == column:
            ax.set_yticks([])
        else:
            ax.set_xlim(*diagonal[column].get_xlim())
    return axes


def _square(axes, dim):
    """The `(D, D)` axes that were given, or those of a new figure."""
    if axes is None:
        side = max(4.8, 1.7 * dim)
        axes = plt.figure(figsize=(side, side), layout="constrained").subplots(dim, dim)
    axes = np.asarray(axes)
    if axes.shape != (dim, dim):
        raise ValueError(f"axes: expected an array of shape ({dim}, {dim}), got {axes.shape}")
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
    ax = _drawing.current_axes(ax)
    loss, stderr = (np.asarray(v, np.float64) for v in (result.losses, result.stderrs))
    steps = np.arange(loss.size)
    (line,) = ax.plot(steps, loss, color=color, label=label, linewidth=1.2)
    low, high = loss - 2 * stderr, loss + 2 * stderr
    smallest, largest = np.nanmin(loss), np.nanmax(loss)
    if smallest > 0 and largest > 30 * smallest:
        ax.set_yscale("log")
        low = np.maximum(low, smallest / 10)
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
    ax = _drawing.current_axes(ax)
    image = ax.imshow(values, cmap=cmap)
    ax.figure.colorbar(image, ax=ax, label="nats")
    if len(rows):
        _drawing.name_rows_and_columns(ax, rows, columns)
    if max(values.shape) <= 12:
        _drawing.write_numbers(ax, image, values)
    ax.xaxis.set_label_position("top")  # long names leave no room for it below
    ax.set(xlabel="q", ylabel="p")
    return ax


def _names(labels, shape):
    if labels is None:
        return (), ()
    rows, columns = (labels, labels) if isinstance(labels[0], str) else labels
    for name, length in zip((rows, columns), shape, strict=True):
        if len(name) != length:
            raise ValueError(f"labels: expected {length} names, got {len(name)}")
    return rows, columns
