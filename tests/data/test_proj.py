"""pyproj is loaded before eccodes or not at all: after it the process would end in an abort."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import pytest

from finescale.data.proj import bind_proj, projections


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """As if both were installed and neither loaded."""
    found = ModuleType("pyproj")
    monkeypatch.delitem(sys.modules, "pyproj", raising=False)
    monkeypatch.delitem(sys.modules, "gribapi", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(importlib, "import_module", lambda name: sys.modules.setdefault(name, found))
    return found


def test_pyproj_comes_first(both: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    bind_proj()
    assert sys.modules["pyproj"] is both
    monkeypatch.setitem(sys.modules, "gribapi", ModuleType("gribapi"))
    assert projections() is both


def test_not_after_eccodes(both: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gribapi", ModuleType("gribapi"))
    bind_proj()
    assert projections() is None and "pyproj" not in sys.modules


def test_not_where_it_is_not_installed(both: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name == "gribapi" else None)
    bind_proj()
    assert projections() is None
