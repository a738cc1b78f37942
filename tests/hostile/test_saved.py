"""Whatever stands in a saved model's configuration or in the journal of an interrupted run: work, or one line."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.hostile import made
from tests.hostile.cases import captured, names
from tests.hostile.mutations import subjects
from tests.hostile.mutations.values import KEYS, VALUES

from finescale.cli import main
from finescale.downscaler import Downscaler
from finescale.training import loop

PREDICT = ["downscale", "model", "coarse.nc", *subjects.PARTS, "-o"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A model, a field, a prediction of it in two forms: whole (whole.zarr), and interrupted (.o.partial.zarr)."""
    folder = tmp_path_factory.mktemp("saved")
    made.model(folder / "model")
    made.stored(made.rain(2, 8, 16), folder / "coarse.nc")
    with contextlib.chdir(folder), captured(), pytest.MonkeyPatch.context() as patch:
        assert main([*PREDICT, "whole.zarr"]) == 0
        patch.setattr(Downscaler, "finish", at(3, Downscaler.finish))
        assert main([*PREDICT, "o.zarr"]) == 130
    (folder / ".o.partial.zarr").rename(folder / "begun")
    yield folder


def at(count: int, function: Any) -> Any:
    """``function`` that is interrupted at a call."""
    calls = iter(range(1, count + 1))

    def counted(*given: Any) -> Any:
        if next(calls) == count:
            raise KeyboardInterrupt
        return function(*given)

    return counted


def outcome(words: list[str], folder: Path) -> int:
    """The exit code, 0 or 2; then with one line and nothing left behind."""
    there = names(folder)
    with contextlib.chdir(folder), captured() as streams:
        code = main(words)
    lines = [line for line in streams[1].splitlines() if not line.startswith("finescale: warning: ")]
    assert code in (0, 2), streams[1]
    if code == 2:
        assert len(lines) == 1 and lines[0].startswith("finescale: ") and len(lines[0]) < 1100
        assert names(folder) <= there
    return code


def keys(config: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in config.items():
        yield (*above, key)
        if isinstance(value, Mapping):
            yield from keys(value, (*above, key))


SAVED = made.CONFIG | {"trained": [], "remembers": {}, "weights": None}
"""Sections that are mutated, those besides a configuration's own too."""


@settings(max_examples=40)
@given(st.sampled_from(sorted(keys(SAVED))), VALUES, st.dictionaries(KEYS, VALUES, max_size=1))
def test_any_value_in_a_model(folder: Path, key: tuple[str, ...], value: object, more: dict[Any, Any]) -> None:
    path = folder / "model" / "config.yaml"
    whole = path.read_text()
    config = yaml.safe_load(whole)
    node = config
    for name in key[:-1]:
        node = node[name] if isinstance(node.get(name), dict) else node.setdefault("remembers", {})
    node[key[-1]] = value
    try:
        path.write_text(yaml.dump(config | more), encoding="utf-8")
        outcome(["info", "model"], folder)
        if outcome([*PREDICT, "m.nc"], folder) == 0:
            (folder / "m.nc").unlink()
    finally:
        path.write_text(whole)


LINES = st.one_of(
    VALUES.map(lambda value: json.dumps(value, default=str)), st.text('[]{},0123456789.e-"n\0 ', max_size=20)
)


@settings(max_examples=30)
@given(st.booleans(), st.lists(st.tuples(st.integers(0, 6), LINES), min_size=1, max_size=3), st.integers(0, 60))
def test_any_journal(folder: Path, more: bool, lines: list[tuple[int, str]], cut: int) -> None:
    """What is added to a journal, replaces lines of it, or is cut from its end."""
    part, out = folder / ".o.partial.zarr", folder / "o.zarr"
    for store in (part, out):
        shutil.rmtree(store, ignore_errors=True)
    shutil.copytree(folder / "begun", part)
    path = next(part.glob("*.jsonl"))
    begun = path.read_text().splitlines()
    journal = list(begun)
    for where, line in lines:
        journal[where:where] = [line]
        if not more:
            del journal[where + 1 : where + 2]
    text = "\n".join(journal)
    path.write_text(text[: max(len(text) - cut, 0)])
    same = path.read_text().splitlines()[:1] == begun[:1]
    code = outcome([*PREDICT, "o.zarr", "--resume"], folder)
    assert same or code == 2, "another run's, or none that is said"
    if code == 0:
        with xr.open_zarr(out, consolidated=False) as found, xr.open_zarr(folder / "whole.zarr") as whole:
            assert found["rain"].shape == whole["rain"].shape


def test_a_damaged_beginning_is_made_again(folder: Path) -> None:
    """Metadata and coordinates of an interrupted store are known: they are no reason to lose what is finished."""
    for name in ("zarr.json", "time/zarr.json", "rain/zarr.json", "lat/c/0"):
        part, out = folder / ".o.partial.zarr", folder / "o.zarr"
        for store in (part, out):
            shutil.rmtree(store, ignore_errors=True)
        shutil.copytree(folder / "begun", part)
        (part / name).write_bytes(b"{")
        assert outcome([*PREDICT, "o.zarr", "--resume"], folder) == 0
        with xr.open_zarr(out, consolidated=False) as found, xr.open_zarr(folder / "whole.zarr") as whole:
            xr.testing.assert_equal(found.load(), whole.load())


def test_a_damaged_log_costs_no_model(folder: Path) -> None:
    with contextlib.chdir(folder), captured(), pytest.MonkeyPatch.context() as patch:
        budget = ["data.path=fine.nc", "data.crop=16", "data.min_wet=0", "factor=1x4", "train.minutes=null"]
        steps = ["train.steps=4", "train.batch=2", "train.warmup=1", "train.checkpoint=0"]
        words = ["fit", "small.yaml", "-o", "trained", *subjects.setting([*budget, *steps])]
        made.stored(made.rain(4, 16, 32), Path("fine.nc"))
        Path("small.yaml").write_text(yaml.safe_dump({k: v for k, v in made.CONFIG.items() if k != "variables"}))
        patch.setattr(loop, "save_checkpoint", at(3, loop.save_checkpoint))
        assert main(words) == 130
        patch.undo()
        log = Path("trained/log.jsonl")
        log.write_bytes(b"[" * len(log.read_bytes()))
        assert main(words) == 0
        assert "Stage denoiser" in Path("trained/README.md").read_text()
