"""NetCDF, Zarr and GRIB opened through xarray, so that whatever is wrong with a file is said of that file.

What a file says of its storage is looked at before values are decoded, and values as they are read: block by block,
wherever the reading happens.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.core import indexing

from finescale.data.place import cause_of
from finescale.data.radar import nothing
from finescale.data.values import check_values
from finescale.errors import InputError
from finescale.signals import check

Engine = type[xr.backends.BackendEntrypoint]


class Reader(xr.backends.BackendEntrypoint):
    """An engine of xarray that opens with another one and watches over what is read."""

    def open_dataset(  # type: ignore[override]
        self,
        filename_or_obj: Path,
        *,
        drop_variables: Any = None,
        reader: Engine,
        settings: dict[str, Any],
        marks: Mapping[float, float | None],
        name: str,
    ) -> xr.Dataset:
        """The decoded dataset of ``reader``, opened with ``settings``.

        Cells that hold one of ``marks`` get its value; those of None get that of a cell without an echo.
        Messages call the file ``name``.

        Raises:
            InputError: for a file that cannot be read or decoded.
        """
        try:
            raw = xr.open_dataset(
                filename_or_obj,
                engine=reader,
                chunks=None,
                cache=False,
                drop_variables=drop_variables,
                backend_kwargs=settings,
                mask_and_scale=False,
                decode_times=False,
                decode_timedelta=False,
                concat_characters=False,
                decode_coords=False,
            )
        except Exception as error:  # every reader raises classes of its own for damaged files
            raise InputError(f"{name} {unread(error)}") from error
        for key, variable in raw.variables.items():
            check_storage(variable, key, name)
        try:
            return watched(xr.decode_cf(raw, decode_timedelta=False), name, marks)
        except Exception as error:
            raise InputError(f"{name} cannot be decoded: {first_line(error)}") from error


class Guarded(xr.backends.BackendArray):
    """A lazy variable; what goes wrong when its values are read is said of its file.

    Args:
        variable: the variable.
        name: its name.
        source: the file's name, for messages.
    """

    def __init__(self, variable: xr.Variable, name: object, source: str) -> None:
        self.variable, self.name, self.source = variable, name, source
        self.shape, self.dtype = variable.shape, variable.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> NDArray[Any]:
        check()
        try:
            return np.asarray(self.variable[key].values)
        except MemoryError:
            raise InputError(f"{self.source}: variable {self.name} is too large for this machine's memory") from None
        except Exception as error:
            raise InputError(f"{self.source} {unread(error, f'variable {self.name}')}") from error


class Watched(Guarded):
    """A lazy variable whose values are checked when they are read.

    Args:
        variable: the variable.
        name: its name.
        source: the file's name, for messages.
        marks: value -> what a cell that holds it gets.
    """

    def __init__(
        self, variable: xr.Variable, name: object, source: str, marks: Mapping[float, float] | None = None
    ) -> None:
        super().__init__(variable, name, source)
        self.marks = marks or {}

    def _read(self, key: tuple[Any, ...]) -> NDArray[Any]:
        values = super()._read(key)
        for mark, value in self.marks.items():
            values = np.where(values == mark, values.dtype.type(value), values)
        check_values(values, self.variable.attrs, self.name, self.source)
        return values


def guarded(da: xr.DataArray, source: str | Path) -> xr.DataArray:
    """``da``, which is not read yet, guarded; for numbers that are decoded before they are watched."""
    return da.copy(data=indexing.LazilyIndexedArray(Guarded(da.variable, da.name, str(source))))


def watched(ds: xr.Dataset, source: str | Path, marks: Mapping[float, float | None] | None = None) -> xr.Dataset:
    """``ds``, changed in place: the values of its numeric fields are checked when they are read or computed.

    Args:
        ds: a dataset.
        source: the file's name, for messages.
        marks: value -> what a cell that holds it gets, in fields of floats that are not yet read; None for the value of
            a cell without an echo.
    """
    for name in list(ds.data_vars):
        variable = ds[name].variable
        if variable.ndim < 2 or variable.dtype.kind not in "fiu":
            continue
        data: Any
        if variable.chunks is None:
            given = (marks or {}).items() if variable.dtype.kind == "f" else ()
            mine = {mark: nothing(variable.attrs) if value is None else value for mark, value in given}
            data = indexing.LazilyIndexedArray(Watched(variable, name, str(source), mine))
        else:
            checked = partial(_checked, attrs=variable.attrs, name=name, source=str(source))
            data = variable.data.map_blocks(checked, dtype=variable.dtype)
        ds[name] = xr.Variable(variable.dims, data, variable.attrs, variable.encoding)
    return ds


def _checked(values: NDArray[Any], attrs: Mapping[Any, Any], name: object, source: str) -> NDArray[Any]:
    check()
    check_values(values, attrs, name, source)
    return values


def check_storage(variable: xr.Variable, name: object, path: str) -> None:
    """Refuse attributes from which values cannot be decoded.

    Raises:
        InputError: naming the attribute.
    """
    for key in ("scale_factor", "add_offset"):
        value = variable.attrs.get(key, 1)
        if isinstance(value, str) or np.size(value) != 1 or not np.isfinite(value) or (key[0] == "s" and value == 0):
            raise InputError(f"{path}: the attribute {key} of variable {name} is {value!r}, not a number: correct it")
    for key in ("coordinates", "calendar"):
        if not isinstance(variable.attrs.get(key, ""), str):
            raise InputError(
                f"{path}: the attribute {key} of variable {name} is {variable.attrs[key]!r}, not text: correct it"
            )


def check_types(path: Path) -> None:
    """Refuse numbers of half or extended precision in NetCDF-4, which the NetCDF library takes for strings.

    It ends the process when it reads them. Strings have no byte order; these numbers do.

    Raises:
        InputError: naming the variable; for a file that cannot be opened.
    """
    import netCDF4

    try:
        with netCDF4.Dataset(str(path)) as file:
            strange = [name for name, v in file.variables.items() if v.dtype is str and v.endian() != "native"]
            types = {name: v.datatype for name, v in file.variables.items() if v.dtype is not str}
    except PermissionError:
        raise InputError(f"{path} may not be read: check its permissions") from None
    except Exception as error:
        raise InputError(f"{path} cannot be read: it may be truncated or damaged ({first_line(error)})") from error
    lists = [name for name, kind in types.items() if isinstance(kind, netCDF4.VLType)]
    if strange:
        raise InputError(
            f"{path}: variable {strange[0]} holds numbers of half or extended precision, which the NetCDF library "
            "cannot read: store them in single or double precision"
        )
    if lists:
        raise InputError(f"{path}: variable {lists[0]} holds lists of changing length, not numbers: store it otherwise")


def unread(error: BaseException, what: str = "it") -> str:
    """Why a file, or ``what`` of it, was not read: after the file's name."""
    cause = cause_of(error)
    if cause is not None:
        return f"cannot be reached: {cause}"
    if isinstance(error, PermissionError):
        return "may not be read: check its permissions"
    return f"cannot be read: {what} may be truncated or damaged ({first_line(error)})"


def first_line(error: BaseException) -> str:
    """What an error says, in one short line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
