"""Hostile files."""

from __future__ import annotations

from pathlib import Path

from tests.hostile.cases import Case


def cases(folder: Path) -> list[Case]:
    coarsen = ["-o", "out.nc", "--factor", "1x4"]
    (folder / "text.nc").write_text("no NetCDF")
    return [
        Case("an input that is not there", ["coarsen", "no.nc", *coarsen], says=("no.nc does not exist",)),
        Case("text under a name that says NetCDF", ["coarsen", "text.nc", *coarsen], says=("is not a NetCDF",)),
    ]
