"""Tests lie where the code that they test does, share fixtures instead of imports, and use public names alone.

``hostile/``, tables of cases that also run without pytest, is a package of its own, whose files import one another.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import finescale

HERE = Path(__file__).parent
FILES = sorted(HERE.rglob("*.py"))
HOSTILE = HERE / "hostile"
NAMES = [str(path.relative_to(HERE)) for path in FILES]


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def root(node: ast.expr) -> str:
    """The name that a chain of attributes and calls begins with; empty where it begins with something else."""
    while isinstance(node, ast.Attribute | ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def imports(node: ast.AST) -> tuple[list[str], list[str]]:
    """What a statement imports, in full ("." for what is relative), and the names that it binds."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names], [(a.asname or a.name).split(".")[0] for a in node.names]
    if isinstance(node, ast.ImportFrom):
        full = [f"{node.module}.{alias.name}" for alias in node.names]
        return ["."] if node.level else full, [alias.asname or alias.name for alias in node.names]
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
        call = node.value
        if ast.unparse(call.func) == "pytest.importorskip" and isinstance(call.args[0], ast.Constant):
            return [str(call.args[0].value)], [ast.unparse(target) for target in node.targets]
    return [], []


def breaches(source: str, tests: set[str], package: str = "") -> Iterator[str]:
    """Imports of other test modules (by name ``tests``, or outside ``package``) and private names, line by line.

    What other libraries call private is their affair, and so is what a class of a test's own does with its ``self``.
    """
    tree, foreign = ast.parse(source), {"self", "cls"}
    for node in ast.walk(tree):
        modules, names = imports(node)
        if package and all(module.startswith(package) for module in modules):
            continue
        if any(module == "." or module.split(".")[0] in {"tests", "conftest", *tests} for module in modules):
            yield f"line {node.lineno}: {ast.unparse(node)}"
        elif not all(module.startswith("finescale") for module in modules):
            foreign.update(names)
        elif any(map(private, (word for module in modules for word in module.split(".")))):
            yield f"line {node.lineno}: {ast.unparse(node)}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and private(node.attr) and root(node) not in foreign:
            yield f"line {node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.Call) and len(node.args) > 1 and ast.unparse(node.func).endswith("attr"):
            # getattr(thing, "_name"), setattr(thing, "_name", …), monkeypatch.setattr("finescale.module._name", …)
            thing, name = node.args[:2]
            if isinstance(thing, ast.Constant):
                words = str(thing.value).split(".")
                wrong = words[0] == "finescale" and any(map(private, words))
            else:
                wrong = isinstance(name, ast.Constant) and private(str(name.value)) and root(thing) not in foreign
            if wrong:
                yield f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_no_imports_of_other_tests_and_no_private_names(path: Path) -> None:
    package = "tests.hostile" if HOSTILE in path.parents else ""
    tests = {file.stem for file in FILES if HOSTILE not in file.parents}
    assert not list(breaches(path.read_text(encoding="utf-8"), tests, package))


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from tests.config.test_build import TINY", 1),
        ("from .test_build import TINY", 1),
        ("import test_build", 1),
        ("from test_build import TINY", 1),
        ("from finescale.training.fit import _samples", 1),
        ("from finescale.training.fit import _samples as samples", 1),
        ("import finescale._fit as fit", 1),
        ("from finescale.training import fit\nfit._samples()", 1),
        ("from finescale.training import loop\nloop.Loop(1).part._report", 1),
        ("def test(model):\n    model.latent._kept", 1),
        (
            "from finescale.inference.tasks import Tasks\nmonkeypatch.setattr(Tasks, '_read', 1)",
            1,
        ),
        ("def test(monkeypatch):\n    monkeypatch.setattr('finescale.data.files._open', 1)", 1),
        ("def test(model):\n    getattr(model, '_kept')", 1),
        ("import torch\ndef test(monkeypatch):\n    monkeypatch.setattr(torch.cpu, '_is_avx', 1)", 0),
        ("def test(monkeypatch):\n    monkeypatch.setattr('torch.cpu._is_avx', 1)", 0),
        ("from pysteps import sal\nsal._sal(1)", 0),
        ("sal = pytest.importorskip('pysteps.sal')\nsal._sal(1)", 0),
        ("fit = pytest.importorskip('finescale.training.fit')\nfit._samples()", 1),
        ("class Fake:\n    def f(self):\n        return self._x.__class__", 0),
        ("from finescale.training import fit\nfit.fit()", 0),
    ],
)
def test_what_counts_as_a_breach(source: str, found: int) -> None:
    assert len(list(breaches(source, {"test_build"}))) == found


def test_folders_are_those_of_the_code() -> None:
    rooms = {path.parent.name for path in Path(finescale.__file__).parent.glob("*/__init__.py")}
    folders = {path.name for path in HERE.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert folders - {"hostile"} == rooms, "every folder of the package has one of tests, and no other"
