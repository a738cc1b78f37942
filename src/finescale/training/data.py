"""What the ``data`` section names, opened and checked: fine fields, static fields, and other sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from dask.utils import parse_bytes

from finescale.config import schema
from finescale.config.variables import Variable, variables_of
from finescale.data.extent import extent, merged
from finescale.data.files import fields as fields_of
from finescale.data.files import gridded, open_store, select
from finescale.data.lazy import Cache, blockwise, single
from finescale.data.named import entries, title
from finescale.data.named import listed as names_of
from finescale.data.reader import watched
from finescale.data.region import region
from finescale.data.sources import DERIVED, Partner, Predictors, Source, covered
from finescale.data.static import StaticFields
from finescale.data.units import convert_units
from finescale.errors import InputError, nearest
from finescale.grids.coordinates import increasing, read_grid
from finescale.grids.factor import Factor, Factors
from finescale.model.sizes import coarse_frames
from finescale.training.crops import Crops
from finescale.training.cutting import Augmentation
from finescale.training.fields import check_crop
from finescale.training.sections import Data
from finescale.training.survey import Criteria

Fine = str | Path | xr.Dataset | xr.DataArray
Variables = list[xr.DataArray]
"""The variables (time, y, x) of one fine field, on one grid."""


@dataclass(frozen=True)
class TrainingData:
    """What the ``data`` section names, opened and checked but not read.

    Attributes:
        section: the section.
        factors: of the model.
        fields: fine fields of training, lazy.
        held: those of validation; None for the training data.
        static: static fields, if there are any.
        variables: units of every variable, by name, and what the configuration says of it.
        paths: of the fields' files.
        stores: those files, each one; none of a dataset that was given, or of URLs.
        sources: the other source's own values of every variable, in mode direct.
        predictors: fields of other sources, calendar and place; None without.
    """

    section: Data
    factors: Factors
    fields: list[Variables]
    held: list[Variables] | None
    static: StaticFields | None
    variables: dict[str, dict[str, Any]]
    paths: list[list[str]]
    stores: list[list[Path]]
    sources: list[Source] | None
    predictors: Predictors | None

    @property
    def told(self) -> dict[str, Any]:
        """What the data tell a configuration: variables, predictors and static fields, and where the data lie."""
        extents = merged([extent(field[0], path) for field, path in zip(self.fields, self.paths, strict=True)])
        found: dict[str, Any] = {"variables": self.variables, "trained": [one.plain() for one in extents]}
        if self.predictors is not None:
            units = {name: source.field.attrs.get("units") for name, source in self.predictors.sources.items()}
            found["predictors"] = {
                name: {"units": str(units[name])} if units.get(name) else None for name in self.predictors.names
            }
        return found | ({"static": self.names} if self.names else {})

    @property
    def names(self) -> list[str]:
        """Names of the static fields."""
        return [] if self.static is None else self.static.names

    def frames(self, factor: Factor) -> int:
        """Coarse frames of a crop."""
        return coarse_frames(factor, self.section.frames, self.section.horizon)

    def crops(self) -> tuple[Crops, Crops]:
        """Training and validation crops; the fields are gone through now, and read where they fit in memory."""
        section, factors = self.section, self.factors
        longest = max(self.frames(Factor(t)) * t for t in range(factors.time[0], factors.time[1] + 1))
        crop = (longest, *((section.crop,) * 2 if isinstance(section.crop, int) else section.crop))
        settings: dict[str, Any] = {
            "criteria": Criteria(section.min_valid, section.min_wet, section.wet),
            "frames": self.frames,
            "static": self.static,
            "memory": None if section.memory is None else parse_bytes(section.memory),
            "stores": self.stores,
            "neighbours": section.neighbours,
            "motion": section.motion,
        }
        augmentation = Augmentation(
            section.turn,
            section.favour,
            section.rescale,
            section.smoothing,
            section.neighbours > 0,
            section.balance,
            section.skips,
        )
        for field in [*self.fields, *(self.held or [])]:
            check_crop(field[0], factors, crop)
        crops = Crops(
            self.fields,
            factors,
            crop,
            augmentation=augmentation,
            partners=self._partners(self.fields),
            weighted=section.weighted,
            **settings,
        )
        if not self.held:
            return crops, crops
        return crops, Crops(self.held, factors, crop, partners=self._partners(self.held), **settings)

    def _partners(self, fields: list[Variables]) -> list[Partner] | None:
        if self.sources is None and self.predictors is None:
            return None
        return [Partner(field[0], self.sources, self.predictors) for field in fields]


def listed(data: Fine | Sequence[Fine]) -> dict[str, xr.Dataset | None]:
    """Fine fields that were given, by what they are called in errors and in the model's card; None for a path."""
    given = [data] if isinstance(data, str | Path | xr.Dataset | xr.DataArray) else list(data)
    found: dict[str, xr.Dataset | None] = {}
    for one in given:
        if isinstance(one, str | Path):
            found[str(one)] = None
            continue
        if isinstance(one, xr.DataArray):
            one = one.to_dataset(name=one.name if one.name is not None else "field")
        name = "the dataset" if len(given) == 1 else f"dataset {len(found) + 1}"
        found[name] = watched(one.copy(), name)
    return found


