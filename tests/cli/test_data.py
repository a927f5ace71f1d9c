"""Rows on the command line: both kinds of file, and what is said of others."""

import json

import jax
import numpy as np
import pytest
from cases import random_mixture

import gmmjax
from gmmjax._cli.data import read_rows
from gmmjax._cli.main import main


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two mixtures and rows of both."""
    folder = tmp_path_factory.mktemp("data")
    mixtures = [random_mixture(seed, 2, 2, spread=3.0) for seed in (0, 1)]
    for name, g in zip("pq", mixtures, strict=True):
        gmmjax.save(folder / f"{name}.npz", g)
    x, y = (np.asarray(gmmjax.sample(jax.random.key(0), g, 200)) for g in mixtures)
    np.save(folder / "x.npy", x)
    np.savetxt(folder / "y.csv", y, delimiter=",", header="height,width", comments="")
    return folder


def compare(files, capsys, *more):
    paths = [str(files / name) for name in ("p.npz", "q.npz", "x.npy", "y.csv")]
    assert main(["compare", *paths[:2], "--data", *paths[2:], "--samples", "512", *more]) == 0
    return capsys.readouterr().out


def test_both_errors_stand_beside_each_other(files, capsys):
    printed = compare(files, capsys)
    rows = {line[:8]: line.split() for line in printed.splitlines() if " to " in line}
    assert list(rows) == ["KL(p||q)", "KL(q||p)", "JS(p, q)"]
    assert "from the data" in printed
    *_, value, integral, from_data, lower, _, upper = map(_number, rows["JS(p, q)"])
    assert lower < value < upper <= 0.6932
    assert integral < from_data


def _number(text):
    try:
        return float(text)
    except ValueError:
        return text


def test_as_json(files, capsys):
    printed = json.loads(compare(files, capsys, "--json"))
    assert list(printed["data"]) == ["kl_pq", "kl_qp", "js"]
    for found in printed["data"].values():
        assert list(found) == list(gmmjax.DataEstimate._fields)
        assert found["lower"] < found["value"] < found["upper"]


def test_a_header_is_left_out_and_all_else_is_a_row(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("\ufeffa,b\n1,2\n\n-3e5,4.5\n", encoding="utf-8")
    np.testing.assert_array_equal(read_rows(str(path)), [[1.0, 2.0], [-3e5, 4.5]])
    path.write_text("1,2\n3,4\n")
    np.testing.assert_array_equal(read_rows(str(path)), [[1.0, 2.0], [3.0, 4.0]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a,b\n1,2\n3,x\n",
            "row 3, column 2: expected a number, got 'x'; numbers stand between commas",
        ),
        ("a,b\n1,\n", "row 2, column 2: expected a number, got ''"),
        ("1,2\n3\n", "row 2 has 1 columns, the first has 2"),
        ("1,b\n", "row 1, column 2: expected a number, got 'b'"),
        ("a,b\n", "has no rows of numbers"),
        ("", "has no rows of numbers"),
    ],
)
def test_bad_text_is_told_with_its_place(tmp_path, text, message):
    path = tmp_path / "x.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"x.csv: {message}"):
        read_rows(str(path))


def test_bad_files_are_told(files, tmp_path, capsys):
    pickled = tmp_path / "x.npy"
    np.save(pickled, np.array([{}]), allow_pickle=True)
    other = tmp_path / "x.xlsx"
    wide = tmp_path / "wide.csv"
    wide.write_text("1,2,3\n" * 9)
    said = {pickled: "no array of numbers", other: "got .xlsx", wide: r"rows of shape (N, 2)"}
    for path, words in said.items():
        paths = [str(files / name) for name in ("p.npz", "q.npz", "y.csv")]
        assert main(["compare", *paths[:2], "--data", str(path), paths[2]]) == 2
        error = capsys.readouterr().err
        assert error.startswith("gmmjax: error: ")
        assert words in error
        assert str(path) in error
