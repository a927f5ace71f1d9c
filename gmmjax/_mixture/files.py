"""Mixtures on disk: one .npz file in scikit-learn's words and shapes."""

import os
import secrets

import numpy as np

from gmmjax._mixture import values
from gmmjax._mixture.build import build, from_covariances
from gmmjax._mixture.gmm import GMM, as_float, as_real
from gmmjax._mixture.structure import is_full, is_tied
from gmmjax._validate import warn

_ARRAYS = ("weights", "means", "covariances")
MOST_NAMES = 12  # of a foreign file, in a message
# What a file may unfold to: so many bytes, or so many times its own. More is no mixture, but a
# small file that fills the memory.
MOST_BYTES, MOST_GROWTH = 1 << 26, 20


def save(path, g: GMM) -> None:
    """Write a mixture to an .npz file in scikit-learn's words; never pickle.

    It holds `weights`, `means`, `covariances` and `covariance_type`.

    The arrays are float64 whatever the dtype of the mixture, with scikit-learn's names and shapes:
    'full' `(K, D, D)`, 'tied' `(D, D)`, 'diag' `(K, D)` variances, 'spherical' `(K,)` variances; a
    tied diagonal is 'diag' of shape `(1, D)`, a tied sphere 'spherical' of shape `(1,)`. The file
    appears whole or not at all.

    Args:
      path: where to write, taken as it is (no suffix is added); an existing file is replaced.
      g: a mixture. Weights below 1e-308 become 0, which means absent.

    Raises:
      TypeError: `g` is not a `GMM`.
      ValueError: its shapes disagree, or `load` would refuse it: leaves are not finite, or a
        covariance is not positive definite in float64.
      OSError: the file cannot be written.

    Warns:
      UserWarning: a component becomes absent, for its weight is below 1e-308.

    Example:
      >>> import gmmjax, jax.numpy as jnp, numpy, tempfile
      >>> path = tempfile.mkdtemp() + "/mixture.npz"
      >>> gmmjax.save(path, gmmjax.GMM(jnp.zeros(2), jnp.zeros((2, 3)), jnp.ones(2)))
      >>> print(numpy.load(path)["covariances"], numpy.load(path)["covariance_type"])
      [1. 1.] spherical
    """
    arrays = to_arrays(g)
    covariances = arrays["covariances"]
    tied = arrays["covariance_type"] == "tied"
    values.checked_factor(covariances[None] if tied else covariances)
    write_arrays(path, arrays)