def open_data(config: Mapping[str, Any], stores: Mapping[str, xr.Dataset | None] | None = None) -> TrainingData:
    """Open what the ``data`` section names.

    Args:
        config: a configuration.
        stores: datasets that are fine fields, by what they are called in the section's path; None for paths.

    Raises:
        InputError: for a section, files or ranges that cannot be used.
    """
    section = schema.call(Data, config.get("data"), "data")
    factors = Factors.parse(config.get("factor", "1x8"))
    if section.neighbours and section.mode == "direct":
        raise InputError("data.neighbours are block means of the fine field: leave them out in data.mode: direct")
    if section.motion and not section.neighbours:
        raise InputError("data.motion moves neighbouring frames, but there are none: set data.neighbours too")
    if section.skips:
        _check_skips(section, factors)
    given = {name: ds for name, ds in (stores or {}).items() if ds is not None}
    files = [path for path in names_of(section.path) if path not in given]
    paths = [[name] for name in given] + (fields_of(files) if files else [])
    wanted: dict[str | None, Variable] = {section.variable: Variable()}
    if config.get("variables"):
        wanted = {name: one for name, one in variables_of(config).items()}
    if section.variable is not None and section.variable not in wanted:
        raise InputError(
            f"data.variable is {section.variable}, but the section variables names {', '.join(map(str, wanted))}: "
            "leave data.variable out"
        )
    cache = Cache()
    fields = [
        _variables(title(path), given[path[0]] if path[0] in given else open_store(path, None), wanted, cache)
        for path in paths
    ]
    named = {
        str(field.name): {key: value for key, value in vars(one).items() if value is not None}
        | {"units": str(field.attrs.get("units", ""))}
        | ({"standard_name": str(field.attrs["standard_name"])} if field.attrs.get("standard_name") else {})
        for field, one in zip(fields[0], wanted.values(), strict=True)
    }
    opened = lru_cache(None)(open_store)
    sources, predictors = None, None
    if section.mode == "direct":
        sources = [_own(section, name, named[name], fields[0][n], opened) for n, name in enumerate(named)]
    if section.predictors:
        predictors = _predictors(section, config.get("predictors") or {}, opened)
    elif section.coarse and sources is None:
        raise InputError(
            "data.coarse gives nothing: name the predictors it holds (data.predictors), or take its own values as "
            "conditions (data.mode: direct)"
        )
    for source in [*(sources or []), *(predictors.sources.values() if predictors else [])]:
        fields = [_covered(field, source) for field in fields]
    return TrainingData(
        section,
        factors,
        [_region(field, section.train) for field in fields],
        [_region(field, section.valid) for field in fields] if section.valid else None,
        None if section.static is None else StaticFields(section.static),
        named,
        paths,
        [[] if path[0] in given else _files(path) for path in paths],
        sources,
        predictors,
    )


def _check_skips(section: Data, factors: Factors) -> None:
    """Refuse to leave out frames that other sources go with, or of which there is one."""
    if section.coarse or section.predictors:
        raise InputError("data.skips leaves out frames of the fine field alone: it goes without coarse and predictors")
    single = factors.time[1] == 1 and coarse_frames(Factor(1), section.frames, section.horizon) == 1
    if single and not section.neighbours:
        raise InputError("data.skips leaves out frames between those of a crop, but it has one: set data.neighbours")


def _files(paths: list[str]) -> list[Path]:
    """The files of a field on this machine; none where any is behind a URL."""
    found = [entry.path for entry in entries(paths)]
    here = [path for path in found if isinstance(path, Path)]
    return here if len(here) == len(found) else []


