"""The command line: `python -m gmmjax`."""

import argparse
import importlib
import sys
import warnings
from importlib import metadata

from gmmjax._cli.values import counts, fraction, integer, known

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
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            arguments.command(arguments)
    except OSError as error:
        return _fail(_describe(error))
    except (ValueError, ImportError) as error:
        return _fail(str(error))
    return 0


def _describe(error):
    if error.filename is None:
        return str(error)
    return f"{error.filename}: {error.strerror}"


def _fail(message):
    _tell("error", message)
    return 2


def _warn(message, *_):
    """A warning as one line, without the place in the code that gave it."""
    _tell("warning", str(message))


def _tell(kind, message):
    print(f"gmmjax: {kind}: {' '.join(message.split())}", file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise ValueError(message)


def _parser():
    parser = _Parser(
        prog="gmmjax", description="Divergences between Gaussian mixtures, with standard errors."
    )
    version = f"gmmjax {metadata.version('gmmjax')}"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_demo(commands)
    _add_compare(commands)
    _add_matrix(commands)
    _add_reduce(commands)
    _add_condition(commands)
    _add_plot(commands)
    _add_refusal(commands)
    return parser


def _add_demo(commands):
    command = commands.add_parser(
        "demo", help="a tour in half a minute: estimates, errors, and a fit; needs no files"
    )
    command.set_defaults(command=_command("demo"))


def _add_compare(commands):
    command = commands.add_parser(
        "compare", help="KL both ways and JS of two mixtures in .npz files"
    )
    _add_mixture(command)
    command.add_argument("q", metavar="q.npz", help="the mixture to compare it with")
    _add_samples(
        command, default=None, help="points, default 16384; quadrature unless given where D <= 2"
    )
    command.add_argument(
        "--rtol", type=fraction, metavar="R", help="sample until stderr is R times the value"
    )
    _add_seed(command)
    _add_json(command)
    command.add_argument(
        "--data",
        nargs=2,
        metavar=("x", "y"),
        help="the rows they were fitted to, .npy or .csv: how sure the populations are",
    )
    command.set_defaults(command=_command("compare"))


def _add_matrix(commands):
    command = commands.add_parser("matrix", help="a divergence between all pairs of several files")
    command.add_argument("files", metavar="a.npz", nargs="+", help="files of gmmjax.save")
    command.add_argument("--divergence", choices=DIVERGENCES, default="js", help="default js")
    _add_samples(command, help="default 16384")
    _add_seed(command)
    form = command.add_mutually_exclusive_group()
    _add_json(form)
    form.add_argument("--csv", action="store_true", help="print the numbers as comma-separated")
    _add_plot_option(command, "draw the matrix")
    help = "how --plot sorts rows: as the files are given (default), or similar models together"
    command.add_argument("--order", choices=("given", "cluster"), default="given", help=help)
    command.set_defaults(command=_command("matrix"))


def _add_reduce(commands):
    command = commands.add_parser(
        "reduce", help="the nearest mixture of fewer components; Ctrl-C keeps the best so far"
    )
    _add_mixture(command)
    command.add_argument(
        "--components",
        type=counts,
        required=True,
        metavar="N",
        help="how many to keep, or a range such as 2-8, for which the curve is printed",
    )
    command.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="q.npz",
        help="where to write them; of a range to q-2.npz, q-3.npz and so on",
    )
    restarts = {"type": integer(1, 1 << 16), "default": 16, "metavar": "R", "dest": "restarts"}
    command.add_argument("--restarts", help="starts and rounds of changes, default 16", **restarts)
    command.add_argument("--rounds", help=argparse.SUPPRESS, **restarts)  # the former name
    _add_seed(command)
    _add_plot_option(command, "draw both mixtures, or of a range the curve")
    command.set_defaults(command=_command("reduce"))


def _add_condition(commands):
    command = commands.add_parser("condition", help="the other coordinates where some are known")
    _add_mixture(command)
    command.add_argument(
        "known", metavar="DIM=VALUE", nargs="+", type=known, help="such as 0=1.5 2=-3"
    )
    command.add_argument(
        "-o", "--output", required=True, metavar="out.npz", help="where to write them"
    )
    command.set_defaults(command=_command("condition"))


def _add_plot(commands):
    command = commands.add_parser(
        "plot", help="draw mixtures over one another, with a legend: densities or marginals"
    )
    command.add_argument("files", metavar="a.npz", nargs="+", help="files of gmmjax.save")
    command.add_argument(
        "-o", "--output", required=True, metavar="out.png", help="the picture to write"
    )
    command.set_defaults(command=_command("plot"))


def _add_refusal(commands):
    command = commands.add_parser(
        "from-sklearn", help="how to save a scikit-learn model (pickles are refused)"
    )
    command.add_argument("model", nargs="*")
    command.set_defaults(command=_refuse)


def _add_mixture(command):
    command.add_argument(
        "p", metavar="p.npz", help="a file of gmmjax.save: weights, means, covariances"
    )


def _add_samples(command, help, default: int | None = 16_384):
    command.add_argument(
        "--samples", type=integer(1, 1 << 32), default=default, metavar="N", help=help
    )


def _add_seed(command):
    command.add_argument(
        "--seed", type=integer(0, (1 << 32) - 1), default=0, metavar="S", help="default 0"
    )


def _add_json(command):
    command.add_argument(
        "--json", action="store_true", help="print one JSON object instead of a table"
    )


def _add_plot_option(command, help):
    command.add_argument("--plot", metavar="out.png", help=f"{help}; needs matplotlib")


def _command(name):
    """A command, imported when it runs: `--help` needs no JAX."""

    def run(arguments):
        commands = importlib.import_module("gmmjax._cli.commands")
        getattr(commands, name)(arguments)

    return run


def _refuse(arguments):
    raise ValueError(
        "from-sklearn: loading a pickled model runs whatever code it holds; save the mixture from "
        "Python instead: from gmmjax import interop, save; "
        "save('model.npz', interop.from_sklearn(model))"
    )
