"""Damaged files, models and command lines: nothing but the errors that the documentation names.

Run by hand, for minutes: `python tests/fuzz.py load 100000` (or `models`, `words`, `rows`, and a
seed). What it found is among the small files and words of `mixture/test_damaged.py`, and the rows
of `populations/test_em.py`.
"""

import collections
import contextlib
import io
import resource
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from unittest import mock

import jax
import numpy as np

import gmmjax
from gmmjax._cli import main as command_line
from gmmjax._populations import em

SECONDS, BYTES = 1.0, 1 << 30  # at most, for one input
WORDS = (
    "demo compare matrix reduce condition plot from-sklearn p.npz q.npz --samples --rtol --seed "
    "--json --csv --plot --data --divergence js tv --components 2-8 3 -o --output --restarts "
    "--on 0=1.5 --help --version -- - 1e999 nan -1 0 99999999999999999999 ² \x00 é =  --s --json=1"
).split(" ")
KINDS = ("full", "tied", "diag", "spherical", "round", None, 3, b"full", np.ones(2))
DTYPES = ("f8", "f4", "f2", "i8", "u1", "?", "c16", "U3", "S2", "M8[s]", "m8[s]", "O", "V0", "V8")


def arrays(rng):
    """The arrays of a mixture, most often with something wrong about them."""
    count, dim = rng.integers(1, 4, size=2)
    shapes = [(count, dim, dim), (dim, dim), (count, dim), (count,), (1, dim), (1,), (), (0,)]
    found = {
        "weights": rng.dirichlet(np.ones(count)),
        "means": rng.normal(size=(count, dim)),
        "covariances": np.abs(rng.normal(size=shapes[rng.integers(len(shapes))])),
        "covariance_type": KINDS[rng.integers(len(KINDS))],
    }
    shape = found["covariances"].shape
    if len(shape) > 1 and shape[-1] == shape[-2] and rng.random() < 0.5:
        found["covariances"] = found["covariances"] + 3 * np.eye(found["covariances"].shape[-1])
    for name in list(found):
        if rng.random() < 0.15:
            found[name] = odd(rng, np.asarray(found[name]))
        if rng.random() < 0.03 or found[name] is None:
            del found[name]
    return found


