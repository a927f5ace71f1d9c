"""Long fits: a bar, Ctrl-C, and checkpoints, none of which changes the result."""

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_mixture

import gmmjax
from gmmjax._fitting import checkpoints

fit = functools.partial(gmmjax.fit, num_steps=100, interval=30, patience=None)
ROOT = Path(__file__).parents[2]


def distance(key, q, p):
    return jnp.sum((q.means - p.means) ** 2) + 0.01 * jax.random.normal(key, dtype=q.means.dtype)


@pytest.fixture(scope="module")
def pair():
    return random_mixture(0, 3, 2), random_mixture(5, 3, 2)


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_bar_changes_nothing_but_stderr(key, pair, capsys):
    p, q = pair
    plain = fit(key, distance, q, args=(p,))
    assert capsys.readouterr().err == ""
    watched = fit(key, distance, q, args=(p,), progress=True)
    assert "100/100" in (shown := capsys.readouterr().err)
    assert f"loss {float(plain.losses[-1]):.5g} ± 0" in shown
    assert_same(watched, plain)


def test_a_bar_ends_with_the_fit(key, pair):
    p, _ = pair
    still = lambda key, q, p: jnp.sum((q.means - p.means) ** 2)
    result = fit(key, still, p, args=(p,), patience=10, progress=True)
    assert result.converged
    assert np.isnan(result.losses[int(result.num_steps) :]).all()


def test_without_tqdm_the_error_says_what_to_install(key, pair, monkeypatch):
    p, q = pair
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match=r"gmmjax\[progress\]"):
        fit(key, distance, q, args=(p,), progress=True)


def test_a_checkpoint_is_plain_and_goes_on_to_the_same_result(key, pair, tmp_path):
    p, q = pair
    path = tmp_path / "fit.npz"
    whole = fit(key, distance, q, args=(p,))
    fit(key, distance, q, args=(p,), num_steps=60, checkpoint=path)
    with np.load(path, allow_pickle=False) as archive:
        assert archive["done"] == 60
        assert all(archive[name].dtype.kind in "fiub" for name in archive)
    assert os.listdir(tmp_path) == ["fit.npz"]
    assert_same(fit(key, distance, q, args=(p,), checkpoint=path), whole)
    assert_same(fit(key, distance, q, args=(p,), checkpoint=path), whole)  # nothing left to do


def test_ctrl_c_returns_the_best_so_far(key, pair, tmp_path, monkeypatch):
    p, q = pair
    path, calls, write = tmp_path / "fit.npz", [], checkpoints.write_arrays

    def interrupted(path, arrays):
        write(path, arrays)
        calls.append(arrays["done"])
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "write_arrays", interrupted)
    with pytest.warns(UserWarning, match="interrupted after 60 of 100 steps"):
        result = fit(key, distance, q, args=(p,), checkpoint=path)
    assert result.num_steps == 60
    assert result.loss.value < result.start.value
    assert_same(fit(key, distance, q, args=(p,), checkpoint=path), fit(key, distance, q, args=(p,)))


@pytest.mark.parametrize("change", ["start", "key", "shape", "optimizer", "damage", "mixture"])
def test_checkpoints_of_something_else_are_refused(change, key, pair, tmp_path):
    import optax

    p, q = pair
    path = tmp_path / "fit.npz"
    fit(key, distance, q, args=(p,), num_steps=30, checkpoint=path)
    options = {}
    if change == "start":
        q = q._replace(means=q.means + 1)
    elif change == "key":
        key = jax.random.key(1)
    elif change == "shape":
        p, q = random_mixture(0, 2, 2), random_mixture(5, 2, 2)
    elif change == "optimizer":
        options = {"optimizer": optax.sgd(0.1)}
    elif change == "damage":
        path.write_bytes(path.read_bytes()[:500])
    else:
        gmmjax.save(path, p)
    with pytest.raises(ValueError, match=r"checkpoint|fit\.npz"):
        fit(key, distance, q, args=(p,), checkpoint=path, **options)


def test_checkpoints_of_older_versions_are_refused(key, pair, tmp_path):
    p, q = pair
    path = tmp_path / "fit.npz"
    fit(key, distance, q, args=(p,), num_steps=30, checkpoint=path)
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive if name != "layout"}
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match="another version of gmmjax"):
        fit(key, distance, q, args=(p,), checkpoint=path)


def test_not_under_transformations(key, pair):
    p, q = pair
    with pytest.raises(ValueError, match="progress, checkpoint"):
        jax.jit(lambda q: fit(key, distance, q, args=(p,), progress=True))(q)


SCRIPT = """
import sys, time, jax, jax.numpy as jnp, gmmjax
def slow(key, q):
    jax.debug.callback(lambda: time.sleep(0.01))
    return jnp.sum((q.means - 3.0) ** 2)
q = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.ones(1))
options = {"num_steps": int(sys.argv[2]), "interval": 10, "patience": None}
result = gmmjax.fit(jax.random.key(0), slow, q, checkpoint=sys.argv[1], **options)
print(int(result.num_steps))
"""


def test_a_killed_process_loses_at_most_an_interval(tmp_path):
    path = tmp_path / "fit.npz"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", SCRIPT, str(path)]
    process = subprocess.Popen([*command, "100000"], env=environment, stdout=subprocess.PIPE)
    try:
        deadline, done = time.monotonic() + 90, 0
        while done < 30 and time.monotonic() < deadline:
            time.sleep(0.1)
            done = _done(path)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.communicate()
    assert done >= 30, "no checkpoint in time"
    saved = _done(path)
    assert saved % 10 == 0
    assert saved >= done
    more = subprocess.run(
        [*command, str(saved + 10)], env=environment, capture_output=True, timeout=90, check=True
    )
    assert int(more.stdout) == saved + 10


def _done(path):
    return int(np.load(path)["done"]) if path.exists() else 0
