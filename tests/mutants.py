"""Would the tests notice? Small changes of the package, each against the tests that should fail.

Run by hand, for hours if all are asked for:

    python tests/mutants.py known               # changes that somebody thought of
    python tests/mutants.py linalg 40           # so many of the simple ones, drawn at random
    python tests/mutants.py allocation all

What survives is printed; `mutants.md` says why, or which test it became.
"""

import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
# What to change, and the tests that should notice.
PLACES = {
    "linalg": (
        "_matrices/linalg.py",
        ["matrices/test_linalg.py", "mixture/test_density.py", "sampling/test_many_components.py"],
    ),
    "scales": (
        "_matrices/scales.py",
        ["matrices/test_linalg.py", "mixture/test_density.py", "mixture/test_affine.py"],
    ),
    "allocation": (
        "_sampling/allocation.py",
        [
            "sampling/test_allocation.py",
            "sampling/test_sample.py",
            "sampling/test_many_components.py",
        ],
    ),
    "unseen": (
        "_sampling/unseen.py",
        [
            "sampling/test_unseen.py",
            "sampling/test_estimate.py",
            "estimates/test_estimates.py::test_tails_that_no_point_shows_are_known",
            "estimates/test_ranges.py",
        ],
    ),
    "spikes": ("_sampling/spikes.py", ["sampling/test_unseen.py", "estimates/test_robust.py"]),
    "log_ratios": (
        "_estimates/log_ratios.py",
        [
            "estimates/test_kl_and_js.py::test_exact_values",
            "estimates/test_kl_and_js.py::test_stick_the_landing_at_equality",
            "estimates/test_ranges.py",
            "estimates/test_kl_and_js.py::test_exact_gradients",
            "mixture/test_values.py::test_weights_near_one_keep_their_digits",
            "estimates/test_estimates.py::test_exact_values_and_calibration[entropy]",
        ],
    ),
    "as_one": ("_pairs/as_one.py", ["reduction/test_costs.py", "reduction/test_starts.py"]),
    "merge": ("_reduction/merge.py", ["reduction/test_costs.py", "reduction/test_starts.py"]),
    "approximations": ("_bounds/approximations.py", ["bounds/test_approximations.py"]),
    "bounds": ("_bounds/by_components.py", ["bounds/test_bounds.py"]),
    "cross_entropy": ("_bounds/cross_entropy.py", ["bounds/test_bounds.py"]),
    "projection": ("_bounds/projection.py", ["bounds/test_projection.py"]),
    "variational": ("_bounds/variational.py", ["bounds/test_bounds.py"]),
    "barycenter": ("_transport/barycenter.py", ["transport/test_barycenter.py"]),
    "bures": ("_transport/bures.py", ["transport/test_barycenter.py"]),
    "coupling": ("_transport/coupling.py", ["transport/test_wasserstein.py"]),
    "interpolate": ("_transport/interpolate.py", ["transport/test_interpolate.py"]),
    "match": ("_transport/match.py", ["transport/test_match.py"]),
    "polar": ("_transport/polar.py", ["transport/test_wasserstein.py"]),
    "transport": ("_transport/transport.py", ["transport/test_wasserstein.py"]),
    "wasserstein": ("_transport/wasserstein.py", ["transport/test_wasserstein.py"]),
}
# What somebody thought of: a file, what stands there, what is put there, and who should notice.
UNSEEN, SPIKES = "_sampling/unseen.py", "_sampling/spikes.py"
STOPPING = "_fitting/stopping.py"
KNOWN = [
    (UNSEEN, "LARGEST_SHARE = 4.0", "LARGEST_SHARE = 40.0", "sampling/test_unseen.py"),
    ("_sampling/points.py", "variance = 1 + 2 / dim**2", "variance = 1", "sampling/test_sample.py"),
    ("_sampling/allocation.py", "0.75 * w + 0.25", "0.95 * w + 0.05", PLACES["allocation"][1][0]),
    (
        SPIKES,
        "reach = shift.shape[-1] + 3",
        "reach = shift.shape[-1] + 1",
        "sampling/test_unseen.py",
    ),
    (SPIKES, "MIN_HITS = 32", "MIN_HITS = 2", "sampling/test_unseen.py"),
    ("_sampling/estimate.py", "ddof=1", "ddof=0", "sampling/test_estimate.py"),
    (
        "_sampling/control_variates.py",
        "jnp.clip(followed, 0.0, 1.0)",
        "followed",
        "sampling/test_control_variates.py",
    ),
    ("_evaluation/batches.py", "MARGIN = 1.3", "MARGIN = 1.0", "evaluation/test_batches.py"),
    (STOPPING, "flat = progress <= jnp", "flat = progress <= 5 * jnp", "fitting/test_stopping.py"),
    (STOPPING, "ratios <= num_moving", "ratios <= 25 * num_moving", "fitting/test_stopping.py"),
    ("_populations/fixed_point.py", "WEIGHT = 1e-8", "WEIGHT = 1e-3", "populations/test_em.py"),
]
SWAPS = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "/",
    ast.Div: "*",
    ast.Pow: "*",
    ast.BitAnd: "|",
    ast.BitOr: "&",
    # Turned round: at the very border two floating-point numbers hardly ever meet.
    ast.Lt: ">=",
    ast.LtE: ">",
    ast.Gt: "<=",
    ast.GtE: "<",
    ast.Eq: "!=",
    ast.NotEq: "==",
}
EXTREMES = {"maximum": "minimum", "minimum": "maximum", "max": "min", "min": "max"}
EXTREMES |= {"argmax": "argmin", "argmin": "argmax"}
LIMIT = 300  # seconds: a change that never ends was noticed


