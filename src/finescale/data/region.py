"""Parts of fields by ranges of coordinates: what is trained on, and what is kept aside."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finescale.errors import InputError
from finescale.grids.dimensions import texts

_DATE = re.compile(r"\d{4}(-\d\d(-\d\d([T ]\d\d(:\d\d(:\d\d(\.\d+)?)?)?)?)?)?")


def region(field: xr.DataArray, ranges: Mapping[str, Sequence[Any]] | None) -> xr.DataArray:
    """The cells with coordinates lo <= value < hi for ``{dimension: [lo, hi]}``; None leaves a side open.

    Args:
        field: any field with coordinates.
        ranges: numbers for numbers; dates such as ``"2020-01-01"`` for times of any calendar.

    Raises:
        InputError: for a dimension the field lacks, or a range that leaves nothing.
    """
    for name, pair in (ranges or {}).items():
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise InputError(f"the range of {name} is {pair!r}, but must be two values, such as [null, -94]")
        low, high = pair
        if name not in field.coords or field[name].ndim != 1:
            raise InputError(
                f"the data have no coordinate {name!r} to select by; they have {', '.join(map(str, field.coords))}"
            )
        coordinate = field[name]
        values, ends = _comparable(coordinate, pair)
        keep = np.ones(values.shape, dtype=bool)
        if ends[0] is not None:
            keep &= values >= ends[0]
        if ends[1] is not None:
            keep &= values < ends[1]
        if not keep.any():
            first, last = sorted(values[[0, -1]])
            raise InputError(f"no cell has {name} from {low} to {high}; it goes from {first} to {last}")
        # Coordinates are monotonic, so what is kept is one slice.
        inside = np.flatnonzero(keep)
        field = field.isel({coordinate.dims[0]: slice(int(inside[0]), int(inside[-1]) + 1)})
    return field


def _comparable(coordinate: xr.DataArray, pair: Sequence[Any]) -> tuple[NDArray[Any], list[Any]]:
    """Values of a coordinate and the ends of a range, which compare."""
    kind, wanted = coordinate.dtype.kind, "numbers" if coordinate.dtype.kind not in "MO" else "dates"
    try:
        if kind == "M":
            return coordinate.values, [None if end is None else np.datetime64(end, "ns") for end in pair]
        if kind == "O":
            # Dates of other calendars, which need not be ours (30 February): ISO texts are in the order of time.
            ends = [None if end is None else str(end).replace(" ", "T") for end in pair]
            if any(end is not None and not _DATE.fullmatch(end) for end in ends):
                raise ValueError
            return np.array(texts(coordinate)), ends
        return coordinate.values, [None if end is None else float(end) for end in pair]
    except (TypeError, ValueError):
        name = coordinate.name
        raise InputError(f"the range of {name} is {list(pair)}, which are not {wanted}") from None
