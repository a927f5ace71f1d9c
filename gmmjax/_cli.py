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
    commands = parser.add_subparsers(title="commands", required=True, metavar="{demo,compare}")
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
    smallest = min(max(e["stderr"], 1e-12) for e in estimates.values())
    digits = 6 if math.isinf(smallest) else min(max(1 - math.floor(math.log10(smallest)), 2), 12)
    for label, estimate in zip(("KL(p||q)", "KL(q||p)", "JS(p, q)"), estimates.values(), strict=True):
        lines.append(f"{label:<10}{estimate['value']:>18.{digits}f}{estimate['stderr']:>12.1e}")
    return "\n".join([*lines, "", f"{arguments.samples} samples per mixture, seed {arguments.seed}"])


def _structure(g):
    from gmmjax._io import covariance_type

    shared = g.scale.shape[0] < g.num_components and g.scale.ndim <= g.means.ndim
    return covariance_type(g) + (" (tied)" if shared else "")
