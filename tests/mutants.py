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
        "_mixture/linalg.py",
        ["mixture/test_linalg.py", "mixture/test_density.py"],
    ),
    "allocation": (
        "_sampling/allocation.py",
        ["sampling/test_allocation.py", "sampling/test_sample.py"],
    ),
    "unseen": ("_sampling/unseen.py", ["sampling/test_unseen.py", "sampling/test_estimate.py"]),
    "log_ratios": ("_estimates/log_ratios.py", ["estimates/test_kl_and_js.py"]),
    "bounds": ("_bounds/bounds.py", ["bounds/test_bounds.py"]),
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
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
}
LIMIT = 300  # seconds: a change that never ends was noticed


class Mutant(NamedTuple):
    """A part of a file by its first and last place, and what is put there."""

    line: int
    start: int
    end: int
    text: str


def mutants(source):
    """One for each operator, comparison and number, docstrings aside."""
    offsets = [0]
    for line in source.encode().splitlines(keepends=True):
        offsets.append(offsets[-1] + len(line))

    def at(line, column):
        return offsets[line - 1] + column

    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.BinOp) and type(node.op) in SWAPS:
            between = node.left, node.right, SWAPS[type(node.op)]
        elif isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
            between = node.left, node.comparators[0], SWAPS[type(node.ops[0])]
        elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
            start, end = at(node.lineno, node.col_offset), at(node.end_lineno, node.end_col_offset)
            found.append(Mutant(node.lineno, start, end, f"({node.value!r} + 1)"))
            continue
        else:
            continue
        left, right, operator = between
        start, end = at(left.end_lineno, left.end_col_offset), at(right.lineno, right.col_offset)
        gap = source.encode()[start:end].decode()
        found.append(Mutant(left.end_lineno, start, end, _swapped(gap, operator)))
    return sorted(found)


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


def simple(place, count):
    file, tests = PLACES[place]
    source = (ROOT / "gmmjax" / file).read_text()
    if is_noticed(file, source, tests):
        sys.exit(f"{place}: its tests fail as it is")
    chosen = mutants(source)
    if count != "all":
        chosen = random.Random(0).sample(chosen, min(int(count), len(chosen)))
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
