"""What a model needs of the files that it is given, found by name.

A target is looked up by what the model's section ``variables`` says it is called in coarse files, by its own name, then
by its standard name; a predictor by its name. All files together are one pool, the first one that has a name counts.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finescale.data.files import fields, gridded, open_store, select
from finescale.data.named import title
from finescale.data.reader import watched
from finescale.data.sources import DERIVED, Predictors, Source
from finescale.data.units import conversion, convert_units, is_rain
from finescale.errors import InputError
from finescale.grids import coordinates
from finescale.inference.request import Model

Coarse = str | Path | xr.Dataset | xr.DataArray
Files = Coarse | Sequence[Coarse]
"""One file or dataset, or several, whose variables are one pool."""
Array = NDArray[np.float32]
Store = tuple[str, xr.Dataset]


@dataclass(frozen=True, eq=False)
class Target:
    """A coarse field that is refined.

    Attributes:
        name: of the output's variable.
        field: ([realization,] time, y, x), in its own units and order.
        file: where it is from.
        scale: value in the model's units = scale · own value + offset.
        offset: see ``scale``.
    """

    name: str
    field: xr.DataArray
    file: str
    scale: float
    offset: float

    @property
    def members(self) -> int:
        """Members of the input."""
        return self.field.sizes.get("realization", 1)

    def member(self, number: int) -> xr.DataArray:
        """One of them (time, y, x)."""
        return self.field.isel(realization=number, drop=True) if "realization" in self.field.dims else self.field

    @cached_property
    def rain(self) -> bool:
        """Whether it is rain, which is never negative."""
        return is_rain(self.field)

    def clipped(self, values: Array) -> Array:
        """Own values, with negative rain, such as regridding leaves, as none."""
        return np.maximum(values, np.float32(0)) if self.rain else values

    def in_model(self, values: Array) -> Array:
        """Values in the model's units."""
        return values if self._same else values * np.float32(self.scale) + np.float32(self.offset)

    def own(self, values: Array, shift: bool = True) -> Array:
        """Values of the model in the field's own units; without ``shift`` a difference of values."""
        return values if self._same else (values - np.float32(self.offset if shift else 0.0)) / np.float32(self.scale)

    @property
    def _same(self) -> bool:
        return (self.scale, self.offset) == (1.0, 0.0)


@dataclass(frozen=True, eq=False)
class Inputs:
    """What was found.

    Attributes:
        targets: of every variable of the model the coarse field.
        predictors: those that are in files, ([realization,] time, y, x) in the model's units, and which file.
        names: of all predictors, in the model's order.
        attrs: global attributes of the first target's file.
    """

    targets: list[Target]
    predictors: dict[str, tuple[xr.DataArray, str]]
    names: list[str]
    attrs: Mapping[Any, Any]

    @property
    def first(self) -> xr.DataArray:
        """The first target, one member of it."""
        return self.targets[0].member(0)

    @property
    def members(self) -> int:
        """Members of the input."""
        return self.targets[0].members

    @cached_property
    def sources(self) -> dict[str, Source]:
        """The predictors that are the same for all members of the input."""
        return {
            name: Source(field, True, file)
            for name, (field, file) in self.predictors.items()
            if "realization" not in field.dims
        }

    def told(self, member: int) -> Predictors | None:
        """The predictors of one member of the input; None for a model without."""
        own = {
            name: Source(field[member], True, file)
            for name, (field, file) in self.predictors.items()
            if name not in self.sources
        }
        return Predictors(self.sources | own, self.names) if self.names else None


