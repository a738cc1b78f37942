"""Predictions as dask arrays: the same bits as in memory, window by window as they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr

import finescale
from finescale.data.writing import write
from finescale.downscaler import Downscaler
from finescale.errors import InputError
from finescale.inference.tasks import Tasks

Fields = Callable[..., xr.Dataset]
Models = Callable[..., Downscaler]


@pytest.mark.parametrize(
    "settings",
    [
        dict(members=3, window=(1, 4, 4), batch=2),
        dict(members=2, variance="members", window=(1, 4, 8)),
        dict(members=0, variance="members", window=(1, 4, 8)),
        dict(members=2),
    ],
    ids=["windows and batches", "variance", "the mean", "one block"],
)
def test_lazy_is_eager(two: Models, fields: Fields, settings: dict[str, Any]) -> None:
    model, given = two(), fields(t=4)
    eager = model.downscale(given, **settings)
    lazy = model.downscale(given, lazy=True, **settings)
    assert all(dask.is_dask_collection(lazy[name].data) for name in lazy.data_vars)
    assert list(lazy.data_vars) == list(eager.data_vars) and lazy["tas"].dims == eager["tas"].dims
    for name in eager.data_vars:
        xr.testing.assert_equal(lazy[name].compute(), eager[name])
        residual = {"conservation_residual": eager[name].attrs.pop("conservation_residual", None)}
        assert lazy[name].attrs == eager[name].attrs, residual


def test_only_what_is_asked_for_is_computed(
    two: Models, fields: Fields, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From files, dask-backed input and an ensemble too; two variables of a window are sampled once."""
    given = xr.concat([fields(t=4, seed=n) for n in range(2)], "realization")
    write(given, tmp_path / "coarse.nc")
    reads: list[Any] = []
    read = Tasks.read
    monkeypatch.setattr(Tasks, "read", lambda self, piece: reads.append(piece) or read(self, piece))
    settings: dict[str, Any] = dict(members=2, window=(1, 4, 4), batch=1, lazy=True)
    out = finescale.downscale(two(), tmp_path / "coarse.nc", **settings)
    assert out.sizes["realization"] == 4 and not reads
    part = out.isel(time=1, lat=slice(2, 6), lon=slice(3, 9), realization=3).compute()
    assert len(reads) == 1 and reads[0][1] == 1
    with dask.config.set(scheduler="threads", num_workers=4):
        whole = finescale.downscale(two(), given.chunk(time=1), **settings).compute()
    for name in ("pr", "tas"):
        np.testing.assert_array_equal(whole[name][3, 1, 2:6, 3:9], part[name])
    with pytest.raises(InputError, match="lazy is for a prediction that is returned"):
        finescale.downscale(two(), given, tmp_path / "o.nc", lazy=True)
