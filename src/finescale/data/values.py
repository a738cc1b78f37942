"""Values that no field has: infinite ones, and missing values that a file does not declare as such.

A file that marks missing cells by -9999 or 1e20 without saying so (``_FillValue``) would bring those numbers into
means and networks. They are told from values that happen to be equal by standing alone: an extreme value is taken for a
mark if it is one of the usual marks and no other value on its side of zero is larger than half of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finescale.data.units import is_rain
from finescale.errors import InputError

MARKS = np.array(
    [-99, -99.9, -999, -999.9, -9999, -9999.9, -99999, -999999, -32767, -32768, -(2.0**31 - 1), -(2.0**31)]
    + [32767, 65535, 2.0**31 - 1, 1e10, 1e15, 1e20, -1e20, 9.969209968386869e36, -9.969209968386869e36]
)
"""What files mark missing values by, NetCDF's own fill values and the limits of packed integers among them."""
LARGEST = 1e30
"""Beyond any quantity, in any units."""
RAIN = -1.0
"""Whole numbers from here down mark missing rain; other negative amounts are rounding, or a model's doing."""


def check_values(values: NDArray[Any], attrs: Mapping[Any, Any], name: object, source: str) -> None:
    """Refuse values that no field has.

    Args:
        values: some values of the variable ``name``, NaN where missing.
        attrs: the variable's attributes.
        name: the variable's name.
        source: where it is from, for the message.

    Raises:
        InputError: naming the value and how many there are.
    """
    if values.size == 0 or values.dtype.kind not in "fiu":
        return
    low, high = (float(ends.reduce(values, axis=None)) for ends in (np.fmin, np.fmax))
    for extreme in (low, high):
        if np.isfinite(extreme) and (abs(extreme) < 90 or not _strange(extreme, values)):
            continue
        if np.isnan(extreme):
            return
        count = int((values == extreme).sum())
        where = f"{source}: variable {name} holds {extreme:.7g} in {count} of {values.size} cells read"
        if np.isinf(extreme):
            raise InputError(f"{where}, which is no number: write NaN or the _FillValue where cells are missing")
        raise InputError(
            f"{where}, which looks like a missing value that is not declared: name it in the attribute _FillValue, "
            f"write NaN, or read {source.split('/')[-1]}?missing={extreme:.7g}"
        )
    if low <= RAIN and low == round(low) and _rain(attrs, name):
        raise InputError(
            f"{source}: variable {name} holds {low:.7g}, but rain is not negative: if this marks missing cells, "
            "name it in the attribute _FillValue, or write NaN"
        )


def _strange(extreme: float, values: NDArray[Any]) -> bool:
    """Whether an extreme value is a mark, or beyond any quantity."""
    if abs(extreme) >= LARGEST:
        return True
    if not np.isclose(extreme, MARKS, rtol=1e-6, atol=0).any():
        return False
    others = values[values != extreme]
    return not (others <= extreme / 2).any() if extreme < 0 else not (others >= extreme / 2).any()


def _rain(attrs: Mapping[Any, Any], name: object) -> bool:
    return is_rain(xr.DataArray(np.zeros(()), name=str(name), attrs=attrs))
