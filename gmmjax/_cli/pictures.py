"""What the commands draw; matplotlib is imported when there is something to draw."""

import importlib

import numpy as np

from gmmjax._mixture.gmm import GMM

# Outlines of more components than these hide one another.
MOST_OUTLINES = 12


def draw_mixtures(mixtures: dict[str, GMM], output: str) -> None:
    """All mixtures over one another with a legend: densities, or marginals where D > 2."""
    plot = _plot()
    dim = next(iter(mixtures.values())).dim
    draw = _draw_marginals if dim > 2 else _draw_densities
    _write(plot, draw(plot, mixtures), output)


def draw_matrix(values: np.ndarray, names: list[str], order: str, output: str) -> None:
    """A matrix of divergences, with room for each of its numbers."""
    plot = _plot()
    side = max(4.8, 0.6 * len(names))
    figure, axis = plot.plt.subplots(figsize=(1.25 * side, side))
    plot.matrix(values, names, axis, order=None if order == "given" else order)
    _write(plot, figure, output)


def draw_curve(results: dict, output: str) -> None:
    """The loss of reductions over the number of components."""
    plot = _plot()
    figure, axis = plot.plt.subplots()
    plot.curve(results, axis)
    axis.set_ylabel("KL(p||q), nats (grey: greedy merging)")
    _write(plot, figure, output)


def _draw_densities(plot, mixtures):
    figure, axis = plot.plt.subplots()
    for i, (name, g) in enumerate(mixtures.items()):
        plot.density(g, axis, color=f"C{i}", label=name, components=_has_few(g))
    axis.legend()
    return figure


def _draw_marginals(plot, mixtures):
    axes = None
    for i, (name, g) in enumerate(mixtures.items()):
        axes = plot.marginals(g, axes, color=f"C{i}", label=name, components=_has_few(g))
    figure = plot.plt.gcf()
    figure.legend(loc="upper right")
    return figure


def _has_few(g):
    return g.num_components <= MOST_OUTLINES


def _plot():
    return importlib.import_module("gmmjax.plot")


def _write(plot, figure, output):
    figure.savefig(output, dpi=120, bbox_inches="tight")
    plot.plt.close(figure)
