"""Files: what save writes, load reads; what it cannot read, it says."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gmmjax


def _mixture(kind, count=3, dim=2):
    rng = np.random.default_rng(0)
    deviations = rng.uniform(0.5, 2.0, (count, dim))
    scale = {
        "full": deviations[:, :, None] * np.eye(dim)
        + np.tril(rng.normal(size=(count, dim, dim)), -1),
        "diag": deviations,
        "spherical": deviations[:, 0],
    }[kind.removesuffix(" tied")]
    scale = scale[:1] if kind.endswith("tied") else scale
    return gmmjax.GMM(
        jnp.asarray(rng.normal(size=count)),
        jnp.asarray(rng.normal(size=(count, dim))),
        jnp.asarray(scale),
    )


def _arrays(**changes):
    arrays = {
        "weights": np.full(3, 1 / 3),
        "means": np.zeros((3, 2)),
        "covariances": np.ones((3, 2)),
    }
    arrays |= {"covariance_type": "diag"} | changes
    return {name: value for name, value in arrays.items() if value is not None}


WORDS = {
    "full": ("full", (3, 2, 2)),
    "full tied": ("tied", (2, 2)),
    "diag": ("diag", (3, 2)),
    "diag tied": ("diag", (1, 2)),
    "spherical": ("spherical", (3,)),
    "spherical tied": ("spherical", (1,)),
}


@pytest.mark.parametrize("kind", WORDS)
def test_round_trip(tmp_path, kind):
    path, g = tmp_path / "no suffix", _mixture(kind)
    gmmjax.save(path, g)
    assert os.listdir(tmp_path) == ["no suffix"]
    with np.load(path, allow_pickle=False) as stored:
        assert (str(stored["covariance_type"]), stored["covariances"].shape) == WORDS[kind]
        assert {stored[name].dtype for name in ("weights", "means", "covariances")} == {
            np.dtype("float64")
        }
        np.testing.assert_allclose(stored["weights"], gmmjax.weights(g), rtol=1e-14)
    back = gmmjax.load(str(path))
    assert back.scale.shape == g.scale.shape
    np.testing.assert_allclose(gmmjax.weights(back), gmmjax.weights(g), rtol=1e-14)
    np.testing.assert_array_equal(back.means, g.means)
    np.testing.assert_allclose(
        gmmjax.covariances(back), gmmjax.covariances(g), rtol=1e-13, atol=1e-13
    )


def test_single_component_is_not_tied(tmp_path):
    gmmjax.save(tmp_path / "g", _mixture("full", count=1))
    with np.load(tmp_path / "g") as stored:
        assert (str(stored["covariance_type"]), stored["covariances"].shape) == ("full", (1, 2, 2))


def test_absent_components_stay_absent(tmp_path):
    g = _mixture("full")._replace(logits=jnp.array([0.0, -jnp.inf, 1.0]))
    gmmjax.save(tmp_path / "g", g)
    with np.load(tmp_path / "g") as stored:
        assert stored["weights"][1] == 0
    np.testing.assert_array_equal(
        jnp.isneginf(gmmjax.load(tmp_path / "g").logits), [False, True, False]
    )


def test_ill_conditioned_float32_factor_survives(tmp_path):
    # In float32 this L Lᵀ is singular: 1 + 1e-12 rounds to 1.
    lower = jnp.array([[[1.0, 0.0], [1.0, 1e-6]]], jnp.float32)
    g = gmmjax.GMM(jnp.zeros(1, jnp.float32), jnp.zeros((1, 2), jnp.float32), lower)
    gmmjax.save(tmp_path / "g", g)
    np.testing.assert_allclose(gmmjax.load(tmp_path / "g").scale, lower, rtol=1e-3)
    with jax.enable_x64(False):
        back = gmmjax.load(tmp_path / "g")
    assert back.scale.dtype == jnp.float32
    np.testing.assert_allclose(back.scale, lower, rtol=1e-3)


def test_signs_and_the_upper_triangle_do_not_matter(tmp_path):
    g = _mixture("full")
    gmmjax.save(tmp_path / "g", g._replace(scale=-g.scale + jnp.triu(jnp.ones((2, 2)), 1)[None]))
    np.testing.assert_allclose(gmmjax.load(tmp_path / "g").scale, g.scale, rtol=1e-12)


def test_save_replaces_and_leaves_nothing_behind(tmp_path, monkeypatch):
    path = tmp_path / "g.npz"
    gmmjax.save(path, _mixture("diag"))
    gmmjax.save(path, _mixture("spherical"))
    assert gmmjax.load(path).scale.shape == (3,)
    before = path.read_bytes()

    def fail(file, **arrays):
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="no space left"):
        gmmjax.save(path, _mixture("full"))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["g.npz"]


def test_save_refuses_what_load_would_refuse(tmp_path):
    g = _mixture("full")
    for bad, words in (
        (g._replace(means=g.means * jnp.nan), "means: expected finite"),
        (g._replace(scale=g.scale * 0), "scale: a standard deviation is 0"),
        (g._replace(scale=g.scale * 1e-200), "not positive definite"),
        (g._replace(logits=jnp.full(3, -jnp.inf)), "logits: expected"),
        (g._replace(logits=jnp.full(3, jnp.nan)), "logits: expected"),
    ):
        with pytest.raises(ValueError, match=words):
            gmmjax.save(tmp_path / "g", bad)
    with pytest.raises(TypeError, match="expected a gmmjax.GMM"):
        gmmjax.save(tmp_path / "g", {"weights": [1.0]})
    with pytest.raises(FileNotFoundError):
        gmmjax.save(tmp_path / "no folder" / "g", g)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((3, 2, 2), (3, 2, 2)),
        ((1, 2, 2), (1, 2, 2)),
        ((3, 2), (3, 2)),
        ((1, 2), (1, 2)),
        ((3,), (3,)),
        ((1,), (1,)),
    ],
)
def test_type_may_be_told_by_the_shape(tmp_path, shape, expected):
    covariances = np.broadcast_to(np.eye(2), shape) if len(shape) == 3 else np.ones(shape)
    np.savez(tmp_path / "g.npz", **_arrays(covariances=covariances, covariance_type=None))
    assert gmmjax.load(tmp_path / "g.npz").scale.shape == expected


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights": None}, "no array 'weights', but 'means', 'covariances', 'covariance_type'"),
        ({"means": None, "covariances": None}, "has no array 'means', 'covariances'"),
        ({"covariance_type": "round"}, "expected one of full, tied, diag, spherical, got 'round'"),
        ({"covariance_type": np.ones(2)}, "covariance_type: expected one of"),
        (
            {"covariance_type": "full"},
            r"expected shape \(3, 2, 2\) for covariance_type 'full'.*got \(3, 2\)",
        ),
        ({"covariance_type": "tied"}, r"expected shape \(2, 2\) for"),
        ({"covariance_type": "spherical"}, r"expected shape \(3,\) or \(1,\) for"),
        ({"covariances": np.ones(3)}, r"expected shape \(3, 2\) or \(1, 2\) for"),
        ({"covariances": np.eye(2), "covariance_type": None}, r"covariances\[None\]"),
        (
            {
                "weights": np.ones(2),
                "means": np.zeros((2, 2)),
                "covariances": np.eye(2),
                "covariance_type": None,
            },
            "is 'diag' or 'tied'",
        ),
        ({"weights": np.ones(2)}, r"weights: expected shape \(3,\)"),
        ({"means": np.zeros(3)}, r"means: expected shape \(K, D\)"),
        ({"means": np.full((3, 2), np.nan)}, "means: expected finite"),
        ({"weights": np.array([1.0, -1.0, 1.0])}, "non-negative"),
        ({"covariances": -np.ones((3, 2))}, "positive variances"),
        ({"means": np.full((3, 2), "a")}, "expected real numbers"),
        ({"means": np.full((3, 2), None)}, "pickles are never loaded"),
    ],
)
def test_bad_arrays(tmp_path, changes, words):
    path = tmp_path / "g.npz"
    np.savez(path, **_arrays(**changes))
    with pytest.raises(ValueError, match=words) as error:
        gmmjax.load(path)
    assert str(error.value).startswith(f"{path}: ")


def test_bad_files(tmp_path):
    path = tmp_path / "g.npz"
    with pytest.raises(FileNotFoundError, match="g.npz"):
        gmmjax.load(path)
    gmmjax.save(path, _mixture("full"))
    whole = path.read_bytes()
    np.save(tmp_path / "array.npy", np.zeros(3))
    np.save(tmp_path / "pickle.npy", np.array([{}]))
    bad = {
        "empty": b"",
        "text": b"weights, means\n",
        "half": whole[: len(whole) // 2],
        "short": whole[:-1],
    }
    bad |= {
        "flipped": whole.replace(b"\x93NUMPY", b"\x93NUMPX"),
        "crc": whole[:200] + b"\xff" + whole[201:],
    }
    bad |= {name: (tmp_path / f"{name}.npy").read_bytes() for name in ("array", "pickle")}
    for content in bad.values():
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not an .npz file") as error:
            gmmjax.load(path)
        assert str(error.value).startswith(f"{path}: ")


def test_one_array_is_not_a_mixture(tmp_path):
    np.save(tmp_path / "rows.npy", np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"not an \.npz file.*one array of shape \(3, 2\)"):
        gmmjax.load(tmp_path / "rows.npy")
