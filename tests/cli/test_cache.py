"""Programs that are kept from one command to the next, whatever happens to their files."""

import json
import os
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_mixture

import gmmjax
from gmmjax import _kept
from gmmjax._cli.cache import open_store
from gmmjax._cli.keys import seeded
from gmmjax._cli.programs import compiled, finder
from gmmjax._cli.store import Store

COMMAND = [sys.executable, "-W", "error", "-m", "gmmjax"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixtures")
    paths = [str(folder / f"{name}.npz") for name in "pq"]
    for seed, path in enumerate(paths):
        gmmjax.save(path, random_mixture(seed, 2, 1))
    return paths


def start(files, cache):
    environment = os.environ | {"GMMJAX_CACHE": str(cache)}
    arguments = ["matrix", *files, "--divergence", "ise", "--json"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*COMMAND, *arguments], env=environment, **pipes)


def finish(process):
    """What a command printed, which has nothing to complain of."""
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    return json.loads(out)["value"]


def test_two_commands_at_once_and_one_that_is_killed_leave_files_that_serve(files, tmp_path):
    cache = tmp_path / "cache"
    killed, *others = (start(files, cache) for _ in range(3))
    while not (cache.exists() and any(cache.glob("*.program"))):
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    first, second = map(finish, others)
    assert first == second
    before = {path: path.stat().st_ino for path in cache.glob("*.program")}
    assert finish(start(files, cache)) == first
    # Programs were read, and none was written anew.
    assert {path: path.stat().st_ino for path in cache.glob("*.program")} == before

    damaged = {path: _flip_a_bit(path.read_bytes()) for path in before}
    for path, content in damaged.items():
        path.write_bytes(content)
    assert finish(start(files, cache)) == first
    assert all(path.read_bytes() != content for path, content in damaged.items())


def _flip_a_bit(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def test_a_program_that_is_kept_is_not_traced_again(tmp_path):
    traces = []

    def double(g, *, times):
        traces.append(times)
        return g._replace(means=times * g.means)

    def run(store, times=2):
        return compiled(store, double, g, times=times)(g).means

    g, store = random_mixture(0, 2, 1), Store(tmp_path)
    for _ in range(2):
        np.testing.assert_array_equal(run(store), 2 * g.means)
    assert traces == [2]
    np.testing.assert_array_equal(run(store, times=3), 3 * g.means)
    assert traces == [2, 3]
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    np.testing.assert_array_equal(run(store), 2 * g.means)
    assert traces == [2, 3, 2]
    run(None)
    assert traces == [2, 3, 2, 2]


def test_a_function_finds_its_programs_in_a_store(monkeypatch, tmp_path):
    traces = []

    @_kept.kept_quickly
    def scale(x, *, times):
        traces.append(times)
        return times * x

    for _ in range(2):  # as two processes do
        monkeypatch.setattr(_kept, "_finders", [finder(Store(tmp_path))])
        for times in (2, 3, 2):
            np.testing.assert_array_equal(scale(jnp.ones(2), times=times), times)
    assert traces == [2, 3]
    monkeypatch.setattr(_kept, "_finders", [])
    np.testing.assert_array_equal(scale(jnp.ones(2), times=2), 2)
    assert traces == [2, 3, 2]


@pytest.mark.parametrize("seed", [0, (1 << 32) - 1])
def test_keys_of_commands_are_those_of_jax(seed):
    ours, theirs = seeded(seed), jax.random.key(seed)
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(jax.random.key_data(ours), jax.random.key_data(theirs))


def test_a_store_gives_back_what_was_written_or_nothing(tmp_path):
    store = Store(tmp_path)
    assert store.read("a") is None
    store.write("a", b"program")
    assert store.read("a") == b"program"
    (path,) = tmp_path.iterdir()
    for damaged in (path.read_bytes()[:-1], b"", path.read_bytes() + b"x"):
        path.write_bytes(damaged)
        assert store.read("a") is None
        store.write("a", b"program")
        assert store.read("a") == b"program"
    store.write("b", b"other")
    other = next(file for file in tmp_path.iterdir() if file != path)
    path.write_bytes(other.read_bytes())  # of another name
    assert store.read("a") is None


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    store = Store(tmp_path)
    for age, name in enumerate("abc"):
        store.write(name, bytes(1000))
        os.utime(store._path(name), (1e9 - age, 1e9 - age))
    store.read("c")
    store.trim(2100)
    assert [name for name in "abc" if store.read(name)] == ["a", "c"]
    (tmp_path / "cut.tmp").write_bytes(b"")
    store.trim()
    assert (tmp_path / "cut.tmp").exists()  # somebody may be writing it
    os.utime(tmp_path / "cut.tmp", (1e9, 1e9))
    store.trim()
    assert not (tmp_path / "cut.tmp").exists()


def test_a_folder_that_refuses_costs_nothing_but_time(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    store = Store(tmp_path / "file" / "below")
    store.write("a", b"program")
    assert store.read("a") is None
    store.trim()


def test_where_programs_are_kept(tmp_path):
    def folder(**environment):
        store = open_store({"HOME": "/nowhere"} | environment)
        return store and store.folder

    assert folder(XDG_CACHE_HOME=str(tmp_path)) == tmp_path / "gmmjax"
    assert (tmp_path / "gmmjax").stat().st_mode & 0o777 == 0o700
    assert folder(GMMJAX_CACHE=str(tmp_path / "x"), XDG_CACHE_HOME="/") == tmp_path / "x"
    for off in ("", "0", "off"):
        assert folder(GMMJAX_CACHE=off, XDG_CACHE_HOME=str(tmp_path)) is None
    (tmp_path / "file").write_bytes(b"")
    assert folder(GMMJAX_CACHE=str(tmp_path / "file" / "below")) is None
    (tmp_path / "x").chmod(0o777)  # anybody could put a program there
    assert folder(GMMJAX_CACHE=str(tmp_path / "x")) is None
