"""Stores of one or several variables written region by region: Zarr, which can be resumed, and NetCDF.

A store grows under a temporary name next to its own and is renamed once it is whole. Beside the data, a Zarr store
keeps a journal: a line of JSON that identifies the run, then a line for each finished task. A task is journalled after
its region is written, so that an interruption costs at most the tasks under way.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finescale.data.atomic import explained, partial_path, publish, remove
from finescale.data.files import attributes, check_output, consolidate, prepared
from finescale.data.renew import renew
from finescale.errors import InputError

JOURNAL = "finescale-run.jsonl"
Region = tuple[slice, ...]
Part = tuple[str, Region, NDArray[np.float32]]
"""A variable's name, a region of it, and its values there."""


class Store(Protocol):
    """A store under construction; ``done`` maps finished tasks to what was noted of them."""

    done: dict[int, list[float]]

    @property
    def resumable(self) -> bool:
        """Whether something is finished that a resumption can build on."""

    def write(self, task: int, parts: Sequence[Part], note: list[float]) -> None:
        """Write one task's regions and note it as finished."""

    def finish(self, attrs: Mapping[str, Any], variables: Mapping[str, Mapping[str, Any]]) -> None:
        """Add global attributes, and some of variables, and give the store its name."""

    def close(self) -> None:
        """Let go of the file, and of what is of no use for a resumption."""


@contextmanager
def whole_or_gone(path: Path, temporary: Path) -> Iterator[None]:
    """Delete the beginnings of a store that cannot be begun."""
    try:
        with explained(path):
            yield
    except BaseException:
        remove(temporary)
        raise


def open_output(
    path: str | Path,
    template: xr.Dataset,
    chunks: Mapping[str, tuple[int, ...]],
    identity: Mapping[str, Any],
    resume: bool,
    overwrite: bool,
) -> Store:
    """Begin, or resume, a store for the variables of ``template`` (their values are never read).

    Args:
        path: ends in .nc or .zarr.
        template: coordinates, attributes and lazy variables.
        chunks: cells of a chunk on disk, of every variable.
        identity: what must be the same for a run to be resumed.
        resume: continue an interrupted run; without one, begin.
        overwrite: replace an output, or the part an interrupted run left.

    Raises:
        InputError: if the output exists, cannot be resumed, or is the part of another run.
    """
    path = check_output(path, overwrite)
    if path.suffix == ".nc":
        if resume:
            raise InputError(f"{path} is NetCDF, which cannot be resumed: write to .zarr for --resume")
        return NetcdfStore(path, template, chunks)
    return ZarrStore(path, template, chunks, identity, resume, overwrite)


class ZarrStore:
    """A Zarr store and its journal; see the module."""

    def __init__(
        self,
        path: Path,
        template: xr.Dataset,
        chunks: Mapping[str, tuple[int, ...]],
        identity: Mapping[str, Any],
        resume: bool,
        overwrite: bool,
    ) -> None:
        import zarr

        # A name that a resumption finds again.
        self.path, self.temporary = path, path.with_name(f".{path.stem}.partial{path.suffix}")
        self.done: dict[int, list[float]] = {}
        if self.temporary.exists() and not resume and not overwrite:
            raise InputError(
                f"an interrupted run left {self.temporary}: give --resume to continue it or --overwrite to begin afresh"
            )
        empty = prepared(template)
        for name, cells in chunks.items():
            empty[name].encoding["chunks"] = cells
        if resume and self._read_journal(identity):
            renew(self.temporary, empty)
        else:
            remove(self.temporary)
            with whole_or_gone(self.path, self.temporary):
                empty.to_zarr(self.temporary, mode="w", compute=False, consolidated=False)
                (self.temporary / JOURNAL).write_text(json.dumps(dict(identity)) + "\n")
        self.group = zarr.open_group(str(self.temporary), mode="r+")
        self.arrays = {name: cast("zarr.Array[Any]", self.group[name]) for name in chunks}

    def _read_journal(self, identity: Mapping[str, Any]) -> bool:
        journal = self.temporary / JOURNAL
        if not journal.is_file():
            return False
        first, *lines = journal.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
        try:
            before = json.loads(first)
        except ValueError:
            before = None
        if not isinstance(before, dict):
            raise InputError(
                f"{journal} does not say which run {self.temporary} is of: give --overwrite without --resume to begin "
                "afresh"
            )
        wanted = json.loads(json.dumps(dict(identity)))
        differs = [key for key in wanted if before.get(key) != wanted[key]]
        if differs:
            said = ", ".join(f"{key} {before.get(key)} is now {wanted[key]}" for key in differs)
            raise InputError(
                f"{self.temporary} is of another run ({said}): give the same settings, or --overwrite without --resume"
            )
        for line in lines:
            task, note = _noted(line)
            if task is not None:  # otherwise the interruption cut this line short: its task is done again
                self.done[task] = note
        # A line cut short must not merge with the next one.
        journal.write_text("\n".join([first, *(json.dumps([task, *note]) for task, note in self.done.items())]) + "\n")
        return True

    def write(self, task: int, parts: Sequence[Part], note: list[float]) -> None:
        for name, region, values in parts:
            self.arrays[name][region] = values
        with (self.temporary / JOURNAL).open("a") as journal:
            journal.write(json.dumps([task, *note]) + "\n")
        self.done[task] = note

    def finish(self, attrs: Mapping[str, Any], variables: Mapping[str, Mapping[str, Any]]) -> None:
        self.group.attrs.update(dict(attrs))
        for name, own in variables.items():
            self.arrays[name].attrs.update(dict(own))
        consolidate(self.temporary)
        (self.temporary / JOURNAL).unlink()
        publish(self.temporary, self.path)

    @property
    def resumable(self) -> bool:
        return bool(self.done)

    def close(self) -> None:
        if not self.done:
            remove(self.temporary)


