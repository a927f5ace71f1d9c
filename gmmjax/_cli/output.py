"""What commands print: JSON without infinities, a mixture in a line, and a table."""

import json
import math

import numpy as np

from gmmjax._mixture.files import covariance_type
from gmmjax._mixture.structure import is_full, is_tied


def finite_leaves(found):
    return {name: finite(leaf) for name, leaf in found._asdict().items()}


def finite_rows(table):
    return [[finite(x) for x in row] for row in np.asarray(table)]


def finite(x):
    return float(x) if math.isfinite(x) else None  # JSON has no infinity


def describe(g):
    tied = is_tied(g) and not is_full(g)
    kind = covariance_type(g) + (" (tied)" if tied else "")
    return f"K = {g.num_components}  D = {g.dim}  {kind}"


def print_json(tree):
    print(json.dumps(tree, allow_nan=False))


def print_table(names, values):
    """A table with names at its rows and columns."""
    form = _form(values)
    cells = [[format(value, form) for value in row] for row in values]
    widths = [max(map(len, column)) + 2 for column in zip(names, *cells, strict=True)]
    first = max(map(len, names))
    for name, row in zip(["", *names], [names, *cells], strict=True):
        line = "".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
        print(f"{name:<{first}}{line}")


def _form(values):
    """Decimals for five digits of the largest, unless the least of two files would have none."""
    apart = np.abs(values[~np.eye(len(values), dtype=bool)])
    apart = apart[np.isfinite(apart) & (apart > 0)]
    least, largest = np.min(apart, initial=np.inf), np.max(apart, initial=0.0)
    if least < 1e-4 * largest:
        return "#.5g"
    decimals = 4 - math.floor(math.log10(largest)) if largest > 0 else 4
    return f".{min(max(decimals, 2), 12)}f"
