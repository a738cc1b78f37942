"""What pyproject.toml declares is what the source imports: no more, no less."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Where the name in the registry is not that of the module.
MODULES = {
    "pywavelets": "pywt",
    "pyyaml": "yaml",
    "pillow": "PIL",
    "netcdf4": "netCDF4",
    "scikit-image": "skimage",
}
# Modules that come with another's package.
COME_WITH = {"gribapi": "eccodes"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {name: given for name, given in PROJECT["optional-dependencies"].items() if name not in ("dev", "docs")}


def module_of(requirement: str) -> str:
    name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower()
    return MODULES.get(name, name.replace("-", "_"))


def imported() -> set[str]:
    """Top-level modules that the source imports, beside Python's own and its own."""
    found: set[str] = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    return {COME_WITH.get(name, name) for name in found - sys.stdlib_module_names - {"finescale"}}


@pytest.mark.parametrize("requirement", [*PROJECT["dependencies"], *(r for given in EXTRAS.values() for r in given)])
def test_what_is_declared_is_imported(requirement: str) -> None:
    assert module_of(requirement) in imported()


def test_what_is_imported_is_declared() -> None:
    declared = {module_of(r) for given in (PROJECT["dependencies"], *EXTRAS.values()) for r in given}
    assert imported() == declared


def test_constraints_pin_what_is_declared() -> None:
    pinned = {
        line.split("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    wanted = [
        *PROJECT["dependencies"],
        *(r for name in ("dev", "docs") for r in PROJECT["optional-dependencies"][name]),
    ]
    assert not {re.split(r"[^\w.-]", r, maxsplit=1)[0].lower().replace("_", "-") for r in wanted} - pinned