class Mutant(NamedTuple):
    """A part of a file by its first and last byte, and what is put there."""

    line: int
    start: int
    end: int
    text: str


class Bytes:
    """A file as bytes, and where in them the parts of its syntax tree begin and end."""

    def __init__(self, source):
        self.content = source.encode()
        self.lines = [0]
        for line in self.content.splitlines(keepends=True):
            self.lines.append(self.lines[-1] + len(line))

    def begin(self, node):
        return self.lines[node.lineno - 1] + node.col_offset

    def end(self, node):
        return self.lines[node.end_lineno - 1] + node.end_col_offset

    def between(self, left, right):
        return self.content[self.end(left) : self.begin(right)].decode()


def mutants(source):
    """Operators and comparisons turned, terms and signs dropped, numbers changed, max for min."""
    tree, file = ast.parse(source), Bytes(source)
    types = _annotations(tree)
    found = [m for node in ast.walk(tree) if node not in types for m in _of_node(node, file)]
    return sorted(found)


def _of_node(node, file):
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        changes = ("+ 1", "- 1", "* 2") if node.value else ("+ 1", "- 1")
        for change in changes:
            text = f"({node.value!r} {change})"
            yield Mutant(node.lineno, file.begin(node), file.end(node), text)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Invert):
        yield Mutant(node.lineno, file.begin(node), file.begin(node) + 1, "")
    elif isinstance(node, ast.Attribute) and node.attr in EXTREMES:
        end = file.end(node)
        yield Mutant(node.end_lineno, end - len(node.attr), end, EXTREMES[node.attr])
    for left, operator, right in _operations(node):
        start, end = file.end(left), file.begin(right)
        text = _swapped(file.between(left, right), SWAPS[type(operator)])
        yield Mutant(left.end_lineno, start, end, text)
        if isinstance(operator, ast.Add | ast.Sub):
            yield Mutant(left.end_lineno, end, file.end(right), "0")


def _operations(node):
    """Operands and operator of a node that has one to swap."""
    if isinstance(node, ast.BinOp) and type(node.op) in SWAPS:
        yield node.left, node.op, node.right
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        yield node.left, node.ops[0], node.comparators[0]


def _annotations(tree):
    """Nodes that only say types: nothing would notice them."""
    said = []
    for node in ast.walk(tree):
        said += [getattr(node, name, None) for name in ("annotation", "returns")]
    return {inner for node in said if node is not None for inner in ast.walk(node)}


def _swapped(gap, operator):
    """Brackets around an operator stay."""
    words = "".join(c if c in "()\n" else " " for c in gap)
    before = words.rfind(")") + 1
    return f"{words[:before]} {operator} {words[before:]}"


def is_noticed(file, source, tests):
    """Whether tests fail on a copy of the package in which a file has another source."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "gmmjax", Path(folder) / "gmmjax")
        (Path(folder) / "gmmjax" / file).write_text(source)
        environment = os.environ | {"PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        command = [
            sys.executable,
            "-P",
            "-m",
            "pytest",
            "-x",
            "-q",
            "-n0",
            "-p",
            "no:cacheprovider",
        ]
        command += [str(ROOT / "tests" / test) for test in tests]
        try:
            ended = subprocess.run(
                command, cwd=ROOT, env=environment, timeout=LIMIT, capture_output=True, check=False
            )
        except subprocess.TimeoutExpired:
            return True
        return ended.returncode != 0


def known():
    for file, old, new, test in KNOWN:
        source = (ROOT / "gmmjax" / file).read_text()
        assert source.count(old) == 1, (file, old)
        told = "noticed" if is_noticed(file, source.replace(old, new), [test]) else "SURVIVES"
        print(f"{told}: {file}: {old} -> {new} ({test})", flush=True)  # noqa: T201


def drawn(found, count):
    """So many of them, the same in every run; a larger count begins with those of a smaller."""
    return random.Random(0).sample(found, len(found))[:count]


def simple(place, count):
    file, tests = PLACES[place]
    source = (ROOT / "gmmjax" / file).read_text()
    if is_noticed(file, source, tests):
        sys.exit(f"{place}: its tests fail as it is")
    chosen = drawn(mutants(source), None if count == "all" else int(count))
    survivors = 0
    for mutant in chosen:
        content = source.encode()
        changed = content[: mutant.start] + mutant.text.encode() + content[mutant.end :]
        if is_noticed(file, changed.decode(), tests):
            continue
        survivors += 1
        line = changed.decode().splitlines()[mutant.line - 1].strip()
        print(f"SURVIVES: {file}:{mutant.line}: {line}", flush=True)  # noqa: T201
    print(f"{place}: {len(chosen) - survivors} of {len(chosen)} noticed")  # noqa: T201


if __name__ == "__main__":
    if sys.argv[1] == "known":
        known()
    else:
        simple(*sys.argv[1:3])
