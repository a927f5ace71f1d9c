"""Every notebook runs from top to bottom, and is committed as it came out of a run: with its
pictures, and small.
"""

import contextlib
import copy
import os
from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
import nbformat  # noqa: E402  # comes with nbclient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
# No name is left, and nothing looks for garbage, which takes seconds where JAX is at work.
FORGET = "import gc; gc.disable(); gc.freeze()\n%reset -f"
LONGEST = "07_variational_inference"  # first, so that no worker waits for it at the end
every = pytest.mark.parametrize(
    "path",
    sorted(NOTEBOOKS, key=lambda path: path.stem != LONGEST),
    ids=lambda path: path.stem,
)


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@contextlib.contextmanager
def kernel(**environment):
    """A fresh one of this environment."""
    client = nbclient.NotebookClient(
        nbformat.v4.new_notebook(),
        timeout=120,
        kernel_name="python3",
        resources={"metadata": {"path": str(NOTEBOOKS[0].parent)}},
    )
    with client.setup_kernel(env=os.environ | environment):
        yield client


@pytest.fixture(scope="module")
def shared():
    """For many notebooks: to import takes as long as to run, and small programs are the same."""
    with kernel() as client:
        yield client


@pytest.fixture(scope="module")
def optimising():
    """For one that computes for longer than it compiles."""
    flags = os.environ["XLA_FLAGS"].replace("optimization_level=0", "optimization_level=1")
    with kernel(XLA_FLAGS=flags) as client:
        yield client


def execute(client, notebook):
    """A copy of it, run where nothing is defined; any error in a cell raises."""
    fresh = copy.deepcopy(notebook)
    for cell in code_cells(fresh):
        cell.outputs, cell.execution_count = [], None
    forget = nbformat.v4.new_code_cell(FORGET)
    client.nb = nbformat.v4.new_notebook(cells=[forget, *fresh.cells])
    client.reset_execution_trackers()
    for index, cell in enumerate(client.nb.cells):
        client.execute_cell(cell, index)
    return fresh


def complaints(notebook, size):
    """What is wrong with a notebook as it is committed."""
    cells = code_cells(notebook)
    outputs = [output for cell in cells for output in cell.outputs]
    found = {
        "more than 12 code cells": len(cells) > 12,
        "not in order": [cell.execution_count for cell in cells] != list(range(1, len(cells) + 1)),
        "no picture": not any("image/png" in output.get("data", {}) for output in outputs),
        "nothing printed": not any(output.get("name") == "stdout" for output in outputs),
        "a warning or an error": any(
            o.output_type == "error" or o.get("name") == "stderr" for o in outputs
        ),
        "where or when it ran": any(cell.metadata for cell in cells),
        "not below 600 kB": size >= 600_000,
    }
    return [text for text, wrong in found.items() if wrong]


@every
def test_is_committed_as_it_came_out_of_a_run(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert not complaints(notebook, path.stat().st_size)


def test_complaints_can_be_had():
    notebook, cell = read(NOTEBOOKS[0]), nbformat.v4.new_code_cell("1 / 0")
    cell.metadata["execution"] = {"iopub.execute_input": "2020-01-01T00:00:00Z"}
    notebook.cells = [cell] * 13
    wanted = {
        "more than 12 code cells",
        "not in order",
        "no picture",
        "nothing printed",
        "where or when it ran",
    }
    assert set(complaints(notebook, 10**6)) == wanted | {"not below 600 kB"}


@every
@pytest.mark.timeout(240)
def test_runs(path, request):
    client = request.getfixturevalue("optimising" if path.stem == LONGEST else "shared")
    notebook = read(path)
    printed = lambda cells: [any(o.get("name") == "stdout" for o in cell.outputs) for cell in cells]
    assert printed(code_cells(execute(client, notebook))) == printed(code_cells(notebook))


@pytest.mark.timeout(120)
def test_errors_are_fatal(shared):
    """Names of an earlier notebook are not known to the next."""
    for source, error in (("1 / 0", "ZeroDivisionError"), ("known", "NameError")):
        cells = [nbformat.v4.new_code_cell("known = 1"), nbformat.v4.new_code_cell(source)]
        with pytest.raises(nbclient.exceptions.CellExecutionError, match=error):
            execute(shared, nbformat.v4.new_notebook(cells=cells[-1:]))
        execute(shared, nbformat.v4.new_notebook(cells=cells[:1]))


def test_all_of_them_are_here():
    assert [path.stem[:2] for path in NOTEBOOKS] == [
        f"{i:02d}" for i in range(1, len(NOTEBOOKS) + 1)
    ]
