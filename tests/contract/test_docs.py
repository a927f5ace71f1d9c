"""Docstrings of public names say what they must, and their examples run; README's blocks too."""

import doctest
import inspect
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import gmmjax
from gmmjax import interop, plot

ROOT = Path(__file__).parents[2]
PUBLIC = {
    f"{module.__name__}.{name}": value
    for module in (gmmjax, interop, plot)
    for name, value in vars(module).items()
    if callable(value)
    and not name.startswith("_")
    and getattr(value, "__module__", "").startswith(
        "gmmjax._" if module is gmmjax else module.__name__
    )
}
PARTNERS = {
    "numpyro": "numpyro",
    "distrax": "distrax",
    "torch": "torch",
    "ott": "ott",
    "gmmx": "gmmx",
}
PARTNERS["tfp"] = "tensorflow_probability.substrates.jax"


@pytest.mark.parametrize("name", PUBLIC)
@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")  # of partners
def test_examples_run(name):
    if (partner := name.rpartition("_")[2]) in PARTNERS:
        pytest.importorskip(PARTNERS[partner])
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner()
    (example,) = finder.find(PUBLIC[name], name, module=False, globs={})
    assert example.examples, "no example"
    code = "\n".join(e.source for e in example.examples)
    with jax.numpy_rank_promotion("allow" if partner in PARTNERS else "raise"):
        assert runner.run(example).failed == 0, code


@pytest.mark.parametrize("name", [n for n, value in PUBLIC.items() if inspect.isfunction(value)])
def test_docstrings_are_complete(name):
    text = inspect.getdoc(PUBLIC[name])
    sections = {"Args:", "Returns:", "Raises:", "Example:"}
    sections -= (
        {"Raises:"} if name == "gmmjax.iid" else {"Returns:"} if name == "gmmjax.save" else set()
    )
    assert all(section in text for section in sections)
    for parameter in inspect.signature(PUBLIC[name]).parameters:
        assert f"{parameter}:" in text, parameter
    if inspect.signature(PUBLIC[name]).return_annotation is gmmjax.Estimate:
        assert "Reference:" in text
        assert "nats" in text or "units" in text.lower()


def test_importing_pulls_in_no_extra():
    extras = {"sklearn", "scipy.stats", "matplotlib", "tqdm"}
    code = f"import sys, gmmjax; print({extras} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.strip() == "set()"


def test_readme_examples_print_what_they_say():
    blocks = re.findall(
        r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", (ROOT / "README.md").read_text(), re.S
    )
    assert blocks
    # Looking for garbage takes a second and finds nothing.
    script = "\n".join(["import gc; gc.disable()", *(code for code, _ in blocks)])
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "".join(output for _, output in blocks)
