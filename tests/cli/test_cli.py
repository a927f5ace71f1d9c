"""The command line as a user runs it, in a process of its own."""

import contextlib
import json
import os
import subprocess
import sys
import types
import warnings
from importlib import metadata

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_mixture

import gmmjax
from gmmjax._cli import commands
from gmmjax._cli.main import main
from gmmjax._cli.output import print_table


def _run(*arguments, timeout=60, environment=None, **options):
    command = [sys.executable, "-W", "error", "-m", "gmmjax", *map(str, arguments)]
    environment = os.environ | {"GMMJAX_CACHE": "off"} | (environment or {})
    options |= {"capture_output": True, "text": True, "timeout": timeout, "env": environment}
    return subprocess.run(command, check=False, **options)


@pytest.fixture
def files(tmp_path):
    p = gmmjax.from_covariances([0.4, 0.6], [[0.0, 0.0], [2.0, 1.0]], [np.eye(2), 2 * np.eye(2)])
    q = gmmjax.from_covariances([1.0, 1.0, 1.0], [[0.0, 0.0], [1.0, 1.0], [2.0, 0.0]], [[1.0, 2.0]])
    paths = tmp_path / "p.npz", tmp_path / "q.npz"
    for path, g in zip(paths, (p, q), strict=True):
        gmmjax.save(path, g)
    return *map(str, paths), p, q


def _assert_one_line(error, words):
    assert error.startswith("gmmjax: error: ")
    assert error.count("\n") == 1
    assert words in error


def test_compare_json_in_a_process(files):
    p_path, q_path, p, q = files
    result = _run("compare", p_path, q_path, "--samples", 4096, "--seed", 7, "--json")
    assert (result.returncode, result.stderr) == (0, "")
    printed = json.loads(result.stdout)
    assert (printed["p"], printed["q"]) == (p_path, q_path)
    assert (printed["seed"], printed["samples"]) == (7, 4096)
    expected = {
        "kl_pq": (gmmjax.kl_divergence, p, q),
        "kl_qp": (gmmjax.kl_divergence, q, p),
        "js": (gmmjax.js_divergence, p, q),
    }
    for name, (divergence, a, b) in expected.items():
        found = printed[name]
        value, stderr = divergence(jax.random.key(7), a, b, num_samples=4096)
        np.testing.assert_allclose(found["value"], value, rtol=1e-6)
        np.testing.assert_allclose(found["stderr"], stderr, rtol=1e-3)
        # in the plane bounds are closer than the estimate knows
        assert found["lower"] - 5 * stderr <= found["value"] <= found["upper"] + 5 * stderr
    np.testing.assert_allclose(printed["mw2_squared"], gmmjax.mw2_squared(p, q), rtol=1e-6)


def test_user_errors_in_a_process(files):
    missing = _run("compare", files[0], "missing.npz")
    assert (missing.returncode, missing.stdout) == (2, "")
    _assert_one_line(missing.stderr, "missing.npz: No such file or directory")


def test_demo_in_a_process(tmp_path):
    environment = {"CUDA_VISIBLE_DEVICES": "", "PYTHONIOENCODING": "ascii"}
    result = _run("demo", timeout=120, cwd=tmp_path, environment=environment)
    assert (result.returncode, result.stderr) == (0, "")
    assert os.listdir(tmp_path) == []
    values = {
        line[:8].strip(): line[8:].split() for line in result.stdout.splitlines() if "+/-" in line
    }
    for name in ("KL(p||q)", "KL(q||p)", "JS(p, q)"):
        ours, _, stderr, plain, _, plain_stderr, ratio = values[name]
        assert abs(float(ours) - float(plain)) < 4 * np.hypot(float(stderr), float(plain_stderr))
        assert float(ratio.rstrip("x").replace(",", "")) > 10
    assert float(values["after"][0]) < 0.3 * float(values["before"][0])