def find(model: Model, coarse: Files, variable: str | None, free: bool) -> Inputs:
    """What the model needs.

    Args:
        model: a downscaler.
        coarse: files or datasets.
        variable: the one target of a model of one variable, where the files have several.
        free: whether targets may lie on different grids, as they are brought to another one.

    Raises:
        InputError: for files that cannot be read, that lack what the model needs, or have it in units of something
            else, on other cells or at other times.
    """
    stores = _stores(coarse)
    if not stores:
        raise InputError("there is no coarse file: name at least one")
    if variable is not None and len(model.variables) > 1:
        raise InputError(
            f"this model makes {', '.join(model.variables)}: leave --variable out, or say what one of them is called "
            "in coarse files with variables.NAME.coarse in the model's config.yaml"
        )
    wanted = [name for name in model.predictors if name not in DERIVED]
    if len(model.variables) <= 1 and not wanted and len(stores) == 1:
        places = [_only(model, stores[0], variable)]
        there: dict[str, Store] = {}
    else:
        places, there = _pool(model, stores, variable, wanted)
    names = list(model.variables) if len(model.variables) > 1 else [None]
    targets = [_target(model, name, *place) for name, place in zip(names, places, strict=True)]
    for target in targets[1:]:
        _check_same(targets[0], target, free)
    fields = {name: (_predictor(model, name, store, targets[0].members), store[0]) for name, store in there.items()}
    return Inputs(targets, fields, list(model.predictors), places[0][0][1].attrs)


def listed(coarse: Files) -> list[Coarse]:
    """Files or datasets as a list."""
    return [coarse] if isinstance(coarse, str | Path | xr.Dataset | xr.DataArray) else list(coarse)


def _stores(coarse: Files) -> list[Store]:
    """What is given, opened; files that follow each other in time on the same cells are one."""
    each = listed(coarse)
    paths = [str(one) for one in each if isinstance(one, str | Path)]
    found = [(title(group), open_store(group, chunks=None)) for group in fields(paths)]
    return found + [_opened(one) for one in each if not isinstance(one, str | Path)]


Place = tuple[Store, Hashable | None]
"""A store, and the name of a variable in it; None for the only one."""


def _opened(coarse: xr.Dataset | xr.DataArray) -> Store:
    source = "the dataset"
    if isinstance(coarse, xr.DataArray):
        coarse = coarse.to_dataset(name=coarse.name if coarse.name is not None else "field")
    return source, watched(coarse.copy(), source)


def _only(model: Model, store: Store, variable: str | None) -> Place:
    """The one target in the one store."""
    if variable is not None:
        return store, variable
    name, settings = next(iter(model.variables.items()), (None, {}))
    calls = [call for call in (settings.get("coarse"), name) if call in store[1].data_vars]
    return store, calls[0] if calls else None


def _pool(
    model: Model, stores: Sequence[Store], variable: str | None, wanted: Sequence[str]
) -> tuple[list[Place], dict[str, Store]]:
    """The targets and, by name, where the predictors are; both from all stores together."""
    have = [(store, {str(name) for name in gridded(store[1])}) for store in stores]
    there = {name: store for name in wanted for store, names in reversed(have) if name in names}
    targets: dict[str, Place | None] = {}
    for name, settings in (model.variables or {"field": {}}).items():
        calls = [variable] if variable is not None else [settings.get("coarse"), name]
        named = [(store, call) for call in calls for store, names in have if call in names]
        alike = _by_standard_name(name, settings, have) if variable is None else None
        targets[name] = named[0] if named else alike
    left = [(store, name) for store, names in have for name in names - set(wanted)]
    if len(targets) == 1 and None in targets.values() and variable is None and len(left) == 1:
        targets = dict.fromkeys(targets, left[0])
    if None in targets.values() or len(there) < len(wanted):
        raise InputError(_lacking(model, targets, there, have, variable))
    return [place for place in targets.values() if place is not None], {name: there[name] for name in wanted}


def _by_standard_name(name: str, settings: Mapping[str, Any], have: Sequence[tuple[Store, set[str]]]) -> Place | None:
    """The only variable with the standard name of a target; None without one, or with several."""
    standard = {settings.get("coarse") or name, settings.get("standard_name")} - {None}
    alike = [
        (store, other)
        for store, names in have
        for other in sorted(names)
        if store[1][other].attrs.get("standard_name") in standard
    ]
    return alike[0] if len(alike) == 1 else None


