"""Stores of one or several variables written region by region: Zarr, which can be resumed, and NetCDF.

A store grows under a temporary name next to its own and is renamed once it is whole; what stands for that behind a URL
is in `finescale.data.growing`. Beside the data, a Zarr store keeps a journal (`finescale.data.journal`). A task is
journalled after its region is written, so that an interruption costs at most the tasks under way. Regions may be
written by other processes (`finescale.data.regions`); the journal is that of the process which opened the store.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import xarray as xr

from finescale.data.atomic import explained, partial_path, publish, remove
from finescale.data.finished import Finished
from finescale.data.growing import UNFINISHED, UNTIL, complete, journal_of
from finescale.data.journal import journal
from finescale.data.packing import Packed
from finescale.data.place import Place, Remote
from finescale.data.regions import Part, ZarrRegions
from finescale.data.renew import renew
from finescale.data.writing import attributes, check_output, prepared
from finescale.errors import InputError


class Store(Protocol):
    """A store under construction."""

    done: Finished
    """Its finished tasks."""

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
def whole_or_gone(path: Place, temporary: Place) -> Iterator[None]:
    """Delete the beginnings of a store that cannot be begun."""
    try:
        with explained(path):
            yield
    except BaseException:
        with suppress(Exception):  # its own error is raised already
            remove(temporary)
        raise


def _there(path: Place) -> bool:
    """Whether an interrupted run left something."""
    if isinstance(path, Remote):
        return bool(path.names() or journal_of(path).names())
    return path.exists()


def open_output(
    path: str | Path | Remote,
    template: xr.Dataset,
    chunks: Mapping[str, tuple[int, ...]],
    identity: Mapping[str, Any],
    resume: bool,
    overwrite: bool,
    packed: Mapping[str, Packed] | None = None,
) -> Store:
    """Begin, or resume, a store for the variables of ``template`` (their values are never read).

    Args:
        path: ends in .nc or .zarr; a path or a URL.
        template: coordinates, attributes and lazy variables.
        chunks: cells of a chunk on disk, of every variable.
        identity: what must be the same for a run to be resumed.
        resume: continue an interrupted run; without one, begin.
        overwrite: replace an output, or the part an interrupted run left.
        packed: how the values of variables are stored, where not as they are.

    Raises:
        InputError: if the output exists, cannot be resumed, or is the part of another run.
    """
    where = check_output(path, overwrite)
    if where.suffix == ".nc":
        if resume:
            raise InputError(f"{where} is NetCDF, which cannot be resumed: write to .zarr for --resume")
        return NetcdfStore(where, template, chunks, packed or {})
    return ZarrStore(where, template, chunks, identity, resume, overwrite, packed or {})


class ZarrStore:
    """A Zarr store and its journal; see the module.

    Attributes:
        regions: what writes the regions of a task, here or, pickled, in another process; then `note` notes the task.
    """

    def __init__(
        self,
        path: Place,
        template: xr.Dataset,
        chunks: Mapping[str, tuple[int, ...]],
        identity: Mapping[str, Any],
        resume: bool,
        overwrite: bool,
        packed: Mapping[str, Packed],
    ) -> None:
        # A name that a resumption finds again.
        self.path = path
        self.growing = path if isinstance(path, Remote) else path.with_name(f".{path.stem}.partial{path.suffix}")
        self.journal, self.regions = journal(self.growing), ZarrRegions(str(self.growing))
        if not resume and not overwrite and _there(self.growing):
            raise InputError(
                f"an interrupted run left {self.growing}: give --resume to continue it or --overwrite to begin afresh"
            )
        self.done = (self.journal.resume(identity) if resume else None) or Finished()
        self.finished = False
        empty = prepared(template).assign_attrs({UNFINISHED: UNTIL})
        for name, cells in chunks.items():
            empty[name].encoding["chunks"] = cells
            if name in packed:
                empty[name].encoding |= packed[name].encoding
        if self.done:
            renew(self.growing, empty)
        else:  # the interruption may have come before all variables were there
            remove(self.growing)
            self.journal.end()
            with whole_or_gone(self.path, self.growing):
                self._begin(empty, identity)

    def _begin(self, empty: xr.Dataset, identity: Mapping[str, Any]) -> None:
        """The store without values, and its journal: behind a URL first, since it tells whether another has begun."""
        if isinstance(self.growing, Remote):
            self.journal.begin(identity)
            empty.to_zarr(self.growing.zarr(), mode="w", compute=False, consolidated=False)
        else:
            empty.to_zarr(self.growing, mode="w", compute=False, consolidated=False)
            self.journal.begin(identity)

    def write(self, task: int, parts: Sequence[Part], note: list[float]) -> None:
        self.regions.write(parts)
        self.note(task, note)

    def note(self, task: int, note: list[float]) -> None:
        """Note a task as finished whose regions are written."""
        self.journal.add(task, note)
        self.done.add(task, note)

    def finish(self, attrs: Mapping[str, Any], variables: Mapping[str, Mapping[str, Any]]) -> None:
        self.regions.group.attrs.update(dict(attrs))
        for name, own in variables.items():
            self.regions.array(name).attrs.update(dict(own))
        complete(self.growing.zarr() if isinstance(self.growing, Remote) else self.growing)
        self.journal.end()
        if isinstance(self.path, Path) and isinstance(self.growing, Path):
            publish(self.growing, self.path)
        self.finished = True

    @property
    def resumable(self) -> bool:
        return bool(self.done)

    def close(self) -> None:
        if self.done and not self.finished:
            self.journal.keep()
        elif not self.finished:
            remove(self.growing)
            self.journal.end()


class NetcdfStore:
    """A NetCDF file, filled slice by slice; behind a URL on this machine, and then uploaded."""

    def __init__(
        self,
        path: Place,
        template: xr.Dataset,
        chunks: Mapping[str, tuple[int, ...]],
        packed: Mapping[str, Packed],
    ) -> None:
        import netCDF4

        self.path, self.packed = path, packed
        self.folder: tempfile.TemporaryDirectory[str] | None = None
        if isinstance(path, Remote):
            self.folder = tempfile.TemporaryDirectory(prefix="finescale-", ignore_cleanup_errors=True)
            self.temporary = Path(self.folder.name) / "output.nc"
        else:
            self.temporary = partial_path(path)
        self.done = Finished()
        with whole_or_gone(self.path, self.temporary):
            prepared(template.drop_vars(list(chunks))).to_netcdf(self.temporary, engine="netcdf4")
            self.file = netCDF4.Dataset(str(self.temporary), "a")
            # xarray names the coordinates of a file without variables globally, and a grid mapping as one of bounds;
            # they belong to the variables.
            holders: list[Any] = [self.file, *self.file.variables.values()]
            for one in holders:
                if "coordinates" in one.ncattrs():
                    one.delncattr("coordinates")
            for dim, n in template.sizes.items():
                if dim not in self.file.dimensions:
                    self.file.createDimension(str(dim), n)
            self.variables = {name: self._variable(template, name, cells) for name, cells in chunks.items()}

    def _variable(self, template: xr.Dataset, name: str, chunks: tuple[int, ...]) -> Any:
        da = template[name]
        dims = [str(dim) for dim in da.dims]
        settings: dict[str, Any] = {"zlib": True, "complevel": 1, "shuffle": True, "chunksizes": chunks}
        packed = self.packed.get(name)
        kind, missing = ("f4", np.float32(np.nan)) if packed is None else (packed.dtype, packed.missing)
        variable = self.file.createVariable(name, kind, dims, fill_value=missing, **settings)
        variable.set_auto_maskandscale(False)
        mapping = da.attrs.get("grid_mapping")
        bounds = {str(c.attrs.get("bounds")) for c in template.coords.values()}
        aside = [str(c) for c in template.coords if c not in da.dims and c != mapping and c not in bounds]
        aside = [dim for dim in aside if dim not in template.dims]
        variable.setncatts(attributes(da.attrs) | ({"coordinates": " ".join(aside)} if aside else {}))
        if packed is not None:
            variable.setncatts(packed.attrs)
        return variable

    def write(self, task: int, parts: Sequence[Part], note: list[float]) -> None:
        for name, region, values in parts:
            packed = self.packed.get(name)
            self.variables[name][region] = values if packed is None else packed.stored(values, name)
        self.done.add(task, note)

    def finish(self, attrs: Mapping[str, Any], variables: Mapping[str, Mapping[str, Any]]) -> None:
        self.file.setncatts(attributes(attrs))
        for name, own in variables.items():
            self.variables[name].setncatts(attributes(own))
        self.file.close()
        if isinstance(self.path, Remote):
            self.path.upload(self.temporary)
        else:
            publish(self.temporary, self.path)

    @property
    def resumable(self) -> bool:
        return False

    def close(self) -> None:
        if self.file.isopen():
            with suppress(RuntimeError, OSError):  # a failed file is deleted; its own error has been raised
                self.file.close()
        remove(self.temporary)
        if self.folder is not None:
            self.folder.cleanup()