def _noted(line: str) -> tuple[int | None, list[float]]:
    """A finished task and what was noted of it; None for a line that says neither."""
    try:
        task, *note = json.loads(line)
    except (ValueError, TypeError):
        return None, []
    whole = isinstance(task, int) and all(isinstance(value, int | float) for value in note)
    return (task, note) if whole else (None, [])


class NetcdfStore:
    """A NetCDF file, filled slice by slice."""

    def __init__(self, path: Path, template: xr.Dataset, chunks: Mapping[str, tuple[int, ...]]) -> None:
        import netCDF4

        self.path, self.temporary = path, partial_path(path)
        self.done: dict[int, list[float]] = {}
        with whole_or_gone(self.path, self.temporary):
            prepared(template.drop_vars(list(chunks))).to_netcdf(self.temporary, engine="netcdf4")
            self.file = netCDF4.Dataset(self.temporary, "a")
            # xarray names the coordinates of a file without variables globally; they belong to the variable.
            if "coordinates" in self.file.ncattrs():
                self.file.delncattr("coordinates")
            for dim, n in template.sizes.items():
                if dim not in self.file.dimensions:
                    self.file.createDimension(str(dim), n)
            self.variables = {name: self._variable(template, name, cells) for name, cells in chunks.items()}

    def _variable(self, template: xr.Dataset, name: str, chunks: tuple[int, ...]) -> Any:
        da = template[name]
        dims = [str(dim) for dim in da.dims]
        settings: dict[str, Any] = {"zlib": True, "complevel": 1, "shuffle": True, "chunksizes": chunks}
        variable = self.file.createVariable(name, "f4", dims, fill_value=np.float32(np.nan), **settings)
        mapping = da.attrs.get("grid_mapping")
        bounds = {str(c.attrs.get("bounds")) for c in template.coords.values()}
        aside = [str(c) for c in template.coords if c not in da.dims and c != mapping and c not in bounds]
        aside = [dim for dim in aside if dim not in template.dims]
        variable.setncatts(attributes(da.attrs) | ({"coordinates": " ".join(aside)} if aside else {}))
        return variable

    def write(self, task: int, parts: Sequence[Part], note: list[float]) -> None:
        for name, region, values in parts:
            self.variables[name][region] = values
        self.done[task] = note

    def finish(self, attrs: Mapping[str, Any], variables: Mapping[str, Mapping[str, Any]]) -> None:
        self.file.setncatts(attributes(attrs))
        for name, own in variables.items():
            self.variables[name].setncatts(attributes(own))
        self.file.close()
        publish(self.temporary, self.path)

    @property
    def resumable(self) -> bool:
        return False

    def close(self) -> None:
        if self.file.isopen():
            with suppress(RuntimeError, OSError):  # a failed file is deleted; its own error has been raised
                self.file.close()
        remove(self.temporary)
