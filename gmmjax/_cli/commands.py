"""What the commands of `python -m gmmjax` do."""

import csv
import importlib.util
import sys
from pathlib import Path

import numpy as np

from gmmjax._algebra.condition import condition as condition_mixture
from gmmjax._cli import cache, pictures
from gmmjax._cli.comparison import NUM_SAMPLES, Effort, running, together
from gmmjax._cli.data import from_data
from gmmjax._cli.data import table as data_table
from gmmjax._cli.demo import run
from gmmjax._cli.keys import seeded
from gmmjax._cli.output import describe, finite, finite_leaves, finite_rows, print_json, print_table
from gmmjax._estimates.distances import squared_hellinger, total_variation
from gmmjax._estimates.js import js_divergence
from gmmjax._estimates.kl import jeffreys_divergence, kl_divergence
from gmmjax._evaluation.compare import LABELS, bracket, bracket_header, header, rows
from gmmjax._evaluation.pairwise import pairwise
from gmmjax._exact.l2 import cauchy_schwarz_divergence, ise
from gmmjax._mixture.files import load, save
from gmmjax._mixture.join import stack
from gmmjax._progress import bar
from gmmjax._reduction.partitions import merged
from gmmjax._reduction.reduce import reduce_mixture
from gmmjax._sampling.estimate import Estimate
from gmmjax._transport.wasserstein import mw2_squared

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
    """KL both ways and JS of two files, between bounds, and closed forms."""
    p, q = _load_all([arguments.p, arguments.q])
    key = seeded(arguments.seed)
    effort = Effort(arguments.samples, arguments.rtol)
    with running(cache.in_use(), key, p, q, effort) as wait:
        data = None
        if arguments.data:
            data = from_data(key, p, q, arguments.data, arguments.samples or NUM_SAMPLES)
        show = _show_json if arguments.json else _show_table
        show(arguments, p, q, effort, wait, data)


def _show_json(arguments, p, q, effort, wait, data):
    found = _plain(together(wait))
    tree = {"p": arguments.p, "q": arguments.q, "seed": arguments.seed}
    tree |= effort.told(p, q) | found
    if data:
        tree["data"] = {name: finite_leaves(one) for name, one in data.items()}
    print_json(tree)


def _show_table(arguments, p, q, effort, wait, data):
    """Each line as soon as its numbers are there."""
    width = max(len(arguments.p), len(arguments.q))
    print(f"p  {arguments.p:<{width}}  {describe(p)}")
    print(f"q  {arguments.q:<{width}}  {describe(q)}\n")
    print(bracket_header(), flush=True)
    for name, label in LABELS.items():
        digits = 9 if effort.is_exact(p, q) else None
        print(bracket(label, wait(name), wait(f"{name}_bounds"), digits), flush=True)
    found = together(wait)
    print(f"\n{found.closed_forms()}\n")
    if data:
        print(f"{data_table(found._asdict(), data)}\n")
    print(f"{effort.in_words(p, q)}, seed {arguments.seed}")


def _plain(found):
    """A comparison as numbers: each estimate with its bounds."""
    plain = {}
    for name in ("kl_pq", "kl_qp", "js"):
        parts = getattr(found, name)._asdict() | getattr(found, f"{name}_bounds")._asdict()
        plain[name] = {part: finite(value) for part, value in parts.items()}
    for name in ("ise", "cauchy_schwarz", "mw2_squared"):
        plain[name] = finite(getattr(found, name))
    return plain


def matrix(arguments):
    """A divergence between all pairs of some files."""
    found = _all_pairs(arguments)
    names = _names(arguments.files)
    values = np.asarray(found.value)
    if arguments.plot:
        pictures.draw_matrix(values, names, arguments.order, arguments.plot)
    if arguments.json:
        tables = {name: finite_rows(leaf) for name, leaf in found._asdict().items()}
        effort = {"seed": arguments.seed, "samples": arguments.samples}
        asked = {"files": arguments.files, "divergence": arguments.divergence}
        print_json(asked | ({} if arguments.divergence in EXACT else effort) | tables)
    elif arguments.csv:
        table = csv.writer(sys.stdout, lineterminator="\n")
        table.writerow(["", *names])
        table.writerows([name, *row] for name, row in zip(names, values.tolist(), strict=True))
    else:
        print_table(names, values)
        error = np.max(np.asarray(found.stderr))
        print(f"\n{arguments.divergence} (another one: --divergence); ", end="")
        print(f"largest standard error {error:.1e}")