def test_compare_table(files, capsys):
    assert main(["compare", *files[:2], "--samples", "4096"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["p", files[0], "K", "=", "2", "D", "=", "2", "full"]
    assert lines[1].split() == ["q", files[1], "K", "=", "3", "D", "=", "2", "diag", "(tied)"]
    assert len({len(line) for line in lines[3:7]}) == 1
    assert [line[:8] for line in lines[4:7]] == ["KL(p||q)", "KL(q||p)", "JS(p, q)"]
    assert "4096 samples" in lines[-1]


def test_same_seed_same_numbers(files, capsys):
    outputs = []
    for seed in ("3", "3", "4"):
        assert main(["compare", *files[:2], "--samples", "4096", "--seed", seed, "--json"]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] != outputs[2]


def test_equal_mixtures_and_infinite_stderr(files, capsys):
    assert main(["compare", files[0], files[0], "--samples", "1", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    estimates = [printed[name] for name in ("kl_pq", "kl_qp", "js")]
    assert all(abs(e["value"]) < 1e-12 and e["stderr"] is None for e in estimates)
    assert main(["compare", files[0], files[0], "--samples", "1"]) == 0
    assert "inf" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compare", "{p}", "{q}", "--samples", "0"], "--samples: expected an integer"),
        (["compare", "{p}", "{q}", "--samples", "many"], "got 'many'"),
        (["compare", "{p}", "{q}", "--samples", "1e5"], "got '1e5'"),
        (["compare", "{p}", "{q}", "--samples", "9" * 5000], "--samples: expected an integer"),
        (["compare", "{p}", "{q}", "--seed", "-1"], "--seed"),
        (["compare", "{p}"], "q.npz"),
        (["compare", "{p}", "{bad}"], "bad.npz: not an .npz file"),
        (["compare", "{p}", "{folder}"], "Is a directory"),
        (["compare", "{p}", "{other}"], "has dimension 3"),
        (["frobnicate"], "frobnicate"),
        (["reduce", "{p}", "-o", "x.npz"], "--components"),
        (["reduce", "{p}", "-o", "x.npz", "--components", "8-2"], "a range that rises"),
        (["reduce", "{p}", "-o", "x.npz", "--components", "2-"], "expected an integer"),
        (["reduce", "{p}", "-o", "x.npz", "--components", "2:8"], "a range such as 2-8"),
        (["matrix", "{p}", "{q}", "--csv", "--json"], "not allowed with"),
        (["plot", "{p}", "{other}", "-o", "x.png"], "other.npz: has dimension 3, but"),
        ([], "required"),
    ],
)
def test_user_errors(files, tmp_path, capsys, arguments, words):
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 and nothing else")
    gmmjax.save(tmp_path / "other.npz", gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 3)), jnp.ones(1)))
    names = {"p": files[0], "q": files[1], "folder": tmp_path}
    names |= {name: tmp_path / f"{name}.npz" for name in ("bad", "other")}
    assert main([argument.format(**names) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    _assert_one_line(captured.err, words)


def test_reduce_writes_the_best_and_a_table(tmp_path, capsys):
    p = random_mixture(3, 10, 2)
    source, target = str(tmp_path / "big.npz"), str(tmp_path / "small.npz")
    gmmjax.save(source, p)
    assert main(["reduce", source, "--components", "5", "-o", target, "--restarts", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    q = gmmjax.load(target)
    assert q.num_components == 5
    before, after = (float(next(line for line in lines if line.startswith(name)).split()[1])
                     for name in ("greedy", "refined"))  # fmt: skip
    kl, stderr = gmmjax.kl_divergence(jax.random.key(9), p, q)
    assert after < before
    assert abs(after - kl) < 6 * stderr


def test_nothing_to_reduce_is_said(tmp_path, capsys):
    p = random_mixture(3, 4, 2)
    source, target = str(tmp_path / "p.npz"), str(tmp_path / "q.npz")
    gmmjax.save(source, p)
    assert main(["reduce", source, "--components", "30", "-o", target]) == 0
    *_, last = capsys.readouterr().out.splitlines()
    assert "no more components" in last
    q = gmmjax.load(target)
    assert q.num_components == 4
    assert gmmjax.kl_divergence(jax.random.key(9), p, q).value < 1e-12


def test_ctrl_c_leaves_a_reduction_on_disk(tmp_path, capsys, monkeypatch):
    def interrupted(*_, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("gmmjax._cli.commands.reduce_mixture", interrupted)
    source, target = str(tmp_path / "big.npz"), str(tmp_path / "small.npz")
    gmmjax.save(source, random_mixture(3, 10, 2))
    assert main(["reduce", source, "--components", "5", "-o", target]) == 0
    assert "interrupted: 0 of 1" in capsys.readouterr().err
    assert gmmjax.load(target).num_components == 5


def test_a_range_gives_a_file_each_and_the_curve(tmp_path, capsys, monkeypatch):
    def quick(key, p, count, **options):
        """What a search would find, without one."""
        q = gmmjax.moment_start(key, p, count)
        loss = gmmjax.Estimate(1.0 / count, 0.01)
        return types.SimpleNamespace(gmm=q, loss=loss, start=gmmjax.Estimate(2.0 / count, 0.01))

    monkeypatch.setattr("gmmjax._cli.commands.reduce_mixture", quick)
    source, picture = tmp_path / "big.npz", tmp_path / "curve.png"
    gmmjax.save(source, random_mixture(3, 6, 2))
    arguments = ["reduce", str(source), "--components", "2-4", "-o", str(tmp_path / "small.npz")]
    assert main([*arguments, "--plot", str(picture)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[2] for line in lines if line[:2] == ["K", "="]] == ["2", "3", "4"]
    assert [float(line[5]) for line in lines if line[:2] == ["K", "="]] == [1, 0.666667, 0.5]
    counts = [gmmjax.load(tmp_path / f"small-{n}.npz").num_components for n in (2, 3, 4)]
    assert counts == [2, 3, 4]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_version_and_help(capsys):
    for option, words in (("--version", metadata.version("gmmjax")), ("--help", "compare")):
        with pytest.raises(SystemExit) as exit_:
            main([option])
        assert exit_.value.code == 0
        assert words in capsys.readouterr().out


def test_accuracy_on_request(files, capsys):
    assert main(["compare", *files[:2], "--rtol", "0.01", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    estimates = [printed[name] for name in ("kl_pq", "kl_qp", "js")]
    assert all(e["stderr"] <= 0.01 * e["value"] for e in estimates)
    assert printed["rtol"] == 0.01
    assert main(["compare", *files[:2], "--rtol", "2", "--json"]) == 2
    _assert_one_line(capsys.readouterr().err, "--rtol: expected a number between 0 and 1")


def test_matrix(files, capsys):
    assert main(["matrix", *files[:2], "--divergence", "mw2", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["value"][0][0] == printed["value"][1][1] == 0
    np.testing.assert_allclose(printed["value"][0][1], gmmjax.mw2_squared(*files[2:]), rtol=1e-6)
    assert main(["matrix", *files[:2], "--divergence", "mw2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["p", "q"]
    assert [line.split()[0] for line in lines[1:3]] == ["p", "q"]
    assert {len(cell.partition(".")[2]) for line in lines[1:3] for cell in line.split()[1:]} == {5}
    assert main(["matrix", *files[:2], "--divergence", "mw2", "--csv"]) == 0
    header, *rows = (line.split(",") for line in capsys.readouterr().out.splitlines())
    assert header == ["", "p", "q"]
    assert [row[0] for row in rows] == ["p", "q"]
    assert [[float(x) for x in row[1:]] for row in rows] == printed["value"]


def test_condition(tmp_path, capsys):
    g = random_mixture(0, 3, 4)
    source, target = str(tmp_path / "g.npz"), str(tmp_path / "rest.npz")
    gmmjax.save(source, g)
    assert main(["condition", source, "0=1.5", "2=-3", "-o", target]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[1:] == "K = 3 D = 2 full".split()
    found, expected = gmmjax.load(target), gmmjax.condition(g, [0, 2], [1.5, -3.0])
    x = np.random.default_rng(0).normal(size=(5, 2))
    np.testing.assert_allclose(gmmjax.log_prob(found, x), gmmjax.log_prob(expected, x), rtol=1e-9)
    for known, words in (("0", "expected DIM=VALUE such as 0=1.5, got '0'"), ("9=1", "dims: ")):
        assert main(["condition", source, known, "-o", target]) == 2
        _assert_one_line(capsys.readouterr().err, words)


def test_entries_of_all_sizes_keep_their_digits(capsys):
    print_table(["a", "b", "far"], np.array([[0, 0.004, 5e7], [0.57, 0, 4e7], [3e7, 1, 0]]))
    rows = [line.split()[1:] for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows[0] == ["0.0000", "0.0040000", "5.0000e+07"]
    print_table(["a", "b"], np.array([[0, 0.004], [0.57, np.inf]]))
    rows = [line.split()[1:] for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows == [["0.00000", "0.00400"], ["0.57000", "inf"]]


def test_matrix_says_how_it_was_found_and_draws(files, tmp_path, capsys):
    target = tmp_path / "matrix.png"
    options = ["--samples", "256", "--json", "--plot", str(target), "--order", "cluster"]
    assert main(["matrix", *files[:2], *options]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["samples"], printed["seed"], printed["divergence"]) == (256, 0, "js")
    assert target.read_bytes().startswith(b"\x89PNG")


def test_files_of_one_name_are_told_by_their_folders():
    assert commands._names(["a/x.npz", "b/x.npz"]) == ["a/x.npz", "b/x.npz"]
    assert commands._names(["a/x.npz", "b/y.npz"]) == ["x", "y"]


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_plot_draws_all_files(dim, tmp_path, monkeypatch):
    """Names of all of them, without folder and ending, stand in one legend; none is hidden."""
    paths = [str(tmp_path / f"{name}.npz") for name in "abc"]
    for seed, path in enumerate(paths):
        gmmjax.save(path, random_mixture(seed, 2, dim))
    figures = []
    monkeypatch.setattr(gmmjax.plot.plt, "close", figures.append)
    assert main(["plot", *paths, "-o", str(tmp_path / "out.png")]) == 0
    (figure,) = figures
    legends = figure.legends or [figure.axes[0].get_legend()]
    assert [text.get_text() for text in legends[0].get_texts()] == ["a", "b", "c"]
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


def test_warnings_are_one_line(files, capsys, monkeypatch):
    @contextlib.contextmanager
    def warn(*_, **options):
        warnings.warn("too few", stacklevel=1)
        yield None

    def show(*_):
        pass

    monkeypatch.setattr(commands, "running", warn)
    monkeypatch.setattr(commands, "_show_table", show)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["compare", *files[:2]]) == 0
    assert capsys.readouterr().err == "gmmjax: warning: too few\n"


def test_pickles_are_refused(capsys):
    assert main(["from-sklearn", "model.joblib"]) == 2
    _assert_one_line(capsys.readouterr().err, "save('model.npz', interop.from_sklearn(model))")
