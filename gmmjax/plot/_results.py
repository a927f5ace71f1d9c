"""Results: the course of a fit, the curve of a reduction, and a matrix of divergences."""

import numpy as np

from gmmjax.plot import _drawing
from gmmjax.plot._drawing import MaxNLocator


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
      >>> import gmmjax
      >>> fitted = types.SimpleNamespace(losses=[3.0, 2.0, 1.5], stderrs=[0.2, 0.1, 0.1])
      >>> gmmjax.plot.history(fitted).get_xlabel()
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


def curve(results, ax=None, *, color="C0", label=None):
    """The loss over the number of components, with bars of two standard errors.

    Thin and grey is what greedy merging gives. A loss of d nats means that it takes about 1/d
    observations to tell the two mixtures apart: with n observations, the smallest number of
    components whose loss is below 1/n is enough.

    Args:
      results: what `gmmjax.reduce_mixture` returns for several numbers of components, a dict
        `{n: FitResult}`.
      ax: matplotlib axes; the current ones by default.
      color: any matplotlib colour.
      label: the curve's name in a legend.

    Returns:
      The axes, whose scale is logarithmic where all losses are positive.

    Raises:
      TypeError: `results` is not such a dict.

    Example:
      >>> import types, gmmjax
      >>> estimates = gmmjax.Estimate(0.2, 0.01), gmmjax.Estimate(0.1, 0.01)
      >>> result = types.SimpleNamespace(start=estimates[0], loss=estimates[1])
      >>> gmmjax.plot.curve({2: result, 3: result}).get_xlabel()
      'components'
    """
    if not isinstance(results, dict) or not results:
        raise TypeError(
            "results: expected a dict {n: FitResult}, as reduce_mixture gives for several n, "
            f"got {type(results).__name__}"
        )
    ax = _drawing.current_axes(ax)
    counts = sorted(results)
    start = np.array([results[n].start.value for n in counts], np.float64)
    loss = np.array([results[n].loss.value for n in counts], np.float64)
    error = np.array([results[n].loss.stderr for n in counts], np.float64)
    ax.plot(counts, start, color="0.6", linewidth=0.9)
    ax.errorbar(counts, loss, yerr=2 * error, color=color, label=label, fmt="o-", markersize=4)
    if np.all(loss > 0):
        ax.set_yscale("log")
    ax.set(xlabel="components", ylabel="loss ± 2 standard errors")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return ax


def matrix(values, labels=None, ax=None, *, cmap="viridis_r", order=None, decimals=None):
    """A matrix of divergences between models, row against column.

    Args:
      values: `(M, N)` numbers, or an `Estimate` of such.
      labels: names of the models: M of them for a square matrix, or a pair, of rows and of columns.
        A dict gives its keys, so that the mixtures themselves will do.
      ax: matplotlib axes; the current ones by default.
      cmap: a matplotlib colour map.
      order: in which order to show the models of a square matrix: M indices, or "cluster", which
        puts near ones side by side (average linkage of the mean of both directions).
      decimals: of all numbers; by default so many that the largest has three digits.

    Returns:
      The axes. Up to 12 models the numbers are written into their cells.

    Raises:
      ValueError: `values` is not a matrix, there are not as many labels as models, or `order` is
        none of them.

    Example:
      >>> import gmmjax
      >>> gmmjax.plot.matrix([[0.0, 1.2], [0.8, 0.0]], labels=["a", "b"]).get_ylabel()
      'p'
    """
    values = np.asarray(getattr(values, "value", values), np.float64)
    if values.ndim != 2:
        raise ValueError(f"values: expected a matrix, got shape {values.shape}")
    rows, columns = _names(labels, values.shape)
    if order is not None:
        order = _order(order, values)
        values = values[np.ix_(order, order)]
        numbers = [str(i) for i in range(len(values))]
        rows, columns = ([(names or numbers)[i] for i in order] for names in (rows, columns))
    ax = _drawing.current_axes(ax)
    image = ax.imshow(values, cmap=cmap)
    ax.figure.colorbar(image, ax=ax, label="nats")
    if len(rows):
        _drawing.name_rows_and_columns(ax, rows, columns)
    if max(values.shape) <= 12:
        _drawing.write_numbers(ax, image, values, decimals)
    ax.xaxis.set_label_position("top")  # long names leave no room for it below
    ax.set(xlabel="q", ylabel="p")
    return ax


def _names(labels, shape):
    """Names of the rows and of the columns, or none."""
    if labels is None:
        return [], []
    parts = list(labels)
    is_pair = not isinstance(labels, dict) and len(parts) == 2 and not any(map(np.isscalar, parts))
    found = [[str(name) for name in part] for part in (parts if is_pair else (parts, parts))]
    for names, length in zip(found, shape, strict=True):
        if len(names) != length:
            raise ValueError(f"labels: expected {length} names, got {len(names)}")
    return found


def _order(order, values):
    """The models of a square matrix in the order that is asked for."""
    size = len(values)
    if values.shape != (size, size):
        raise ValueError(f"order: is for square matrices, got values of shape {values.shape}")
    if isinstance(order, str) and order == "cluster":
        return _drawing.cluster_order(values)
    order = np.asarray(order)
    if order.dtype.kind not in "iu" or sorted(order) != list(range(size)):
        raise ValueError(f'order: expected "cluster" or the indices of {size} models, got {order}')
    return order
