"""What the commands of `python -m gmmjax` do."""

import importlib.util
import json
import math
import sys

import jax
import numpy as np

from gmmjax._cli.data import from_data
from gmmjax._cli.data import table as data_table
from gmmjax._cli.demo import run
from gmmjax._estimates.distances import squared_hellinger, total_variation
from gmmjax._estimates.js import js_divergence
from gmmjax._estimates.kl import jeffreys_divergence, kl_divergence
from gmmjax._evaluation.compare import compare as compare_mixtures
from gmmjax._evaluation.compare import estimates, header, rows
from gmmjax._evaluation.pairwise import pairwise
from gmmjax._exact.l2 import cauchy_schwarz_divergence, ise
from gmmjax._exact.wasserstein import mw2_squared
from gmmjax._mixture.build import stack
from gmmjax._mixture.files import covariance_type, load, save
from gmmjax._progress import bar
from gmmjax._reduction.reduce import reduce_mixture
from gmmjax._reduction.starts import greedy_start
from gmmjax._sampling.estimate import Estimate

ESTIMATES = {
    "js": js_divergence,
    "kl": kl_divergence,
    "jeffreys": jeffreys_divergence,
    "hellinger": squared_hellinger,
    "tv": total_variation,
}
EXACT = {"mw2": mw2_squared, "cs": cauchy_schwarz_divergence, "ise": ise}


def demo(_):
    """A tour."""
    run()


def compare(arguments):
    """KL both ways and JS of two files."""
    p, q = load(arguments.p), load(arguments.q)
    key = jax.random.key(arguments.seed)
    data = arguments.data and from_data(key, p, q, arguments.data, arguments.samples)
    if arguments.json:
        found = estimates(key, p, q, arguments.samples, arguments.rtol)
        tree = {name: _plain(estimate()) for name, estimate in found.items()}
        of_data = {name: _finite_leaves(found) for name, found in (data or {}).items()}
        _print_json({**tree, "data": of_data} if data else tree)
        return
    table = compare_mixtures(
        key, p, q, num_samples=arguments.samples, rtol=arguments.rtol, progress=_has_bars()
    )
    width = max(len(arguments.p), len(arguments.q))
    print(f"p  {arguments.p:<{width}}  {_describe(p)}")
    print(f"q  {arguments.q:<{width}}  {_describe(q)}")
    print(f"\n{table}\n")
    if data:
        print(f"{data_table(table._asdict(), data)}\n")
    print(f"{_effort(arguments)}, seed {arguments.seed}")


def _effort(arguments):
    if arguments.rtol is None:
        return f"{arguments.samples} samples per mixture"
    return f"relative stderr {arguments.rtol:g}"


def matrix(arguments):
    """A divergence between all pairs of some files."""
    found = _all_pairs(arguments)
    if arguments.json:
        tables = {name: _rows(leaf) for name, leaf in found._asdict().items()}
        _print_json({"files": arguments.files, "divergence": arguments.divergence, **tables})
        return
    labels = [f"{i + 1}" for i in range(len(arguments.files))]
    for label, path in zip(labels, arguments.files, strict=True):
        print(f"{label:>4}  {path}")
    print("\n" + " " * 4 + "".join(f"{label:>12}" for label in labels))
    for label, row in zip(labels, np.asarray(found.value), strict=True):
        print(f"{label:>4}" + "".join(f"{x:>12.6g}" for x in row))
    error = np.max(np.asarray(found.stderr))
    print(f"\n{arguments.divergence} (another one: --divergence); ", end="")
    print(f"largest standard error {error:.1e}")


def _all_pairs(arguments):
    """The matrix as an estimate; exact ones have no error."""
    mixtures = stack([load(path) for path in arguments.files])
    if arguments.divergence in EXACT:
        values = pairwise(EXACT[arguments.divergence], None, mixtures, progress=_has_bars())
        return Estimate(values, np.zeros_like(values))
    return pairwise(
        ESTIMATES[arguments.divergence],
        jax.random.key(arguments.seed),
        mixtures,
        num_samples=arguments.samples,
        progress=_has_bars(),
    )


def reduce(arguments):
    """The nearest mixture of fewer components."""
    p = load(arguments.p)
    *searches, last = jax.random.split(jax.random.key(arguments.seed), arguments.rounds + 1)
    best = greedy_start(last, p, arguments.components)
    before = after = kl_divergence(last, p, best)
    save(arguments.output, best)
    done = 0
    # Each round is a search of its own; the best is on disk at any time.
    try:
        for key in _with_bar(searches):
            found = reduce_mixture(key, p, arguments.components).gmm
            loss = kl_divergence(last, p, found)
            if loss.value < after.value:
                best, after = found, loss
                save(arguments.output, found)
            done += 1
    except KeyboardInterrupt:
        rounds = f"{done} of {arguments.rounds} searches done"
        print(f"interrupted: {rounds}, the best is kept", file=sys.stderr)
    print(f"{arguments.p}  {_describe(p)}")
    print(f"{arguments.output}  K = {best.num_components}\n")
    print(header("KL(p||q)"))
    for row in rows({"greedy": before, "refined": after}):
        print(row)
    if arguments.plot:
        _draw([p, best], [arguments.p, arguments.output], arguments.plot)


def _with_bar(searches):
    return bar(searches, desc="reduce", unit="search", leave=False) if _has_bars() else searches


def plot(arguments):
    """Draw some files."""
    _draw([load(path) for path in arguments.files], arguments.files, arguments.output)


def _draw(mixtures, labels, output):
    from gmmjax import plot

    if mixtures[0].dim > 2:  # the last one alone: what a reduction has found
        axes = plot.marginals(mixtures[-1])
        figure = np.ravel(axes)[0].get_figure(root=True)
        figure.suptitle(labels[-1])
    else:
        figure, axis = plot.plt.subplots()
        for i, (g, label) in enumerate(zip(mixtures, labels, strict=True)):
            plot.density(g, axis, color=f"C{i}", label=label)
        axis.legend()
    figure.savefig(output, dpi=120, bbox_inches="tight")
    plot.plt.close(figure)


def _has_bars():
    """Whether there is a terminal to show bars on, and tqdm to draw them."""
    return sys.stderr.isatty() and importlib.util.find_spec("tqdm") is not None


def _print_json(tree):
    print(json.dumps(tree, allow_nan=False))


def _plain(estimate):
    return {"value": _finite(estimate.value), "stderr": _finite(estimate.stderr)}


def _finite_leaves(found):
    return {name: _finite(leaf) for name, leaf in found._asdict().items()}


def _rows(table):
    return [[_finite(x) for x in row] for row in np.asarray(table)]


def _finite(x):
    return float(x) if math.isfinite(x) else None  # JSON has no infinity


def _describe(g):
    tied = g.scale.shape[0] < g.num_components and g.scale.ndim <= g.means.ndim
    kind = covariance_type(g) + (" (tied)" if tied else "")
    return f"K = {g.num_components}  D = {g.dim}  {kind}"
