"""What commands print: JSON without infinities, and a mixture in a line."""

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
