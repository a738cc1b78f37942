"""Ensemble, truth and coarse field brought to the same cells, times and units.

The ensemble sets the grid. Another field is flipped where its y or x runs the other way and cut where it covers more;
cells that are not the same cells are an error that says how they differ. Times are those that ensemble and truth share.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finescale.data import files
from finescale.data.extent import ATTRIBUTE, Seen, parse, seen
from finescale.data.regrid import regrid as to_cells
from finescale.data.units import in_mm_per_hour, is_rain, same_units
from finescale.errors import InputError
from finescale.grids import coordinates
from finescale.grids.blocks import block_means
from finescale.grids.dimensions import is_date
from finescale.grids.factor import Factor, check_divisible
from finescale.grids.grid import Grid
from finescale.scores.cells import Array
from finescale.verify import realizations
from finescale.verify.placing import common_times, on_cells, on_coarse

Field = xr.Dataset | xr.DataArray


@dataclass(frozen=True, eq=False)
class Aligned:
    """Aligned data.

    Attributes:
        systems: name -> members (M, T, H, W); the first is "ensemble".
        truth: (T, H, W).
        coarse: (t, h, w), or None; the mean of its members where it has several.
        inputs: system -> the coarse field (M, t, h, w) that each of its members is made of, where the coarse field has
            members.
        factor: from coarse to fine, or None where nothing tells it.
        notes: sentences on what was assumed or left out, for the report.
        seen: name -> what of the truth is among the training data that a system's file names; none where nothing is.
    """

    systems: dict[str, xr.DataArray]
    truth: xr.DataArray
    coarse: xr.DataArray | None = None
    factor: Factor | None = None
    notes: list[str] = field(default_factory=list)
    seen: dict[str, Seen] = field(default_factory=dict)
    inputs: dict[str, xr.DataArray] = field(default_factory=dict)

    @property
    def time(self) -> Hashable:
        return self.truth.dims[0]

    @property
    def grid(self) -> Grid:
        return coordinates.read_grid(self.truth)

    @property
    def steps(self) -> NDArray[np.float64]:
        """(T − 1,) from each time to the next, in seconds, or units of a coordinate that is no date; none without."""
        if self.time not in self.truth.coords:
            return np.zeros(0)
        steps = np.diff(self.truth[self.time].values)
        if steps.dtype.kind == "O":  # dates of other calendars
            steps = np.array([step.total_seconds() for step in steps])
        return steps / np.timedelta64(1, "s") if steps.dtype.kind == "m" else steps.astype(np.float64)

    @property
    def follows(self) -> NDArray[np.bool_]:
        """(T,) whether a time follows the one before it: its step is within half of the median one."""
        count, steps = self.truth.sizes[self.time], self.steps
        if steps.size < 2:
            return np.arange(count) > 0
        usual = np.median(steps)
        return np.concatenate([[False], np.abs(steps - usual) <= 0.5 * usual])

    @property
    def daily(self) -> bool:
        """Whether times are days apart."""
        dates = self.time in self.truth.coords and is_date(self.truth[self.time])
        return dates and self.steps.size > 0 and abs(float(np.median(self.steps)) / 86400 - 1) < 1e-3

    def coarse_values(self, cut: slice, system: str = "") -> Array | None:
        """The coarse field (t, h, w) for fine times, given or the truth's block means; None without a factor.

        Of a ``system`` whose members are made of a coarse field each (M, t, h, w).
        """
        if self.factor is None:
            return None
        if self.coarse is None:
            return block_means(self.truth[cut].values, self.factor, self.grid.cell_area)
        given = self.inputs.get(system, self.coarse)
        return given[..., cut.start // self.factor.time : cut.stop // self.factor.time, :, :].values


def align(
    ensemble: Field,
    truth: Field,
    coarse: Field | None = None,
    *,
    against: Mapping[str, Field] | None = None,
    factor: Factor | str | None = None,
    variable: str | None = None,
    regrid: bool = False,
) -> Aligned:
    """Bring all fields to the ensemble's cells and to the times it shares with the truth; rain rates to mm/h.

    With ``regrid`` a truth or other ensemble on other cells is brought to the ensemble's by area-weighted means.

    Raises:
        InputError: if the grids differ (the message says how), no times overlap, or units do not measure the same
            quantity.
    """
    notes: list[str] = []
    factor = factor or _attribute(ensemble)
    ens = realizations.members(_field(ensemble, variable, "the ensemble"))
    reference = realizations.single(_field(truth, variable, "the truth"), "the truth")
    if is_rain(ens) or is_rain(reference):
        ens = in_mm_per_hour(ens)
    reference = _placed(same_units(reference, ens, notes), ens, "the truth", regrid, notes)
    ens, reference = common_times(ens, reference, "the truth", notes)
    others = {
        name: _other(realizations.members(_field(da, variable, name)), ens, name, regrid, notes)
        for name, da in (against or {}).items()
    }
    systems = {"ensemble": ens, **others}
    known = _seen({"ensemble": ensemble, **(against or {})}, reference, notes)
    notes += realizations.counted(ens)
    low, inputs = None, {}
    if coarse is not None:
        low = same_units(_field(coarse, variable, "the coarse field"), ens, notes)
        factor = Factor.parse(factor) if factor else _factor_from_sizes(ens, low)
        placed = [on_coarse(one, ens, factor) for one in realizations.each(low)]
        if len(placed) > 1:
            inputs = {name: realizations.made_of(da, low, placed, name) for name, da in systems.items()}
            notes.append(f"The coarse field has {len(placed)} members: baselines refine their mean.")
        low = placed[0] if len(placed) == 1 else sum(placed[1:], start=placed[0]) / len(placed)
    if factor is None:
        notes.append(
            "No coarse field was given and the ensemble's file names no factor: there are no baselines and no "
            "conservation residual."
        )
        return Aligned(systems, reference, None, None, notes, known)
    factor = Factor.parse(factor)
    check_divisible((reference.shape[0], reference.shape[1], reference.shape[2]), factor)
    if low is None:
        notes.append(f"No coarse field was given: the truth's block means by the factor {factor} stand in for it.")
    return Aligned(systems, reference, low, factor, notes, known, inputs)


def _other(da: xr.DataArray, ens: xr.DataArray, name: str, regrid: bool, notes: list[str]) -> xr.DataArray:
    """Another ensemble on the cells and times of the first.

    Raises:
        InputError: if it lacks some of them.
    """
    kept, da = common_times(ens, _placed(same_units(da, ens, notes), ens, name, regrid, notes), name, notes)
    if kept.shape[1] != ens.shape[1]:
        raise InputError(f"{name} lacks {ens.shape[1] - kept.shape[1]} of the {ens.shape[1]} times that are scored")
    return da


def _placed(da: xr.DataArray, like: xr.DataArray, what: str, regrid: bool, notes: list[str]) -> xr.DataArray:
    """`on_cells`, or on other cells, if allowed, regridded."""
    try:
        return on_cells(da, like, what)
    except InputError:
        if not regrid:
            raise
    notes.append(f"{what[0].upper()}{what[1:]} was regridded to the ensemble's cells by area-weighted means.")
    return to_cells(da, like, what)


def _field(data: Field, variable: str | None, what: str) -> xr.DataArray:
    return files.select(data, variable, what) if isinstance(data, xr.Dataset) else coordinates.canonical(data)


def _attribute(data: Field) -> Any:
    return data.attrs.get("finescale_factor")


def _seen(given: Mapping[str, Field], truth: xr.DataArray, notes: list[str]) -> dict[str, Seen]:
    """What of the truth is among the training data of systems whose files name them."""
    found = {}
    for name, data in given.items():
        if ATTRIBUTE not in data.attrs:
            continue
        try:
            trained = parse(str(data.attrs[ATTRIBUTE]), f"the attribute {ATTRIBUTE} of {name}")
        except InputError as error:
            notes.append(f"{str(error)[0].upper()}{str(error)[1:]}.")
            continue
        among = seen(truth, trained)
        if among is not None:
            found[name] = among
    return found


def _factor_from_sizes(ens: xr.DataArray, coarse: xr.DataArray) -> Factor:
    fine, low = ens.shape[1:], coarse.shape[-3:]
    ratios = [n // c if c and n % c == 0 else 0 for n, c in zip(fine, low, strict=True)]
    if not all(ratios[1:]):
        raise InputError(
            f"the ensemble's {fine[1]} x {fine[2]} cells are no whole multiple of the coarse field's "
            f"{low[1]} x {low[2]}: crop the coarse field, or name the factor"
        )
    # The truth may cover some of the times only: the sizes then say nothing, and time is taken as not refined.
    return Factor(max(ratios[0], 1), y=ratios[1], x=ratios[2])