def _names(files):
    """What files are called in tables: without folder and ending, unless two would be alike."""
    stems = [Path(path).stem for path in files]
    return stems if len(set(stems)) == len(stems) else files


def _all_pairs(arguments):
    """The matrix as an estimate; exact ones have no error."""
    mixtures = stack(_load_all(arguments.files))
    if arguments.divergence in EXACT:
        values = pairwise(EXACT[arguments.divergence], None, mixtures, progress=_has_bars())
        return Estimate(values, np.zeros_like(values))
    return pairwise(
        ESTIMATES[arguments.divergence],
        seeded(arguments.seed),
        mixtures,
        num_samples=arguments.samples,
        progress=_has_bars(),
    )


def reduce(arguments):
    """The nearest mixture of fewer components, or of several numbers of them with the curve."""
    p = load(arguments.p)
    counts = arguments.components
    outputs = {count: _output(arguments.output, count, len(counts)) for count in counts}
    results = {}
    try:
        for count in _with_bar(counts):
            results[count] = _reduced(arguments, p, count, outputs[count])
    except KeyboardInterrupt:
        done = f"{len(results)} of {len(counts)} reductions done"
        print(f"interrupted: {done}, of the next there is what merging gives", file=sys.stderr)
    print(f"{arguments.p}  {describe(p)}")
    if len(counts) > 1:
        _print_curve(results, outputs)
    for count, result in results.items() if len(counts) == 1 else ():
        _print_reduction(outputs[count], p, result)
    if arguments.plot and results:
        _draw_reduction(arguments, p, results, outputs)


def _reduced(arguments, p, count, output):
    """A reduction, of which the best so far is on disk at any time."""
    key = seeded(arguments.seed)
    save(output, merged(p, count))
    alone = len(arguments.components) == 1
    options = {"num_restarts": arguments.restarts, "progress": alone and _has_bars()}
    result = reduce_mixture(key, p, count, **options)
    save(output, result.gmm)
    return result


def _output(path, count, num_counts):
    """The file of one reduction: several have the number of components in their names."""
    if num_counts == 1:
        return path
    path = Path(path)
    return str(path.with_name(f"{path.stem}-{count}{path.suffix or '.npz'}"))


def _print_reduction(output, p, result):
    print(f"{output}  K = {result.gmm.num_components}")
    if result.gmm.num_components == p.num_components:
        print("\np has no more components than that: nothing was merged")
        return
    print(f"\n{header('KL(p||q)')}")
    print("\n".join(rows({"greedy": result.start, "refined": result.loss})))


def _print_curve(results, outputs):
    print(f"\n{header('KL(p||q)')}{'greedy':>14}   file")
    lines = rows({f"K = {count}": result.loss for count, result in results.items()})
    for line, (count, result) in zip(lines, results.items(), strict=True):
        print(f"{line}{float(result.start.value):>14.6g}   {outputs[count]}")
    print("\nFor n observations the first K with KL below 1/n is enough.")


def _draw_reduction(arguments, p, results, outputs):
    if len(arguments.components) > 1:
        pictures.draw_curve(results, arguments.plot)
        return
    (count,) = results
    both = {arguments.p: p, outputs[count]: results[count].gmm}
    pictures.draw_mixtures(both, arguments.plot)


def _with_bar(counts):
    several = len(counts) > 1 and _has_bars()
    return bar(counts, desc="reduce", unit="reduction", leave=False) if several else counts


def condition(arguments):
    """The other coordinates where some are known."""
    p = load(arguments.p)
    dims, values = zip(*arguments.known, strict=True)
    rest = condition_mixture(p, dims, values)
    save(arguments.output, rest)
    print(f"{arguments.p}  {describe(p)}")
    print(f"{arguments.output}  {describe(rest)}")


def plot(arguments):
    """Draw some files."""
    mixtures = _load_all(arguments.files)
    named = dict(zip(_names(arguments.files), mixtures, strict=True))
    pictures.draw_mixtures(named, arguments.output)


def _load_all(files):
    """Mixtures of several files, which must lie in one space."""
    mixtures = [load(path) for path in files]
    for path, g in zip(files, mixtures, strict=True):
        if g.dim != mixtures[0].dim:
            first = f"{files[0]} has dimension {mixtures[0].dim}"
            raise ValueError(f"{path}: has dimension {g.dim}, but {first}")
    return mixtures


def _has_bars():
    """Whether there is a terminal to show bars on, and tqdm to draw them."""
    return sys.stderr.isatty() and importlib.util.find_spec("tqdm") is not None