def odd(rng, value):
    """Another dtype, another shape, or an entry that is no number of a mixture."""
    choice = rng.integers(4)
    with (
        contextlib.suppress(ValueError, TypeError, RuntimeError, OverflowError),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        if choice == 0:
            return value.astype(DTYPES[rng.integers(len(DTYPES))])
        if choice == 1:
            return rng.permutation(np.ravel(value))[: rng.integers(0, value.size + 1)]
        if choice == 2:
            return value[None]
        value = value.astype("f8")
        bad = [np.nan, np.inf, -1.0, 0.0, 1e308, -1e308, 5e-324, 1e-160]
        value.ravel()[rng.integers(max(value.size, 1)) :][:1] = bad[rng.integers(len(bad))]
    return value


def damaged(rng):
    """The bytes of a file: odd arrays, flipped bits, cut ends, repeated parts, false sizes."""
    buffer = io.BytesIO()
    write = np.savez if rng.random() < 0.5 else np.savez_compressed
    write(buffer, **arrays(rng))
    content = bytearray(buffer.getvalue())
    if rng.random() < 0.1:
        content = bytearray(bomb(rng))
    for _ in range(rng.integers(0, 4)):
        at = int(rng.integers(len(content)))
        choice = rng.integers(4)
        if choice == 0:
            content[at] ^= 1 << int(rng.integers(8))
        elif choice == 1:
            del content[at : at + int(rng.integers(1, 60))]
        elif choice == 2:
            content[at:at] = content[at : at + int(rng.integers(1, 60))]
        else:
            content[at : at + 4] = rng.bytes(4)
        if not content:
            break
    return bytes(content)


def bomb(rng):
    """A small file of large arrays, or with a header that claims them."""
    buffer = io.BytesIO()
    size = 10 ** int(rng.integers(3, 13))
    shape = [(size,), (size, 2), (1, int(size**0.5), int(size**0.5)), (size, 0)][rng.integers(4)]
    kind = DTYPES[rng.integers(len(DTYPES))]
    header = f"{{'descr': '<{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("weights", "means", "covariances"):
            padded = header.ljust(117).encode() + b"\n"
            start = b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded
            archive.writestr(f"{name}.npy", start + bytes(int(rng.integers(1 << 16))))
    return buffer.getvalue()


def try_load(rng, folder):
    content = damaged(rng)
    path = folder / "g.npz"
    path.write_bytes(content)
    try:
        gmmjax.load(path)
    except ValueError as error:
        if not str(error).startswith(f"{path}: "):
            raise AssertionError("does not name the file") from error
    return content


def try_models(rng, folder):
    """Objects of scikit-learn's kind, whose attributes are those of no fit."""
    given = arrays(rng)
    model = type("GaussianMixture", (), {"__module__": "sklearn.mixture"})()
    for name, value in given.items():
        setattr(model, name if name == "covariance_type" else f"{name}_", value)
    with contextlib.suppress(ValueError, TypeError):
        gmmjax.interop.as_gmm(model)
    return given


def try_words(rng, folder):
    """Words of a command line that are read, while no command is run."""
    words = [WORDS[i] for i in rng.integers(len(WORDS), size=rng.integers(0, 7))]
    words = [w if rng.random() < 0.9 else w[: rng.integers(len(w) + 1)] + "7" for w in words]
    silent = io.StringIO()
    with (
        mock.patch.object(command_line.importlib, "import_module", mock.MagicMock()),
        contextlib.redirect_stderr(silent),
        contextlib.redirect_stdout(silent),
    ):
        try:
            code = command_line.main(words)
        except SystemExit as ending:
            code = ending.code
    if code not in (0, 2):
        raise AssertionError(f"ended with {code}")
    return words


class Table:
    """What a data frame looks like: something that NumPy can make an array of."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)


def masked(rng, x):
    return np.ma.masked_array(x, rng.random(np.shape(x)) < rng.choice([0, 0.1, 0.9]))


def ragged(rng, x):
    rows = np.asarray(x).tolist()
    return rows[:-1] + [[0.0]] if isinstance(rows, list) else rows


def objects(rng, x):
    values = np.array(x, dtype=object)
    strange = [None, "a", True, 1j, 10**400, Fraction(1, 3), Decimal("nan"), np.float32(2), [1.0]]
    if values.size:
        values.ravel()[rng.integers(values.size)] = strange[rng.integers(len(strange))]
    return values


def huge(rng, x):
    """Three million rows, which take no memory before somebody copies them."""
    columns = [(), (2,), (3,)][rng.integers(3)]
    return np.broadcast_to(np.int8(1), (3 * 10**6, *columns))


def units(rng, x):
    """Numbers at the ends of their range, or far from 0."""
    factors, origins = [1e-320, 1e-160, 1e-45, 1e30, 1e160, 1e300], [0, 0, 1, 1e8, 1e300]
    with np.errstate(all="ignore"):
        return x * rng.choice(factors) + rng.choice(origins)


NOTHING = [None, {}, "x.csv", b"x", 3, ..., set(), object(), [[]], iter([1])]
CONTAINERS = [
    lambda rng, x: odd(rng, np.asarray(x, "f8")),
    lambda rng, x: odd(rng, odd(rng, np.asarray(x, "f8"))),
    lambda rng, x: Table(odd(rng, np.asarray(x, "f8"))),
    lambda rng, x: np.asarray(x).tolist(),
    lambda rng, x: jax.numpy.asarray(np.asarray(x, "f4")),
    lambda rng, x: np.asarray(x)[..., :0],
    lambda rng, x: [None, {}, "x.csv", b"x", 3, ..., set(), object(), [[]], iter([1])][
        rng.integers(10)
    ],
    lambda rng, x: x,
    masked,
    ragged,
    objects,
    units,
]
SHAPE = 12, 2  # rows of this shape are fitted; to compile for each other shape would take days


def starts(rng):
    """A start of two components in the plane, mostly a usable one."""
    scale = [np.ones(2), np.ones((2, 2)), np.stack([np.eye(2)] * 2), np.ones(1)][rng.integers(4)]
    leaves = [np.zeros(2), rng.normal(size=(2, 2)), scale]
    if rng.random() < 0.1:
        i = rng.integers(3)
        leaves[i] = odd(rng, leaves[i])
    with np.errstate(over="ignore"):
        leaves = [leaf.astype("f4") if leaf.dtype == "f8" else leaf for leaf in leaves]
    return gmmjax.GMM(*leaves)


def fitted(x, init, weights, tol, num_steps):
    """EM itself, where it is compiled for that shape."""
    if x.shape != SHAPE or init.num_components != 2:
        raise Checked
    return FIT(x, init, weights, tol, num_steps)


FIT = em._em


class Checked(Exception):
    """What was given passed all checks."""


def try_rows(rng, folder):
    """A table of rows, the weights of its rows, and how long to go on."""
    x = rng.normal(size=SHAPE).astype(["f8", "f4"][rng.integers(2)])
    x = CONTAINERS[rng.integers(len(CONTAINERS))](rng, x)
    weights = None
    if rng.random() < 0.5:
        weights = rng.integers(0, 3, size=SHAPE[0]) * rng.choice([1.0, 1e-320, 1e307])
        with np.errstate(over="ignore"):
            weights = CONTAINERS[rng.integers(len(CONTAINERS))](rng, weights)
    if rng.random() < 1e-3:
        x = huge(rng, rng.normal(size=SHAPE))
    options = {}
    if rng.random() < 0.1:
        options["tol"] = [0, np.inf, np.nan, -1, "a", None, [0.1], np.ones(2), 1j][rng.integers(9)]
    if rng.random() < 0.1:
        options["num_steps"] = [0, -1, 2.0, "3", None, True, np.int8(5), 10**20][rng.integers(8)]
    with mock.patch.object(em, "_em", fitted):
        try:
            found = gmmjax.em(x, starts(rng), weights=weights, **{"num_steps": 5, **options})
            values = jax.device_get((found.gmm, found.loss.value))
            if any(np.isnan(leaf).any() for leaf in jax.tree.leaves(values)):
                raise AssertionError(f"NaN from {x}, {weights}")
        except Checked:
            pass
        except (ValueError, TypeError) as error:
            names = ("x: ", "weights: ", "init: ", "init.", "tol: ", "num_steps: ")
            if not str(error).startswith(names):
                raise


ATTEMPTS = {"load": try_load, "models": try_models, "words": try_words, "rows": try_rows}


DOCUMENTED_WARNINGS = (
    "covariances:",
    "means:",
    "x: rounding",
    "em: components .* have shrunk",
    "init.scale: expected lower Cholesky factors",
)


def fuzz(name, times, seed=0):
    """So many inputs; what was raised beside the documented errors, by the place that raised it."""
    found, slowest, compiling = collections.Counter(), 0.0, []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compiling.append(seconds if "compile" in event else 0.0)
    )
    with tempfile.TemporaryDirectory() as folder:
        for i in range(times):
            rng = np.random.default_rng([seed, i])
            compiling.clear()
            began = time.perf_counter()
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    for words in DOCUMENTED_WARNINGS:
                        warnings.filterwarnings("ignore", category=UserWarning, message=words)
                    ATTEMPTS[name](rng, Path(folder))
            except Exception as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                place = f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}"
                found[place] += 1
                if found[place] == 1:
                    print(f"input {i}: {place}: {str(error)[:300]}")  # noqa: T201
            took = time.perf_counter() - began - sum(compiling)  # once for each shape
            slowest = max(slowest, took if i else 0.0)  # the first imports
            if took > SECONDS and i:
                print(f"input {i}: {took:.1f} s")  # noqa: T201
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"{name}: {times:,} inputs, slowest {slowest:.2f} s, {most / 1e6:.0f} MB")  # noqa: T201
    return found, most < BYTES


if __name__ == "__main__":
    errors, fits = fuzz(sys.argv[1], int(sys.argv[2]), *map(int, sys.argv[3:]))
    print(dict(errors))  # noqa: T201
    sys.exit(bool(errors) or not fits)