def load(path) -> GMM:
    """Read a mixture from an .npz file, of `gmmjax.save` or with its names; exact.

    Args:
      path: a file with arrays `weights`, `means` and `covariances`, shaped as `gmmjax.save` says.
        `covariance_type` may be missing where the shape of `covariances` leaves no doubt.

    Returns:
      A `GMM` in JAX's default dtype (float32 unless `jax_enable_x64`); weight 0 gives logit −inf.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is not an .npz file or is damaged, holds pickled objects, lacks an array (the
        message lists what is there), or its arrays are not a mixture; the message starts with
        `path`.

    Example:
      >>> import gmmjax, jax.numpy as jnp, tempfile
      >>> path = tempfile.mkdtemp() + "/mixture.npz"
      >>> gmmjax.save(path, gmmjax.GMM(jnp.zeros(2), jnp.zeros((2, 3)), jnp.ones((1, 3))))
      >>> gmmjax.load(path).scale.shape
      (1, 3)
    """
    path = os.fspath(path)
    arrays = read_arrays(path, (*_ARRAYS, "covariance_type"))
    missing = [name for name in _ARRAYS if name not in arrays]
    if missing:
        found = ", ".join(map(repr, _names(path)[:MOST_NAMES])) or "nothing"
        raise ValueError(
            f"{path}: has no array {', '.join(map(repr, missing))}, but {found}; "
            "see gmmjax.save for the names"
        )
    kind = arrays.get("covariance_type")
    try:
        return from_arrays(
            *(arrays[name] for name in _ARRAYS),
            covariance_type=None if kind is None else str(np.asarray(kind).astype(str)),
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def to_arrays(g: GMM) -> dict:
    """The NumPy arrays of a file, in float64, with scikit-learn's names and shapes."""
    # In numpy, which has float64 whatever JAX is set to: L Lᵀ in float32 need not be positive
    # definite.
    logits, means, scale = (np.asarray(leaf, np.float64) for leaf in as_float("g", g))
    weights = np.exp(logits - logits.max())
    if ((weights == 0) & (logits > -np.inf)).any():
        warn("g.logits: a weight below 1e-308 becomes 0, and its component absent")
    kind = covariance_type(g)
    if scale.ndim == 3:
        lower = np.tril(scale)
        covariances = lower @ lower.swapaxes(1, 2)
        covariances = covariances[0] if kind == "tied" else covariances
    else:
        covariances = scale**2
    return {
        "weights": weights / weights.sum(),
        "means": means,
        "covariances": covariances,
        "covariance_type": kind,
    }


def from_arrays(weights, means, covariances, covariance_type=None) -> GMM:
    """A mixture from arrays in scikit-learn's shapes."""
    weights, means, covariances = (np.asarray(value) for value in (weights, means, covariances))
    if means.ndim != 2:
        raise ValueError(f"means: expected shape (K, D), got {means.shape}")
    count, dim = means.shape
    if weights.shape != (count,):
        raise ValueError(
            f"weights: expected shape ({count},) to match means {means.shape}, got {weights.shape}"
        )
    if covariance_type is None:
        if covariances.shape == (dim, dim) == (count, dim) != (1, 1):
            raise ValueError(
                f"covariances: shape {covariances.shape} is 'diag' or 'tied' "
                f"for means of shape {means.shape}; say which in covariance_type"
            )
        return from_covariances(weights, means, covariances)
    shapes = {
        "full": [(count, dim, dim)],
        "tied": [(dim, dim)],
        "diag": [(count, dim), (1, dim)],
        "spherical": [(count,), (1,)],
    }
    if covariance_type not in shapes:
        raise ValueError(
            f"covariance_type: expected one of {', '.join(shapes)}, got {covariance_type!r}"
        )
    if covariances.shape not in shapes[covariance_type]:
        expected = " or ".join(map(str, shapes[covariance_type]))
        raise ValueError(
            f"covariances: expected shape {expected} for covariance_type {covariance_type!r} "
            f"and means {means.shape}, got {covariances.shape}"
        )
    covariances = covariances[None] if covariance_type == "tied" else covariances
    arrays = {"weights": weights, "means": means, "covariances": covariances}
    return build(**{name: as_real(name, value) for name, value in arrays.items()})


def covariance_type(g: GMM) -> str:
    """scikit-learn's word for the structure of a scale."""
    if is_full(g):
        return "tied" if is_tied(g) else "full"
    return "diag" if g.scale.ndim == g.means.ndim else "spherical"


def write_arrays(path, arrays: dict) -> None:
    """Write an .npz file whole or not at all, though the process be killed or the disk full."""
    path = os.path.abspath(path)
    temporary = os.path.join(os.path.dirname(path), f".{secrets.token_hex(8)}.tmp")
    if not os.path.isdir(os.path.dirname(path)):
        raise FileNotFoundError(f"{path}: its directory does not exist")
    try:
        with open(temporary, "xb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.remove(temporary)
        raise


def _names(path):
    """What an .npz file holds."""
    with np.load(path, allow_pickle=False) as archive:
        return list(archive)


def _refuse_to_unfold(archive, names, size):
    """Raise where arrays are far larger than their file."""
    stored = {info.filename.removesuffix(".npy"): info.file_size for info in archive.infolist()}
    total = sum(stored[name] for name in names)
    if total > max(MOST_BYTES, MOST_GROWTH * size):
        raise ValueError(f"{size:,} bytes would unfold to {total:,}")


def read_arrays(path, names=None) -> dict:
    """The arrays of an .npz file, those of `names` or all, never unpickled."""
    with open(path, "rb") as file:
        try:
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise ValueError(f"one array of shape {archive.shape}, as np.save writes it")
            with archive:
                wanted = [name for name in names or archive if name in archive]
                _refuse_to_unfold(archive.zip, wanted, os.path.getsize(path))
                return {name: archive[name] for name in wanted}
        # numpy, zipfile and zlib have a dozen types for a file that is not one of theirs
        except Exception as error:
            detail = " ".join(str(error).split())
            if "pickle" in detail:
                raise ValueError(
                    f"{path}: not an .npz file of plain arrays, and pickles are never loaded"
                ) from None
            raise ValueError(
                f"{path}: not an .npz file, or damaged ({type(error).__name__}: {detail})"
            ) from None
