"""What damage found once: files that unfold to gigabytes, and numbers at the end of their range.

`fuzz.py` makes more of it, by hand.
"""

import io
import zipfile

import fuzz
import numpy as np
import pytest

import gmmjax
from gmmjax._mixture import files


def bomb(path, size):
    """A small file with a large array of zeros in it."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (%d,), }" % (size // 8)
    padded = header.ljust(117) + b"\n"
    start = b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("weights", "means", "covariances"):
            archive.writestr(f"{name}.npy", start + bytes(size))


def test_a_small_file_does_not_fill_the_memory(tmp_path, monkeypatch):
    path = tmp_path / "g.npz"
    bomb(path, files.MOST_BYTES // 3)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(ValueError, match="bytes would unfold to 67,10.,...") as error:
        gmmjax.load(path)
    assert str(error.value).startswith(f"{path}: ")
    monkeypatch.setattr(files, "MOST_BYTES", 1 << 30)  # it would have been read
    with pytest.raises(ValueError, match="means: expected shape"):
        gmmjax.load(path)


def test_files_that_numpy_compresses_are_read(tmp_path):
    path, count = tmp_path / "g.npz", 1000
    arrays = {"weights": np.ones(count), "means": np.zeros((count, 20))}
    np.savez_compressed(path, **arrays, covariances=np.tile(np.eye(20), (count, 1, 1)))
    assert path.stat().st_size < 8 * count * 400 / 20
    assert gmmjax.load(path).num_components == count


@pytest.mark.parametrize(
    ("covariance", "words"),
    [
        ([[1e308, -1e308], [1e308, 1e308]], "matrix 0 is not symmetric"),
        ([[1.5e308, 1.5e308], [1.5e308, 1.5e308]], "matrix 0 is not positive definite"),
        ([[1e308, 0.0], [0.0, np.inf]], "expected finite values"),
    ],
)
def test_numbers_at_the_end_of_the_range(covariance, words):
    """Without a word of NumPy on overflow."""
    with pytest.raises(ValueError, match=words):
        gmmjax.from_covariances([1.0], [[0.0, 0.0]], [covariance])


def test_large_covariances_are_taken():
    g = gmmjax.from_covariances([1.0], [[0.0, 0.0]], [[[1.5e308, 0.0], [0.0, 1e308]]])
    assert np.isfinite(g.scale).all()


@pytest.mark.parametrize("name", fuzz.ATTEMPTS)
def test_damage(name):
    """A little of it each time; undocumented errors are counted."""
    found, _ = fuzz.fuzz(name, 300)
    assert not found


def test_damage_can_be_found(monkeypatch):
    monkeypatch.setattr(gmmjax, "load", lambda path: np.load(io.BytesIO(path.read_bytes())))
    assert fuzz.fuzz("load", 100)[0]
