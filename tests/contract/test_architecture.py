"""Rooms of the house: imports run in one direction between folders, in no circle inside one, and
files are short.

Everything is read from the files themselves: there is no list to keep.
"""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "gmmjax"


def read_imports(package):
    """What each module of a package imports of it: dotted names relative to the package, "" is the
    package itself.
    """
    files = {_dotted(path, package): path for path in sorted(package.rglob("*.py"))}
    return {name: _imported(path, package.name, files) for name, path in files.items()}


def _dotted(path, package):
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(path, package, files):
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == package:
            inner = node.module.removeprefix(package).removeprefix(".")
            for alias in node.names:
                name = f"{inner}.{alias.name}".removeprefix(".")
                found.add(name if name in files else inner)
    return found


def room(name):
    """The folder of a module, or the module itself where it stands at the top."""
    return name.split(".")[0]


def check_one_direction(imports):
    """Raise `CycleError` where rooms, or the modules inside a room, import each other in a
    circle.
    """
    rooms = {room(name): set() for name in imports}
    for name, used in imports.items():
        rooms[room(name)] |= {room(other) for other in used} - {room(name)}
    TopologicalSorter(rooms).prepare()
    for folder in rooms:
        inside = {name: used for name, used in imports.items() if room(name) == folder}
        TopologicalSorter({name: used & set(inside) for name, used in inside.items()}).prepare()


def test_imports_run_in_one_direction():
    check_one_direction(read_imports(PACKAGE))


@pytest.mark.parametrize(
    "files",
    [
        {"_a/x.py": "from pkg._b import y", "_b/y.py": "from pkg._a.z import f", "_a/z.py": ""},
        {"_a/x.py": "from pkg._a import z", "_a/z.py": "from pkg._a.x import f"},
        {"__init__.py": "from pkg._a import z", "_a/z.py": "import jax\nfrom pkg import f"},
    ],
    ids=["between folders", "inside a folder", "of the package"],
)
def test_circles_are_found(tmp_path, files):
    for name, text in files.items():
        path = tmp_path / "pkg" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with pytest.raises(CycleError):
        check_one_direction(read_imports(tmp_path / "pkg"))


def rows_of(readme):
    """The folders in the rows of README's drawing, from the top."""
    lines = re.findall(r"^    ((?:\w+/ +)+)", readme, re.MULTILINE)
    return [re.findall(r"(\w+)/", line) for line in lines]


def check_downwards(rows, imports):
    """No folder imports one of its own row or of a row above it."""
    height = {folder: -i for i, row in enumerate(rows) for folder in row}
    for name, used in imports.items():
        for other in {room(other) for other in used} - {room(name)}:
            if {room(name), other} <= set(height):
                assert height[other] < height[room(name)], (name, other)


def test_imports_run_down_the_rows_of_readme():
    rows = rows_of((PACKAGE.parent / "README.md").read_text())
    imports = read_imports(PACKAGE)
    check_downwards(rows, imports)
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert {folder for row in rows for folder in row} == folders
    with pytest.raises(AssertionError):
        check_downwards(rows[::-1], imports)


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_a_file_is_one_idea(path):
    assert len(path.read_text().splitlines()) <= 250


def test_no_folder_holds_more_than_fourteen_modules():
    folders = {path.parent for path in PACKAGE.rglob("*.py")} - {PACKAGE}
    assert all(
        len([p for p in folder.glob("*.py") if p.name != "__init__.py"]) <= 14 for folder in folders
    )


def test_a_private_folder_says_in_one_sentence_what_it_is():
    for folder in PACKAGE.glob("_[a-z]*/"):
        text = (folder / "__init__.py").read_text()
        (statement,) = ast.parse(text).body
        assert isinstance(statement, ast.Expr)
        assert statement.value.value.count(".") == 1, text
