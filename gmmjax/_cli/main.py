"""The command line: `python -m gmmjax`."""

import argparse
import importlib
import sys
from importlib import metadata

DIVERGENCES = ("js", "kl", "jeffreys", "hellinger", "tv", "mw2", "cs", "ise")


def main(argv=None) -> int:
    r"""Run one command, and report what the user got wrong in one line on stderr.

    Args:
      argv: arguments, `sys.argv[1:]` unless given.

    Returns:
      The exit code: 0, or 2 for a wrong argument, a missing or bad file, mixtures that do
        not go together, or a package that is not installed.

    Raises:
      SystemExit: after `--help` and `--version`, with code 0.

    Example:
      >>> from gmmjax._cli.main import main
      >>> main(["compare", "p.npz", "q.npz", "--samples", "0"])
      2
    """
    try:
        arguments = _parser().parse_args(argv)
        import jax

        jax.config.update("jax_enable_x64", True)
        arguments.command(arguments)
    except OSError as error:
        return _fail(
            f"{error.filename}: {error.strerror}" if error.filename is not None else str(error)
        )
    except (ValueError, ImportError) as error:
        return _fail(str(error))
    return 0


def _fail(message):
    print(f"gmmjax: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise ValueError(message)


def _parser():
    parser = _Parser(
        prog="gmmjax", description="Divergences between Gaussian mixtures, with standard errors."
    )
    parser.add_argument(
        "--version", action="version", version=f"gmmjax {metadata.version('gmmjax')}"
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo", help="a tour in half a minute: estimates, errors, and a fit; needs no files"
    )
    demo.set_defaults(command=_commands("demo"))
    compare = commands.add_parser(
        "compare", help="KL both ways and JS of two mixtures in .npz files"
    )
    compare.add_argument(
        "p", metavar="p.npz", help="a file of gmmjax.save: weights, means, covariances"
    )
    compare.add_argument("q", metavar="q.npz", help="the mixture to compare it with")
    compare.add_argument(
        "--samples",
        type=_integer(1, 1 << 32),
        default=16_384,
        metavar="N",
        help="points, default 16384",
    )
    compare.add_argument(
        "--rtol", type=_fraction, metavar="R", help="sample until stderr is R times the value"
    )
    compare.add_argument(
        "--seed", type=_integer(0, (1 << 32) - 1), default=0, metavar="S", help="default 0"
    )
    compare.add_argument(
        "--json", action="store_true", help="print one JSON object instead of a table"
    )
    compare.set_defaults(command=_commands("compare"))
    matrix = commands.add_parser("matrix", help="a divergence between all pairs of several files")
    matrix.add_argument("files", metavar="a.npz", nargs="+", help="files of gmmjax.save")
    matrix.add_argument("--divergence", choices=DIVERGENCES, default="js", help="default js")
    matrix.add_argument(
        "--samples", type=_integer(1, 1 << 32), default=16_384, metavar="N", help="default 16384"
    )
    matrix.add_argument(
        "--seed", type=_integer(0, (1 << 32) - 1), default=0, metavar="S", help="default 0"
    )
    matrix.add_argument(
        "--json", action="store_true", help="print one JSON object instead of a table"
    )
    matrix.set_defaults(command=_commands("matrix"))
    reduce = commands.add_parser(
        "reduce", help="the nearest mixture of fewer components; Ctrl-C keeps the best so far"
    )
    reduce.add_argument(
        "p", metavar="p.npz", help="a file of gmmjax.save: weights, means, covariances"
    )
    reduce.add_argument(
        "--components",
        type=_integer(1, 1 << 16),
        required=True,
        metavar="N",
        help="how many to keep",
    )
    reduce.add_argument(
        "-o", "--output", required=True, metavar="q.npz", help="where to write them"
    )
    reduce.add_argument(
        "--rounds", type=_integer(1, 1 << 16), default=4, metavar="R", help="searches, default 4"
    )
    reduce.add_argument(
        "--seed", type=_integer(0, (1 << 32) - 1), default=0, metavar="S", help="default 0"
    )
    reduce.add_argument("--plot", metavar="out.png", help="draw both, needs matplotlib")
    reduce.set_defaults(command=_commands("reduce"))
    plot = commands.add_parser(
        "plot", help="draw mixtures of one or two dimensions, or the marginals of one"
    )
    plot.add_argument("files", metavar="a.npz", nargs="+", help="files of gmmjax.save")
    plot.add_argument(
        "-o", "--output", required=True, metavar="out.png", help="the picture to write"
    )
    plot.set_defaults(command=_commands("plot"))
    refused = commands.add_parser(
        "from-sklearn", help="how to save a scikit-learn model (pickles are refused)"
    )
    refused.add_argument("model", nargs="*")
    refused.set_defaults(command=_refuse)
    return parser


def _integer(low, high):
    def parse(text):
        if not text.isascii() or not text.isdigit() or not low <= int(text[:20]) <= high:
            raise argparse.ArgumentTypeError(
                f"expected an integer from {low} to {high}, got {text!r}"
            )
        return int(text)

    return parse


def _fraction(text):
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, got {text!r}")
    return value


def _commands(name):
    """A command, imported when it runs: `--help` needs no JAX."""
    return lambda arguments: getattr(importlib.import_module("gmmjax._cli.commands"), name)(
        arguments
    )


def _refuse(arguments):
    raise ValueError(
        "from-sklearn: loading a pickled model runs whatever code it holds; save the mixture from Python instead: "
        "from gmmjax import interop, save; save('model.npz', interop.from_sklearn(model))"
    )
