"""Surveys kept beside the stores that they are of, so that a store is gone through once.

A survey of ``rain.zarr`` is the file ``.rain.zarr.KEY.finescale-survey`` in the same folder, or, where nothing may be
written there, in the user's cache folder (``$XDG_CACHE_HOME/finescale``); where neither may be, it is made again. KEY
is a digest of everything that a survey depends on: sizes and times of the files, names, units, coordinates and shape of
the field, crops and criteria. The file is a safetensors one with a digest of its content; one that is damaged, or of
something else, is no survey.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from safetensors.numpy import load, save

from finescale.data.atomic import atomic
from finescale.training.survey import MOST, Criteria, Survey, Triple

SUFFIX = "finescale-survey"
FORMAT = 1
"""To be raised when a survey of the same field changes."""
KEPT = 8
"""Surveys of a store, of other selections or crops; older ones go."""
ARRAYS = ("positions", "amounts")


def key_of(
    variables: Sequence[xr.DataArray], stores: Sequence[Path], crop: Triple, stride: int, criteria: Criteria
) -> str:
    """A digest of what a survey depends on; no values of the field are read."""
    said: dict[str, Any] = {
        "format": [FORMAT, MOST],
        "stores": [[str(path.absolute()), *_state(path)] for path in stores],
        "variables": [[str(da.name), list(da.shape), str(da.dtype), _plain(da.attrs)] for da in variables],
        "crop": [*crop, stride],
        "criteria": asdict(criteria),
    }
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for da in variables:
        for name in sorted(map(str, da.coords)):
            values = np.asarray(da[name].values)
            # Dates of other calendars are objects: what they say of themselves.
            text = "\n".join(map(str, values.flat)).encode() if values.dtype.kind == "O" else values.tobytes()
            digest.update(name.encode() + text)
    return digest.hexdigest()


def kept(key: str, stores: Sequence[Path]) -> Survey | None:
    """The survey of a key, if it is there and whole."""
    for path in _places(key, stores):
        with suppress(Exception):  # whatever is wrong with it
            content = path.read_bytes()
            found = _read(content, key)
            if found is not None:
                return found
    return None


def keep(survey: Survey, key: str, stores: Sequence[Path]) -> Path | None:
    """Write a survey where it is found again; where it cannot be written, it is not."""
    arrays = {name: np.ascontiguousarray(getattr(survey, name)) for name in ARRAYS}
    rest = {field.name: getattr(survey, field.name) for field in fields(Survey) if field.name not in ARRAYS}
    said = {"key": key, "survey": json.dumps(rest), "digest": ""}
    said["digest"] = _digest(arrays, said)
    content = save(arrays, {"finescale": json.dumps(said)})
    for path in _places(key, stores):
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic(path) as temporary:
                temporary.write_bytes(content)
            _tidy(path, stores)
            return path
    return None


def _read(content: bytes, key: str) -> Survey | None:
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    said, arrays = json.loads(header["__metadata__"]["finescale"]), load(content)
    digest = said.pop("digest")
    if said["key"] != key or digest != _digest(arrays, said | {"digest": ""}):
        return None
    rest: dict[str, Any] = {
        name: tuple(one) if isinstance(one, list) else one for name, one in json.loads(said["survey"]).items()
    }
    return Survey(arrays["positions"], arrays["amounts"], **rest)


def _digest(arrays: dict[str, Any], said: dict[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for name in ARRAYS:
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode() + arrays[name].tobytes())
    return digest.hexdigest()


def _places(key: str, stores: Sequence[Path]) -> Iterator[Path]:
    """Where a survey may lie, best first."""
    name = f".{stores[0].name[:128]}.{key[:16]}.{SUFFIX}"
    yield stores[0].absolute().parent / name
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    yield Path(home).expanduser() / "finescale" / name


def _tidy(path: Path, stores: Sequence[Path]) -> None:
    """Only the youngest surveys of a store stay."""
    start, end = f".{stores[0].name[:128]}.", f".{SUFFIX}"
    ours = [one for one in path.parent.iterdir() if one.name.startswith(start) and one.name.endswith(end)]
    for old in sorted(ours, key=lambda one: one.stat().st_mtime_ns)[:-KEPT]:
        old.unlink(missing_ok=True)


def _state(path: Path) -> list[int]:
    """Number, bytes and latest change of a store's files."""
    if not path.is_dir():
        stat = path.stat()
        return [1, stat.st_size, stat.st_mtime_ns]
    count = size = latest = 0
    for folder, _, names in os.walk(path):
        for name in names:
            stat = os.stat(os.path.join(folder, name))
            count, size, latest = count + 1, size + stat.st_size, max(latest, stat.st_mtime_ns)
    return [count, size, latest]


def _plain(attrs: Any) -> dict[str, str]:
    return {str(name): str(value) for name, value in attrs.items()}
