"""The command line: `python -m gmmjax`."""

import argparse
import json
import math
import sys
from importlib import metadata


def main(argv=None) -> int:
    r"""Run one command, and report what the user got wrong in one line on stderr.

    Args:
      argv: arguments, `sys.argv[1:]` unless given.

    Returns:
      The exit code: 0, or 2 for a wrong argument, a missing or bad file, or mixtures that do not go together.

    Raises:
      SystemExit: after `--help` and `--version`, with code 0.

    Example:
      >>> from gmmjax._cli import main
      >>> main(["compare", "p.npz", "q.npz", "--samples", "0"])
      2
    """
    try:
        arguments = _parser().parse_args(argv)
        import jax

        jax.config.update("jax_enable_x64", True)
        arguments.command(arguments)
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename is not None else str(error))
    except ValueError as error:
        return _fail(str(error))
    return 0


def _fail(message):
    print(f"gmmjax: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise ValueError(message)


def _parser():
    parser = _Parser(prog="gmmjax", description="Divergences between Gaussian mixtures, with standard errors.")
    parser.add_argument("--version", action="version", version=f"gmmjax {metadata.version('gmmjax')}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="{demo,compare,reduce}")
    demo = commands.add_parser("demo", help="a tour in half a minute: estimates, errors, and a fit; needs no files")
    demo.set_defaults(command=_demo)
    compare = commands.add_parser("compare", help="KL both ways and JS of two mixtures in .npz files")
    compare.add_argument("p", metavar="p.npz", help="a file of gmmjax.save: weights, means, covariances")
    compare.add_argument("q", metavar="q.npz", help="the mixture to compare it with")
    compare.add_argument(
        "--samples", type=_integer(1, 1 << 32), default=16_384, metavar="N", help="points, default 16384"
    )
    compare.add_argument("--seed", type=_integer(0, (1 << 32) - 1), default=0, metavar="S", help="default 0")
    compare.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    compare.set_defaults(command=_compare)
    reduce = commands.add_parser("reduce", help="the nearest mixture of fewer components; Ctrl-C keeps the best so far")
    reduce.add_argument("p", metavar="p.npz", help="a file of gmmjax.save: weights, means, covariances")
    reduce.add_argument("--components", type=_integer(1, 1 << 16), required=True, metavar="N", help="how many to keep")
    reduce.add_argument("-o", "--output", required=True, metavar="q.npz", help="where to write them")
    reduce.add_argument("--rounds", type=_integer(1, 1 << 16), default=4, metavar="R", help="searches, default 4")
    reduce.add_argument("--seed", type=_integer(0, (1 << 32) - 1), default=0, metavar="S", help="default 0")
    reduce.set_defaults(command=_reduce)
    return parser


def _integer(low, high):
    def parse(text):
        if not text.isascii() or not text.isdigit() or not low <= int(text[:20]) <= high:
            raise argparse.ArgumentTypeError(f"expected an integer from {low} to {high}, got {text!r}")
        return int(text)

    return parse


def _demo(arguments):
    from gmmjax import _demo

    _demo.run()


def _compare(arguments):
    import jax

    from gmmjax._divergences import kl_divergence
    from gmmjax._io import load
    from gmmjax._js import js_divergence

    p, q = load(arguments.p), load(arguments.q)
    keys = jax.random.split(jax.random.key(arguments.seed), 3)
    estimates = {
        "kl_pq": kl_divergence(keys[0], p, q, num_samples=arguments.samples),
        "kl_qp": kl_divergence(keys[1], q, p, num_samples=arguments.samples),
        "js": js_divergence(keys[2], p, q, num_samples=arguments.samples),
    }
    estimates = {name: {"value": float(e.value), "stderr": float(e.stderr)} for name, e in estimates.items()}
    print(_as_json(estimates) if arguments.json else _as_table(arguments, p, q, estimates))


def _reduce(arguments):
    import jax

    from gmmjax._divergences import kl_divergence
    from gmmjax._io import load, save
    from gmmjax._reduce import reduce_mixture
    from gmmjax._starts import greedy_start

    p = load(arguments.p)
    keys = jax.random.split(jax.random.key(arguments.seed), arguments.rounds + 1)
    measure = lambda q: kl_divergence(keys[-1], p, q)
    greedy = greedy_start(keys[-1], p, arguments.components)
    before = after = measure(greedy)
    save(arguments.output, greedy)
    done = 0
    # Each round is a search of its own; the best is on disk at any time.
    try:
        for key in _watched(keys[:-1]):
            found = reduce_mixture(key, p, arguments.components).gmm  # type: ignore
            if (loss := measure(found)).value < after.value:
                after = loss
                save(arguments.output, found)
            done += 1
    except KeyboardInterrupt:
        print(f"interrupted: {done} of {arguments.rounds} searches done, the best is kept", file=sys.stderr)
    rows = {"greedy": before, "refined": after}
    estimates = {name: {"value": float(e.value), "stderr": float(e.stderr)} for name, e in rows.items()}
    print(f"{arguments.p}  K = {p.num_components}  D = {p.dim}  {_structure(p)}")
    print(f"{arguments.output}  K = {load(arguments.output).num_components}\n")
    print("\n".join(["KL(p||q)".ljust(10) + f"{'nats':>18}{'stderr':>12}", *_rows(estimates)]))


def _watched(rounds):
    """With a bar on a terminal, if tqdm is there."""
    try:
        from tqdm import tqdm
    except ImportError:
        return rounds
    return tqdm(rounds, desc="reduce", unit="search", disable=None, leave=False)


def _as_json(estimates):
    finite = lambda x: x if math.isfinite(x) else None  # JSON has no infinity
    return json.dumps({name: {k: finite(v) for k, v in e.items()} for name, e in estimates.items()}, allow_nan=False)


def _as_table(arguments, p, q, estimates):
    width = max(len(arguments.p), len(arguments.q))
    lines = [
        f"{name}  {path:<{width}}  K = {g.num_components}  D = {g.dim}  {_structure(g)}"
        for name, path, g in (("p", arguments.p, p), ("q", arguments.q, q))
    ]
    lines += ["", f"{'':<10}{'nats':>18}{'stderr':>12}"]
    lines += _rows(dict(zip(("KL(p||q)", "KL(q||p)", "JS(p, q)"), estimates.values(), strict=True)))
    return "\n".join([*lines, "", f"{arguments.samples} samples per mixture, seed {arguments.seed}"])


def _rows(estimates):
    """One line per estimate, all with as many digits as the best of them has."""
    smallest = min(max(e["stderr"], 1e-12) for e in estimates.values())
    digits = 6 if math.isinf(smallest) else min(max(1 - math.floor(math.log10(smallest)), 2), 12)
    return [f"{label:<10}{e['value']:>18.{digits}f}{e['stderr']:>12.1e}" for label, e in estimates.items()]


def _structure(g):
    from gmmjax._io import covariance_type

    shared = g.scale.shape[0] < g.num_components and g.scale.ndim <= g.means.ndim
    return covariance_type(g) + (" (tied)" if shared else "")
