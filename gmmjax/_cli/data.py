"""Rows of data in files, and what they say of the divergences of their populations."""

import csv
import functools
from pathlib import Path

import numpy as np

from gmmjax._estimates.js import js_divergence
from gmmjax._estimates.kl import kl_divergence
from gmmjax._evaluation.compare import LABELS
from gmmjax._mixture.gmm import GMM
from gmmjax._populations.bootstrap import bootstrap_all
from gmmjax._populations.interval import DataEstimate
from gmmjax._populations.rows import check_rows
from gmmjax._properties import divergence
from gmmjax._sampling.estimate import Estimate


@divergence(zero_at_equality=True)
def _backward(key, p, q, **options):
    return kl_divergence(key, q, p, **options)


def read_rows(path: str) -> np.ndarray:
    """Rows `(N, D)` of a .npy or .csv file; what is wrong with one is said with row and column."""
    readers = {".npy": _read_npy, ".csv": _read_csv}
    suffix = Path(path).suffix.lower()
    if suffix not in readers:
        raise ValueError(f"{path}: expected a .npy or .csv file, got {suffix or 'no ending'}")
    return readers[suffix](path)


def _read_npy(path):
    try:
        return np.load(path, allow_pickle=False)
    except ValueError as error:
        raise ValueError(f"{path}: is no array of numbers ({error})") from None


def _read_csv(path):
    """Numbers between commas, below a header where no cell of the first row is a number."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        lines = [(reader.line_num, cells) for cells in reader if cells]
    if lines and not any(_is_number(cell) for cell in lines[0][1]):
        lines = lines[1:]
    if not lines:
        raise ValueError(f"{path}: has no rows of numbers")
    width = len(lines[0][1])
    return np.array([_numbers(path, row, cells, width) for row, cells in lines])


def _numbers(path, row, cells, width):
    if len(cells) != width:
        raise ValueError(f"{path}: row {row} has {len(cells)} columns, the first has {width}")
    for column, cell in enumerate(cells, start=1):
        if not _is_number(cell):
            raise ValueError(
                f"{path}: row {row}, column {column}: expected a number, got {cell!r}; "
                "numbers stand between commas, with decimal points"
            )
    return [float(cell) for cell in cells]


def _is_number(cell):
    try:
        float(cell)
    except ValueError:
        return False
    return True


def from_data(key, p: GMM, q: GMM, paths: list[str], num_samples: int) -> dict[str, DataEstimate]:
    """KL both ways and JS of the populations whose rows stand in two files."""
    x, y = (check_rows(path, read_rows(path), g) for path, g in zip(paths, (p, q), strict=True))
    functions = {"kl_pq": kl_divergence, "kl_qp": _backward, "js": js_divergence}
    bound = [functools.partial(f, num_samples=num_samples) for f in functions.values()]
    found = bootstrap_all(bound, key, p, x, q, y)
    return dict(zip(functions, found, strict=True))


def table(integrals: dict[str, Estimate], found: dict[str, DataEstimate]) -> str:
    """The divergences of the populations, with the errors of the integral and from the data."""
    heads = ("population", "integral", "from the data", "95 % interval")
    lines = [f"{'':<10}{heads[0]:>18}{heads[1]:>12}{heads[2]:>16}{heads[3]:>24}"]
    for name, label in LABELS.items():
        value, stderr, _, lower, upper = found[name]
        interval = f"{lower:.4g} to {upper:.4g}"
        error = integrals[name].stderr
        lines.append(f"{label:<10}{value:>18.4g}{error:>12.1e}{stderr:>16.1e}{interval:>24}")
    return "\n".join(lines)
