"""Which variables of two files are scored, and each of them alone in the files that have it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import xarray as xr

from finescale.data.files import gridded
from finescale.errors import InputError
from finescale.grids.dimensions import find


def in_common(ensemble: xr.Dataset, truth: xr.Dataset) -> list[str]:
    """The variables to score, in the ensemble's order; none where one file has a single one, under another name.

    Static fields, such as elevation beside fields in time, are not scored.

    Raises:
        InputError: if both have several and none by the same name.
    """
    ours, theirs = ([str(name) for name in gridded(ds)] for ds in (ensemble, truth))
    found = [name for name in ours if name in theirs]
    if not found and len(ours) > 1 and len(theirs) > 1:
        raise InputError(
            f"the ensemble ({', '.join(ours)}) and the truth ({', '.join(theirs)}) have no variable in common: rename "
            "those to be scored alike"
        )
    return [name for name in found if "time" in find(ensemble[name])] or found


def left_out(ensemble: xr.Dataset, truth: xr.Dataset, scored: Sequence[str]) -> list[str]:
    """A sentence where a file has variables that are not scored, as the other one lacks them."""
    ours, theirs = ([str(name) for name in gridded(ds) if name not in scored] for ds in (ensemble, truth))
    lost = (("truth", [n for n in ours if n not in theirs]), ("ensemble", [n for n in theirs if n not in ours]))
    return [f"Not scored, as the {what} lacks them: {', '.join(names)}." for what, names in lost if names]


def alone(ds: xr.Dataset, variable: str) -> xr.Dataset:
    """``ds`` with this gridded variable only; as it is where it has it not, or only one."""
    names = [str(name) for name in gridded(ds)]
    return ds.drop_vars([name for name in names if name != variable]) if variable in names else ds


def given(files: Mapping[str, xr.Dataset], variable: str) -> tuple[dict[str, xr.Dataset], list[str]]:
    """The files that have the variable, with it alone, by what they are; a sentence on each of the others."""
    has = {name: ds for name, ds in files.items() if variable in map(str, gridded(ds))}
    lost = [f"{name[0].upper()}{name[1:]} has no variable {variable}." for name in files if name not in has]
    return {name: alone(ds, variable) for name, ds in has.items()}, lost


def folders(names: Sequence[str]) -> dict[str, str]:
    """A folder's name for each variable: its own, with _ for what no folder should be called by."""
    taken: dict[str, str] = {}
    for slug, name in _slugs(names):
        free = (s for k in range(len(names) + 1) if (s := slug + "_" * k).lower() not in map(str.lower, taken.values()))
        taken[name] = next(free)
    return taken


def _slugs(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        slug = re.sub(r"[^\w.-]", "_", name, flags=re.ASCII)[:80].lstrip(".-") or "variable"
        yield (f"{slug}_" if slug.lower() == "figures" else slug), name
