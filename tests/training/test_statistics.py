"""Statistics that latents are fitted to: all training crops, in the order of time, and no random flips of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import finescale
from finescale.config.read import read_config
from finescale.data.writing import write
from finescale.grids.factor import Factor
from finescale.latents import PatchPOD
from finescale.training import statistics
from finescale.training.crops import Crops
from finescale.training.data import open_data


def sea(folder: Path, frames: int = 160) -> Path:
    """Sums of 30 patterns over 8² cells with land in a corner, of decreasing variance, new at every time."""
    rng = np.random.default_rng(5)
    patterns = np.linalg.qr(rng.standard_normal((64, 30)))[0] * 0.9 ** np.arange(30)
    values = (rng.standard_normal((frames, 30)) @ patterns.T).reshape(frames, 8, 8).astype(np.float32) + 12
    values[:, :4, :4] = np.nan
    coords = {
        "time": np.datetime64("2001-01-01", "ns") + np.arange(frames) * np.timedelta64(1, "D"),
        "y": np.arange(8.0),
        "x": np.arange(8.0),
    }
    da = xr.DataArray(values, dims=("time", "y", "x"), coords=coords, name="sst", attrs={"units": "degC"})
    write(da.to_dataset(), folder / "sea.nc")
    return folder / "sea.nc"


@pytest.fixture
def fitted(tmp_path: Path) -> Callable[..., Any]:
    """``fitted(**settings)``: `podiff` as published, of the sea, trained for two steps."""
    path = sea(tmp_path)

    def fit(**settings: Any) -> Any:
        overrides = {
            "data.path": str(path), "data.crop": 8, "latent.patch": 8, "latent.modes": 6, "factor": "1x2",
            "mean": "none", "latent.condition": "anomaly", "denoiser.backbone.width": 8,
            "train.minutes": None, "train.steps": 2,
        }  # fmt: skip
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        return finescale.fit("podiff", folder, overrides | settings)

    return fit


def test_a_basis_is_that_of_all_crops(fitted: Callable[..., Any], tmp_path: Path) -> None:
    """As published: the modes of the anomalies from the mean field, of every time and not of some of them."""
    latent = fitted().latent
    values = xr.open_dataset(tmp_path / "sea.nc").sst.values.astype(np.float64).reshape(-1, 64)
    ocean = ~np.isnan(values[0])
    anomaly = (values - values.mean(0))[:, ocean]
    _, _, wanted = np.linalg.svd(anomaly, full_matrices=False)
    found = latent.basis.flatten(1).double().numpy()
    gap = found[:, ocean] - found[:, ocean] @ wanted[:6].T @ wanted[:6]
    assert np.linalg.norm(gap, 2) < 1e-4 and np.abs(found[:, ~ocean]).max() < 1e-12
    # Of every second time only, it is another one.
    _, _, half = np.linalg.svd(anomaly[::2] - anomaly[::2].mean(0), full_matrices=False)
    assert np.linalg.norm(half[:6] - half[:6] @ wanted[:6].T @ wanted[:6], 2) > 0.1


def test_the_claimed_floor_is_that_of_other_times(fitted: Callable[..., Any], tmp_path: Path) -> None:
    """…of years that were kept aside, not that of those which the basis was fitted to."""
    model = fitted(**{"data.train": {"time": [None, "2001-04-11"]}})  # 100 days
    values = xr.open_dataset(tmp_path / "sea.nc").sst.values
    fields = model.transform(torch.from_numpy(values)[:, None, None])
    x = torch.where(fields.isnan(), model.latent.mean[None], fields)
    left = (x - model.latent.decode(model.latent.encode(x))).square().sum((1, 2, 3, 4))
    claimed = float(model.latent.floor.sum())
    assert abs(claimed / float(left[100:].mean()) - 1) < 0.08  # 60 days of 24 patterns: ± 5 %
    assert claimed > 1.08 * float(left[:100].mean())


def test_statistics_do_not_depend_on_the_batch(fitted: Callable[..., Any]) -> None:
    few, many = (fitted(**{"train.batch": batch}).latent.state_dict() for batch in (2, 9))
    for name, value in few.items():
        assert torch.equal(many[name], value), name


def test_crops_side_by_side_hold_every_cell_once() -> None:
    """Of frames that divide by the crop; a cell's number is its value."""
    values = np.arange(6 * 16 * 24, dtype=np.float32).reshape(6, 16, 24)
    da = xr.DataArray(values, dims=("time", "y", "x"), coords={"y": np.arange(16.0), "x": np.arange(24.0)})
    crops = Crops([[da], [da + values.size]], Factor(1, 2), (1, 8, 8))
    batches = statistics.every(crops, 1, seed=0)
    assert [len(batch) for batch in batches] == [16, 16, 16, 16, 8]
    seen = torch.cat([batch.fine.flatten() for batch in batches])
    assert torch.equal(seen.sort().values, torch.arange(2.0 * values.size))
    times = torch.cat([batch.fine[:, 0, 0, 0, 0] // 384 for batch in batches])
    assert (times.diff() >= 0).all()  # runs of them are runs of time


def test_of_very_many_crops_some_are_taken_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.repeat(np.arange(100, dtype=np.float32), 64).reshape(100, 8, 8)
    da = xr.DataArray(values, dims=("time", "y", "x"), coords={"y": np.arange(8.0), "x": np.arange(8.0)})
    crops = Crops([[da]], Factor(1, 2), (1, 8, 8))
    monkeypatch.setattr(statistics, "KEPT", 640)
    assert [float(x) for batch in statistics.every(crops, 1, 0) for x in batch.fine[:, 0, 0, 0, 0]] == [
        0.0, 11.0, 22.0, 33.0, 44.0, 55.0, 66.0, 77.0, 88.0, 99.0,
    ]  # fmt: skip
    assert sum(map(len, statistics.every(crops, PatchPOD(patch=8, modes=3).enough, 0))) == 100
    # Batches are made when they are asked for, and not all kept.
    batches = statistics.every(crops, 6400, 0)
    assert batches[3] is not batches[3]
    with pytest.raises(IndexError):
        batches[7]


@pytest.mark.parametrize("preset", ["patch-pod", "podiff", "wavelet"])
def test_crops_of_one_place_are_not_flipped(preset: str, tmp_path: Path) -> None:
    """Presets for a fixed domain keep what lies where; others turn crops, and `data.turn` says otherwise."""
    values = np.arange(2 * 64 * 64, dtype=np.float32).reshape(2, 64, 64)
    da = xr.DataArray(values, dims=("time", "y", "x"), coords={"y": np.arange(64.0), "x": np.arange(64.0)}, name="sst")
    write(da.to_dataset(), tmp_path / "ramp.nc")
    for given, turned in ((None, preset == "wavelet"), (False, False), (True, True)):
        settings = {"data.path": str(tmp_path / "ramp.nc"), "data.crop": 16, "data.min_wet": 0, "factor": "1x4"}
        config = read_config(preset, settings if given is None else settings | {"data.turn": given})
        crops, valid = open_data(config).crops()
        for crop in crops.draw(16, 0), valid.draw(16, 0):
            rises = (crop.fine.diff(dim=-1) > 0).flatten(1).all(1)
            assert bool(rises.all()) is not turned