def _variables(path: str, store: xr.Dataset, wanted: Mapping[str | None, Variable], cache: Cache) -> Variables:
    """The variables of a field's files, in the units wanted, on one grid at the same times; not read yet."""
    found = []
    for name, one in wanted.items():
        # Prediction shows the networks y and x increasing, whatever the file's order; so does training.
        field = increasing(blockwise(single(convert_units(select(store, name, path), one.units)), cache))
        if field.ndim != 3:
            raise InputError(
                f"{path} holds an ensemble; training needs one field in time, y and x: select a member first"
            )
        found.append(field)
    first = found[0]
    for field in found[1:]:
        same = field.shape == first.shape and read_grid(field).matches(read_grid(first))
        times = first.dims[0]
        if not same or (times in first.coords and not np.array_equal(field[field.dims[0]], first[times])):
            raise InputError(
                f"{path} has {first.name} and {field.name} on other cells or at other times: bring them to one grid"
            )
    return found


def _own(section: Data, name: str, settings: Mapping[str, Any], fine: xr.DataArray, opened: Any) -> Source:
    """The other source's own values of a variable: the one of its name, or of its standard name."""
    if not section.coarse:
        raise InputError("data.mode: direct needs data.coarse, the files of the coarse source")
    calls = settings.get("coarse") or name
    stores = {title(paths): opened(tuple(paths)) for paths in fields_of(section.coarse)}
    for path, store in stores.items():
        alike = [
            str(other)
            for other in gridded(store)
            if other == calls or ("standard_name" in fine.attrs and settings.get("coarse") is None
            and store[other].attrs.get("standard_name") == fine.attrs["standard_name"])
        ]  # fmt: skip
        chosen = calls if calls in alike else alike[0] if len(alike) == 1 else None
        if chosen is not None:
            field = convert_units(select(store, chosen, path), settings["units"])
            _check_amounts(field, fine, path)
            return Source(_one(field, path), False, path)
    raise InputError(
        f"{', '.join(stores)} has no variable {calls}: say what it is called there with "
        f"--set variables.{name}.coarse=NAME"
    )


def _check_amounts(coarse: xr.DataArray, fine: xr.DataArray, path: str) -> None:
    """Refuse sums over intervals of other lengths than the fine field's."""
    sums = ["sum" in str(field.attrs.get("cell_methods", "")) for field in (coarse, fine)]
    lengths = [_cadence(field) for field in (coarse, fine)]
    if any(sums) and None not in lengths and abs(lengths[0] / lengths[1] - 1) > 0.01:  # type: ignore[operator]
        raise InputError(
            f"{path}: {coarse.name} is summed over {lengths[0]:g} s, {fine.name} over {lengths[1]:g} s: "
            "convert both to rates (--set variables.NAME.units)"
        )


def _cadence(field: xr.DataArray) -> float | None:
    """The usual length of a frame in seconds; None where it is not known."""
    grid = read_grid(field)
    steps = np.diff(grid.time)
    return float(np.median(steps)) if field.sizes[field.dims[0]] > 1 else None


def _predictors(section: Data, before: Mapping[str, Any], opened: Any) -> Predictors:
    """The predictors that the section names, in units of an earlier training or their own."""
    names = section.predictors or []
    stores = {title(paths): opened(tuple(paths)) for paths in fields_of(section.coarse or [])}
    there = {str(name): path for path in reversed(list(stores)) for name in gridded(stores[path])}
    sources = {}
    for name in names:
        if name in DERIVED:
            continue
        if name not in there:
            raise InputError(
                f"data.predictors names {name!r}, but {', '.join(stores) or 'data.coarse'} has "
                f"{', '.join(there) or 'no variable'}{nearest(name, [*there, *DERIVED])}"
            )
        field = convert_units(select(stores[there[name]], name, there[name]), (before.get(name) or {}).get("units"))
        sources[name] = Source(_one(field, there[name]), True, there[name])
    return Predictors(sources, names)


def _one(field: xr.DataArray, path: str) -> xr.DataArray:
    if field.ndim != 3:
        raise InputError(f"{path} holds an ensemble of {field.name}: select one member first")
    return field


def _covered(field: Variables, source: Source) -> Variables:
    """The frames for which a source has values."""
    times = covered(source, field[0])
    return field if times.all() else [one[np.flatnonzero(times)] for one in field]


def _region(field: Variables, ranges: Mapping[str, Sequence[Any]] | None) -> Variables:
    return [region(one, ranges) for one in field]
