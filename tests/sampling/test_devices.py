"""Several devices and several processes give the numbers of one device, and share the work."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import sharded

import gmmjax

ROOT = Path(__file__).parents[2]
LIMIT = 80  # seconds


def start(devices=1, *arguments):
    """`sharded.py` on so many virtual CPU devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": paths, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(ROOT / "tests" / "sharded.py"), *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, **pipes)


def reports(*processes):
    """What they print, once all are done."""
    try:
        ended = [process.communicate(timeout=LIMIT) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, ended, strict=True):
        assert process.returncode == 0, errors
    return [json.loads(output.splitlines()[-1]) for output, _ in ended]


@pytest.fixture(scope="module")
def alone():
    """On one device."""
    return reports(start())[0]


def assert_same(first, second):
    for name in ("pairs", "points", "matrix", "in_mesh"):
        leaves = zip(jax.tree.leaves(first[name]), jax.tree.leaves(second[name]), strict=True)
        for a, b in leaves:
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)


def test_one_device_is_the_library_itself(alone, key):
    ps, qs = sharded.batch(0, sharded.PAIRS), sharded.batch(1, sharded.PAIRS)
    for i in (0, sharded.PAIRS - 1):
        p, q = (jax.tree.map(lambda leaf, i=i: leaf[i], g) for g in (ps, qs))
        np.testing.assert_allclose(
            np.array(alone["pairs"])[:, i], gmmjax.kl_divergence(key, p, q), rtol=1e-8
        )


def test_points_of_one_pair_are_those_of_one_estimate(alone, key):
    whole = gmmjax.kl_divergence(key, sharded.batch(2), sharded.batch(3))
    np.testing.assert_allclose(alone["points"][0], whole, rtol=1e-9)


def test_matrix_is_that_of_one_device(alone, key):
    ps, qs = sharded.batch(0, sharded.PAIRS), sharded.batch(1, 3)
    matrix = gmmjax.pairwise(gmmjax.kl_divergence, key, ps, qs, num_samples=256)
    np.testing.assert_allclose(alone["matrix"], matrix, rtol=1e-9)


def test_virtual_devices(alone):
    (report,) = reports(start(8))
    assert (alone["devices"], alone["pairs_on_each"]) == (1, sharded.PAIRS)
    assert (report["devices"], report["pairs_on_each"]) == (8, sharded.PAIRS // 8)
    assert report["rows_on_each"] == sharded.PAIRS // 8
    assert_same(alone, report)
    # Pairs need no communication at all, and the points of one pair only sums.
    assert (report["pairs_talk"], report["points_talk"]) == ([], ["all-reduce"])
    report["pairs"][0][3] *= 1 + 1e-9
    with pytest.raises(AssertionError, match="Mismatched"):
        assert_same(alone, report)


def test_processes(alone):
    with socket.socket() as probe:  # a free port
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    for report in reports(*(start(1, address, "2", str(process)) for process in range(2))):
        assert (report["devices"], report["pairs_on_each"]) == (2, sharded.PAIRS // 2)
        assert report["rows_on_each"] == sharded.PAIRS // 2
        assert_same(alone, report)
