"""What a file or a model folder holds, in a few lines, without torch."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finescale.config.shipped import FILES, found
from finescale.data.extent import parse
from finescale.data.files import gridded, open_store, select
from finescale.data.lazy import stored_chunks, tiles
from finescale.data.named import Paths, listed, title
from finescale.data.place import Remote, exists, place, reached
from finescale.errors import InputError
from finescale.grids import coordinates, curvilinear

SAMPLE_FRAMES = 8
"""Frames that statistics are taken from."""
TILE = 2**20
"""Cells of a frame that are read at a time."""
MAX_FACTOR = 32


def describe(paths: Paths) -> str:
    """Lines about a field, or about a model where ``paths`` is one folder with config.yaml, a name or a URL of one.

    Raises:
        InputError: if it is neither.
    """
    texts = listed(paths)
    model = _model_of(texts[0]) if len(texts) == 1 else None
    return _file(paths) if model is None else _model(model, texts[0])


def _model_of(text: str) -> Path | None:
    """The folder of the model that ``text`` names; None where it names none."""
    where = place(text)
    if isinstance(where, Remote):
        with reached(where):
            return found(text) if (where / FILES[0]).content() is not None else None
    folder = where if exists(where) else found(text)
    return folder if exists(folder / FILES[0]) else None


def _file(paths: Paths) -> str:
    ds, path = open_store(paths, chunks=None), title(paths)
    names = gridded(ds)
    if not names:
        select(ds, None, path)  # says what is missing
    lines = [path] + [f"  {key}: {ds.attrs[key]}" for key in ("title", "source", "license") if key in ds.attrs]
    for name in names:
        lines += _variable(select(ds, str(name), path))
    residual = ds.attrs.get("finescale_conservation_residual")
    if residual is not None:
        lines.append(f"  downscaled by {ds.attrs.get('finescale_factor')}, conservation residual {float(residual):.1e}")
    return "\n".join(lines)


def _variable(da: xr.DataArray) -> list[str]:
    grid = coordinates.read_grid(da)
    time, y, x = da.dims[-3:]
    unit = "degrees" if grid.spherical else str(da[y].attrs.get("units", "cells")) if y in da.coords else "cells"
    members = f", {da.sizes['realization']} members" if "realization" in da.dims else ""
    size = f"{grid.shape[1]} x {grid.shape[2]} cells ({y} x {x}){members}"
    spacing = f"spacing {_step(grid.y):g} x {_step(grid.x):g} {unit}" + (f", {grid.crs}" if grid.crs else "")
    lines = [
        f"  {da.name} [{da.attrs.get('units', 'no units')}] {da.attrs.get('long_name', '')}".rstrip(),
        f"    grid: {size}, {spacing}",
        f"    {y} {grid.y[0]:g} to {grid.y[-1]:g}, {x} {grid.x[0]:g} to {grid.x[-1]:g} (cell edges)",
        *_places(da),
        f"    times: {_times(da, time, grid.time)}",
        f"    values: {_values(da, time)}",
    ]
    for axis, n in zip(("time", "y", "x"), grid.shape, strict=True):
        whole = [str(f) for f in range(2, min(n, MAX_FACTOR) + 1) if n % f == 0]
        lines.append(f"    factors that divide {n} cells in {axis}: {', '.join(whole) or 'none'}")
    return lines


def _places(da: xr.DataArray) -> list[str]:
    """Where the cells of a grid with latitude and longitude of each lie."""
    found = curvilinear.places(da)
    ends = [f"{name} {float(da[name].min()):g} to {float(da[name].max()):g}" for _, name in sorted(found.items())]
    return [f"    {', '.join(ends)} (of each cell)"] if ends else []


def _step(edges: np.ndarray) -> float:
    return float(np.abs(np.diff(edges)).mean())


def _times(da: xr.DataArray, time: Any, edges: np.ndarray) -> str:
    n = da.sizes[time]
    if time not in da.coords:
        return f"{n}, without a coordinate"
    first, last = (str(v).split(".")[0] for v in (da[time].values[0], da[time].values[-1]))
    if n == 1:
        return f"1, {first}"
    every = f"every {_step(edges):g} s" if coordinates.even(edges) else "uneven"
    return f"{n}, {first} to {last}, {every}"


def _values(da: xr.DataArray, time: Hashable) -> str:
    at = np.unique(np.linspace(0, da.sizes[time] - 1, SAMPLE_FRAMES).astype(int))
    found = _Sums()
    part = da.isel(realization=0) if "realization" in da.dims else da
    for frame, tile in _parts(part, at):
        found.add(np.asarray(part[dict(zip(part.dims, (frame, *tile), strict=True))].values, dtype=np.float64))
    where = "" if len(at) == da.sizes[time] else f" (of {len(at)} frames)"
    if found.valid == 0:
        return f"all missing{where}"
    text = f"min {found.low:.4g}, mean {found.total / found.valid:.4g}, max {found.high:.4g}"
    text += f", missing {1 - found.valid / found.cells:.1%}"
    if found.low >= 0:
        text += f", above zero {found.positive / found.valid:.1%}"
    return text + where


def _parts(da: xr.DataArray, frames: NDArray[np.int64]) -> Iterator[tuple[int, tuple[slice, slice]]]:
    """Frames and tiles of them, all frames of a tile after one another, since chunks may hold several."""
    stored = stored_chunks(da)
    chunks = None if stored is None else (stored[1], stored[2])
    for tile in tiles((da.shape[1], da.shape[2]), chunks, TILE):
        for frame in frames:
            yield int(frame), tile


@dataclass
class _Sums:
    """Sums over values, tile by tile."""

    cells: int = 0
    valid: int = 0
    positive: int = 0
    total: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    def add(self, values: NDArray[np.float64]) -> None:
        valid = values[np.isfinite(values)]
        self.cells += values.size
        self.valid += valid.size
        self.positive += int((valid > 0).sum())
        self.total += float(valid.sum())
        self.low, self.high = min(self.low, valid.min(initial=math.inf)), max(self.high, valid.max(initial=-math.inf))


def _model(path: Path, said: str) -> str:
    import yaml

    from finescale.config.document import read_yaml
    from finescale.config.schema import call
    from finescale.model.remembers import Remembers

    config = read_yaml(path / "config.yaml")
    lines = [f"{said}: a finescale model"]
    trained = parse(config.pop("trained", None) or [], f"{path / 'config.yaml'}, section trained,")
    units = {name: (one or {}).get("units") for name, one in (config.get("variables") or {}).items()}
    remembers = call(Remembers, config.pop("remembers", None), "remembers")
    for key, value in config.items():
        text = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False).splitlines()[0]
        lines.append(f"  {key}: {text}")
    lines += [f"  trained on: {one.text}" for one in trained]
    lines += [f"  remembers: {one}" for one in remembers.lines(units)]
    return "\n".join([*lines, f"  weights: {_weights(path / 'weights.safetensors')}"])


def _weights(path: Path) -> str:
    """Numbers in a safetensors file by part; its header is checked against its size, nothing else is read."""
    from safetensors import safe_open

    if not path.is_file():
        return "none yet (training has not finished)"
    parts: dict[str, int] = {}
    try:
        with safe_open(path, "np") as file:
            for name in file.keys():  # noqa: SIM118  (safe_open is no dict)
                part = name.split(".")[0]
                parts[part] = parts.get(part, 0) + math.prod(file.get_slice(name).get_shape())
    except Exception as error:  # its errors have no class in common
        raise InputError(
            f"{path} is truncated or no safetensors file ({' '.join(str(error).split())[:120]}): train or copy the "
            "model again"
        ) from error
    return f"{sum(parts.values()):,} numbers ({', '.join(f'{part} {n:,}' for part, n in parts.items())})"
