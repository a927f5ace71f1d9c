"""Docstrings of public names say what they must, and their examples run; README's blocks too."""

import ast
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

ROOT = Path(__file__).parent.parent
PUBLIC = {
    f"{module.__name__}.{name}": value
    for module in (gmmjax, interop, plot)
    for name, value in vars(module).items()
    if callable(value)
    and not name.startswith("_")
    and getattr(value, "__module__", "").startswith("gmmjax._" if module is gmmjax else module.__name__)
}
LAYERS = [
    {"_linalg", "_validate", "_transport", "_progress"},
    {"_gmm"},
    {"_build", "_unconstrained", "_points", "_density", "_gaussian", "_wasserstein", "_allocation"},
    {"_sample", "_io", "_algebra", "_blocks", "_lines", "_products", "_gaussian_divergences", "_variational"},
    {"_controls", "_integrate", "_information", "_unseen"},
    {"_estimate", "_quadrature", "_bounds", "_approximations", "_tails"},
    {"_logs", "_balanced"},
    {"_divergences", "_js", "_entropies", "_ratios", "_sliced", "_target", "_power_integral"},
    {"_tolerance", "_gradient", "_pairwise"},
    {"_powers"},
    {"_compare", "_descent", "_merge", "_em", "_whiten", "_clusters", "_segments"},
    {"_fit", "_starts", "_search"},
    {"_reduce"},
    {"interop._partner"},
    {"interop._distributions", "interop._sklearn", "interop._ott", "interop._gmmx"},
    {"interop._numpyro", "interop._distrax", "interop._tfp", "interop._torch"},
    {"interop._any"},
    {"interop", "plot"},
    {"__init__"},
    {"_demo"},
    {"_commands"},
    {"_cli"},
    {"__main__"},
]


PARTNERS = {"numpyro": "numpyro", "distrax": "distrax", "torch": "torch", "ott": "ott", "gmmx": "gmmx"}
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
    sections -= {"Raises:"} if name == "gmmjax.iid" else {"Returns:"} if name == "gmmjax.save" else set()
    assert all(section in text for section in sections)
    for parameter in inspect.signature(PUBLIC[name]).parameters:
        assert f"{parameter}:" in text, parameter
    if inspect.signature(PUBLIC[name]).return_annotation is gmmjax.Estimate:
        assert "Reference:" in text
        assert "nats" in text or "units" in text.lower()


def _dotted(path):
    return ".".join(path.relative_to(ROOT / "gmmjax").with_suffix("").parts).removesuffix(".__init__")


def test_modules_import_in_one_direction():
    level = {name: i for i, layer in enumerate(LAYERS) for name in layer}
    files = {_dotted(path): path for path in (ROOT / "gmmjax").rglob("*.py")}
    assert set(files) == set(level)
    for name, path in files.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gmmjax"):
                inner = node.module.removeprefix("gmmjax").removeprefix(".")
                used = [inner] if inner else [a.name for a in node.names if a.name in level] or ["__init__"]
                assert all(level[u] < level[name] for u in used), f"{name} imports {used}"
        assert len(path.read_text().splitlines()) <= 250, name


def test_importing_pulls_in_no_extra():
    code = "import sys, gmmjax; print({'sklearn', 'scipy.stats', 'matplotlib', 'tqdm'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "set()"


def test_readme_examples_print_what_they_say():
    blocks = re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", (ROOT / "README.md").read_text(), re.S)
    assert blocks
    script = "\n".join(code for code, _ in blocks)
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "".join(output for _, output in blocks)
