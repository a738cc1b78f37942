"""Photographs, and slices of a head, as fields in one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray


def photographs(data: Path, cache: Path) -> Path:
    """Luminance of images/bsd100 (times 0 to 99) and images/set14 (from 100 on) in photographs.nc, made once."""
    path = cache / "photographs.nc"
    if not path.is_file():
        paths = [path for part in ("bsd100", "set14") for path in sorted((data / "images" / part).iterdir())]
        cache.mkdir(parents=True, exist_ok=True)
        stacked([luminance(path).values[0] for path in paths]).to_netcdf(path)
    return path


def medical(cache: Path) -> Path:
    """Horizontal slices of nilearn's MNI152 template, 1 mm apart and of 1 mm cells, in [0, 1]; y counts rows."""
    path = cache / "medical.nc"
    if not path.is_file():
        from nilearn.datasets import load_mni152_template

        volume = np.asarray(load_mni152_template(resolution=1).get_fdata(), dtype=np.float32)
        cache.mkdir(parents=True, exist_ok=True)
        stacked(list(np.moveaxis(volume, -1, 0))).to_netcdf(path)
    return path


def luminance(path: Path) -> xr.DataArray:
    """ITU-R BT.601 luma in [0, 1] as one frame; y counts rows."""
    from PIL import Image

    values = np.asarray(Image.open(path).convert("L"), dtype=np.float32)[None] / 255
    coords = {"y": np.arange(values.shape[1], dtype=float), "x": np.arange(values.shape[2], dtype=float)}
    return xr.DataArray(values, dims=("time", "y", "x"), coords=coords, name="luminance")


def stacked(pictures: Sequence[NDArray[np.float32]]) -> xr.Dataset:
    """Pictures (H, W) in one variable (time, y, x), their numbers as times; NaN beside the smaller ones."""
    height, width = (max(part.shape[axis] for part in pictures) for axis in (0, 1))
    values = np.full((len(pictures), height, width), np.nan, np.float32)
    for whole, part in zip(values, pictures, strict=True):
        whole[: part.shape[0], : part.shape[1]] = part
    coords = {"time": np.arange(len(pictures)), "y": np.arange(height), "x": np.arange(width)}
    return xr.Dataset({"field": (("time", "y", "x"), values, {"units": "1"})}, coords)
