"""Coastlines of latitude–longitude maps, where Natural Earth's are on this computer already.

cartopy keeps the files that other work has made it download; nothing is ever downloaded here, and without cartopy or
its files maps have no coastlines.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESOLUTIONS = ("10m", "50m", "110m")


@lru_cache(maxsize=4)
def coastlines(wide: bool) -> tuple[NDArray[np.float64], ...]:
    """Lines (N, 2) of longitude and latitude in degrees, the finest there are (the coarsest for ``wide`` areas)."""
    try:
        from cartopy import config
        from cartopy.io import shapereader
    except ImportError:
        return ()
    folders = [Path(config[key]) for key in ("pre_existing_data_dir", "data_dir") if config.get(key)]
    for resolution in reversed(RESOLUTIONS) if wide else RESOLUTIONS:
        for folder in folders:
            path = folder / "shapefiles" / "natural_earth" / "physical" / f"ne_{resolution}_coastline.shp"
            if path.is_file():
                return tuple(_parts(shapereader.Reader(str(path)).geometries()))
    return ()


def lines(extent: tuple[float, float, float, float]) -> list[NDArray[np.float64]]:
    """The coastlines (N, 2) that may cross ``extent`` (left, right, bottom, top), in its range of longitudes."""
    left, right, bottom, top = extent
    found = []
    for line in coastlines(right - left > 60):
        for turn in (-360.0, 0.0, 360.0):
            x, y = line[:, 0] + turn, line[:, 1]
            if x.max() >= left and x.min() <= right and y.max() >= bottom and y.min() <= top:
                found.append(np.stack([x, y], axis=-1))
    return found


def _parts(geometries: Any) -> Any:
    for one in geometries:
        for part in getattr(one, "geoms", [one]):
            yield np.asarray(part.coords, dtype=np.float64)[:, :2]
