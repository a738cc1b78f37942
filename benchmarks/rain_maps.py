"""Fields of rain side by side, in the package's own style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from finescale.plots import Region, closeups
from finescale.plots.maps import png

CELL = "cells of about 1 km"
"""Of all radar networks here."""


def rain_maps(
    rows: Sequence[Mapping[str, ArrayLike]],
    path: Path,
    *,
    columns: int | None = None,
    title: str = "",
    cell: str = CELL,
    limit: int = 280_000,
) -> None:
    """Rates in mm/h, an area in each row; its maps may be of different resolutions.

    Args:
        rows: of each area, title -> (H, W), row 0 in the south.
        path: of the PNG file.
        columns: maps in a row, which divides the maps of an area; by default all of them.
        title: above all.
        cell: what the axes count.
        limit: bytes above which the picture gets 256 colours.
    """
    places = []
    for row in rows:
        height, width = np.max([np.shape(field) for field in row.values()], axis=0).tolist()
        places.append((Region((0.0, width, 0.0, height), f"x ({cell})", f"y ({cell})"), row))
    figure = closeups(places, units="mm/h", rain=True, columns=columns, label="rain rate", title=title)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(figure, limit=limit))
