"""Data that come with the package: small, real, free to use, and unseen by the models that come with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from finescale.data.proj import bind_proj

if TYPE_CHECKING:
    import xarray as xr

RADAR = Path(__file__).parent.parent / "samples" / "radar.nc"


def radar() -> xr.Dataset:
    """Rain of weather radar, ``precipitation_rate(time, lat, lon)`` in mm h⁻¹: showers in the east of the USA.

    Twelve frames, every 2 minutes from 00:00 UTC on 10 June 2019, of 240 × 240 cells of .01°: NOAA's Multi-Radar
    Multi-Sensor PrecipRate, a work of the US Government in the public domain. The model ``rain`` has seen nothing of
    this region.

    >>> dict(radar().sizes)
    {'time': 12, 'lat': 240, 'lon': 240}
    """
    import xarray as xr

    bind_proj()
    with xr.open_dataset(RADAR) as ds:
        return ds.load()
