"""The examples of the public face: every function and class on the pages ``docs/api*.md`` has one, and it runs."""

from __future__ import annotations

import doctest
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import finescale

PAGES = sorted((Path(__file__).parents[1] / "docs").glob("api*.md"))
TEXT = "".join(page.read_text(encoding="utf-8").partition("## What is returned")[0] for page in PAGES)


def listed() -> list[str]:
    """The names on the pages; of a module whose members are listed, each."""
    names = re.findall(r"^\.\. auto(?:function|class|exception):: (finescale[\w.]*)$", TEXT, re.MULTILINE)
    for module in re.findall(r"^\.\. automodule:: (finescale[\w.]*)\n   :members:", TEXT, re.MULTILINE):
        room = import_module(module)
        names += [f"{module}.{name}" for name in room.__all__ if callable(getattr(room, name))]
    return names


def thing(name: str) -> Any:
    module, _, last = name.rpartition(".")
    return getattr(import_module(module), last)


@pytest.mark.parametrize("name", listed())
def test_the_example_of_a_name_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    examples = doctest.DocTestParser().get_doctest(thing(name).__doc__ or "", {}, name, name, 0)
    assert examples.examples, f"{name} has no example"
    said: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(examples, out=said.append)
    assert not said, "".join(said)


@pytest.mark.parametrize("room", ["finescale", "finescale.constraints", "finescale.plots", "finescale.verify"])
def test_the_pages_have_all_that_is_public(room: str) -> None:
    rooms = {"constraints", "plots", "verify"}
    values = {"BASELINES", "COLOURS", "STYLE"}
    wanted = set(import_module(room).__all__) - rooms - values
    assert wanted <= {name.rpartition(".")[2] for name in listed()}


def test_an_example_that_fails_is_seen() -> None:
    wrong = doctest.DocTestParser().get_doctest(
        ">>> finescale.Factor(2, 3).cells\n6\n", {"finescale": finescale}, "", "", 0
    )
    assert doctest.DocTestRunner(verbose=False).run(wrong, out=lambda text: None).failed == 1