def _lacking(
    model: Model,
    targets: Mapping[str, Place | None],
    there: Mapping[str, Store],
    have: Sequence[tuple[Store, set[str]]],
    variable: str | None,
) -> str:
    """One line: what the model needs, what of it is where, and what the files have."""

    def one(name: str, settings: Mapping[str, Any], place: str | None) -> str:
        return f"{name} [{settings.get('units') or 'any units'}] ({place or 'missing'})"

    needs = [
        one(name, model.variables.get(name, {}), None if place is None else f"{place[1]} of {place[0][0]}")
        for name, place in targets.items()
    ]
    told = [
        one(name, settings, there[name][0] if name in there else None)
        for name, settings in model.predictors.items()
        if name not in DERIVED
    ]
    files = "; ".join(f"{file} has {', '.join(sorted(names)) or 'nothing gridded'}" for (file, _), names in have)
    text = f"this model needs {', '.join(needs)}" + (f" and the predictors {', '.join(told)}" if told else "")
    absent = next((name for name, place in targets.items() if place is None), None)
    if absent is None:
        mend = "name a file that has what is missing"
    elif len(targets) == 1:
        mend = "name a file that has what is missing, or the variable with --variable"
    else:
        mend = (
            "name a file that has what is missing, or say what it is called there with "
            f"variables.{absent}.coarse in the model's config.yaml"
        )
    said = f"; --variable is {variable}" if variable is not None else ""
    return f"{text}; {files}{said}: {mend}"


def _target(model: Model, name: str | None, store: Store, variable: Hashable | None) -> Target:
    """A target; called as in the model where that makes several."""
    file, ds = store
    field = select(ds, None if variable is None else str(variable), file)
    if field.sizes.get("realization") == 1:
        field = field.isel(realization=0, drop=True)
    settings = model.variables[name] if name is not None else next(iter(model.variables.values()), {})
    scale, offset = _units(field, str(settings.get("units") or ""))
    own = "field" if field.name is None else str(field.name)
    return Target(own if name is None else name, field, file, scale, offset)


def _units(field: xr.DataArray, wanted: str) -> tuple[float, float]:
    """(scale, offset) from a field's units to those wanted."""
    has = str(field.attrs.get("units", "")).strip()
    if not has or not wanted:
        convert_units(field.isel({field.dims[-3]: slice(0, 0)}), wanted)  # warns of missing units
        return 1.0, 0.0
    return conversion(has, wanted, f"variable {field.name}")


def _check_same(first: Target, other: Target, free: bool) -> None:
    """Refuse targets on other cells, at other times, or with other members, than the first."""
    if other.members != first.members:
        raise InputError(
            f"{other.file} has {other.members} members of {other.field.name}, {first.file} {first.members} of "
            f"{first.field.name}: give the same members of both"
        )
    if free:
        return
    mine, wanted = (coordinates.increasing(target.member(0)) for target in (other, first))
    where = f"{other.field.name} of {other.file} lies {{}} than {first.field.name} of {first.file}: {{}}"
    if mine.shape[1:] != wanted.shape[1:] or not coordinates.read_grid(mine).matches(coordinates.read_grid(wanted)):
        raise InputError(where.format("on other cells", "bring it to the same grid, or both to a fine one with --onto"))
    times = [da[da.dims[0]].values if da.dims[0] in da.coords else np.arange(da.shape[0]) for da in (mine, wanted)]
    if not np.array_equal(times[0], times[1]):
        raise InputError(where.format("at other times", "select the times that both have"))


def _predictor(model: Model, name: str, store: Store, members: int) -> xr.DataArray:
    """A predictor in the model's units, lazy."""
    file, ds = store
    field = select(ds, name, file)
    count = field.sizes.get("realization", 1)
    if count not in (1, members):
        raise InputError(f"{file} has {count} members of {name}, the coarse field {members}: select as many")
    field = field.isel(realization=0, drop=True) if count == 1 and "realization" in field.dims else field
    wanted = str(model.predictors[name].get("units") or "")
    if _units(field, wanted) == (1.0, 0.0):
        return field
    # Converted as it is read: by xarray alone it would be read now.
    return convert_units(field if field.chunks else field.chunk("auto"), wanted)
