"""The files of a report: written whole, in place of those of an earlier one, or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from finescale.data.atomic import atomic, explained
from finescale.errors import InputError
from finescale.verify import figures
from finescale.verify.page import render, render_several
from finescale.verify.summary import as_csv, as_csv_of_several, plain
from finescale.verify.variables import folders

FILES = ("scores.json", "scores.csv", "report.html", "overview.png")
FIGURES = "figures"


def folder(path: Path, overwrite: bool) -> Path:
    """The folder of a report that may be written.

    Raises:
        InputError: if it is a file, or holds a report and nothing says to replace it.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"the output {path} is a file, but must be a folder: choose another name")
    there = [name for name in FILES if (path / name).exists()]
    if there and not overwrite:
        raise InputError(f"{path} already holds {', '.join(there)}: choose another folder or give --overwrite")
    return path


def one(summary: Mapping[str, Any], pictures: Sequence[figures.Picture]) -> dict[str, bytes]:
    """All files of the report of one variable, name -> bytes: scores alone where there are no pictures."""
    made = {"scores.json": _json(summary), "scores.csv": as_csv(summary).encode()}
    if not pictures:
        return made
    made |= {"overview.png": pictures[0].files["png"], "report.html": render(summary, pictures).encode()}
    return made | {f"{FIGURES}/{p.name}.{end}": data for p in pictures for end, data in p.files.items()}


def several(summary: Mapping[str, Any], pictures: Mapping[str, Sequence[figures.Picture]]) -> dict[str, bytes]:
    """All files of the report of several variables: a first page, all scores, and a folder with the report of each."""
    parts = summary["variables"]
    made = {"scores.json": _json(summary), "scores.csv": as_csv_of_several(parts, summary["joint"]).encode()}
    maps = {name: drawn[0] for name, drawn in pictures.items() if drawn}
    if maps:
        made["overview.png"] = next(iter(maps.values())).files["png"]
        made["report.html"] = render_several(summary, maps).encode()
    for name, slug in summary["folders"].items():
        made |= {f"{slug}/{file}": data for file, data in one(parts[name], pictures[name]).items()}
    return made


def write(path: Path, contents: Mapping[str, bytes]) -> None:
    """Write all files under temporary names, then give them theirs: a full disk leaves none that is half written."""
    old = set(_earlier(path))
    with explained(path), ExitStack() as waiting:
        for name, data in contents.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            waiting.enter_context(atomic(path / name)).write_bytes(data)
    for file in old - {path / name for name in contents}:  # of an earlier report, of other data
        file.unlink(missing_ok=True)


def _earlier(path: Path) -> list[Path]:
    """Files that an earlier report there may have left: its pages and figures, and the reports of its variables."""
    drawn = [f"{FIGURES}/{name}.{end}" for name in figures.NAMES for end in ("png", "svg", "gif")]
    found = [path / name for name in (*drawn, *FILES)]
    for slug in _folders(path / "scores.json"):
        found += [path / slug / name for name in (*drawn, *FILES)]
    return found


def _folders(scores: Path) -> list[str]:
    """The folders of the variables of an earlier report; none where it had one, or is none of ours."""
    try:
        found = json.loads(scores.read_bytes())["variables"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []
    return list(folders([str(name) for name in found]).values()) if isinstance(found, dict) else []


def _json(summary: Mapping[str, Any]) -> bytes:
    return json.dumps(plain(summary), indent=1, ensure_ascii=False, allow_nan=False).encode()
