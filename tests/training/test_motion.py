"""Neighbouring frames where they have moved to: what crops carry, and what a prediction sees."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.ndimage import gaussian_filter

import finescale
from finescale.cli import main
from finescale.config.read import read_config
from finescale.grids.factor import Factor
from finescale.grids.motion import motion, seen
from finescale.model.batch import Batch, Inputs, Members
from finescale.operators.advect import along
from finescale.training.crops import Crops
from finescale.training.cutting import Augmentation
from finescale.training.fields import Field

SPEED = (4, -6)
"""Fine cells a frame, along y and x."""
SHAPE, FRAMES, GAP = (160, 192), 10, 6


def moving() -> xr.DataArray:
    """Rain that moves by `SPEED` a frame and does not change else, with a gap in time before frame `GAP`."""
    room = FRAMES * max(map(abs, SPEED))
    height, width = (n + 2 * room for n in SHAPE)
    field = gaussian_filter(np.random.default_rng(0).standard_normal((height, width)), 10)
    field = np.maximum(field / field.std() + 0.5, 0) * 4
    parts = [field[room - t * SPEED[0] :, room - t * SPEED[1] :][: SHAPE[0], : SHAPE[1]] for t in range(FRAMES)]
    time = np.datetime64("2024-06-01", "ns") + np.arange(FRAMES) * np.timedelta64(5, "m")
    time[GAP:] += np.timedelta64(3, "h")
    coords = {"time": time, "y": np.arange(SHAPE[0]) * 1e3, "x": np.arange(SHAPE[1]) * 1e3}
    attrs = {"units": "mm h-1", "standard_name": "rainfall_rate"}
    found = xr.DataArray(np.stack(parts).astype(np.float32), dims=("time", "y", "x"), coords=coords, attrs=attrs)
    for axis in "yx":
        found[axis].attrs = {"units": "m", "standard_name": f"projection_{axis}_coordinate"}
    return found.rename("rain")


def off(batch: Batch, by: float, factor: Factor) -> float:
    """How much coarse frames before and after differ, moved by a multiple of the velocity."""
    assert batch.neighbours is not None and batch.velocity is not None
    y, near = (torch.log1p(x / 0.1) for x in (batch.coarse, batch.neighbours))
    known = ~near.isnan().flatten(1).any(1)
    _, moved = along(y[known], near[known], by * batch.velocity[known], factor)
    return float((moved[:, 0] - moved[:, 1]).square().mean())


def test_crops_know_how_fast_they_move() -> None:
    factor = Factor(1, 8)
    crops = Crops([[moving()]], factor, (1, 64, 64), neighbours=1, motion=True)
    batch = crops.at(np.array([[0, 2, 48, 64], [0, 0, 48, 64], [0, GAP, 48, 64]]), factor)
    assert batch.velocity is not None and batch.velocity.shape == (3, 2, 1, 8, 8)
    wanted = torch.tensor(SPEED) / 8
    torch.testing.assert_close(batch.velocity.mean((2, 3, 4)), wanted.expand(3, 2), rtol=0.25, atol=0)
    # Three frames together move three times as far; twice as many cells, half as many of them.
    slow = Crops([[moving()]], Factor(3, 16), (3, 64, 64), neighbours=1, motion=True)
    found = slow.at(np.array([[0, 1, 48, 64]]), Factor(3, 16)).velocity
    assert found is not None
    torch.testing.assert_close(found.mean((2, 3, 4))[0], 1.5 * wanted, rtol=0.25, atol=0)


def test_frames_further_apart_move_further() -> None:
    factor = Factor(1, 8)
    skipping = Augmentation(turn=False, skips=1)
    crops = Crops([[moving()]], factor, (1, 64, 64), neighbours=1, motion=True, augmentation=skipping)
    batch = crops.draw(96, 3)
    assert batch.velocity is not None
    times = batch.velocity.mean((2, 3, 4)) / (torch.tensor(SPEED) / 8)
    whole = times[times.any(1)].mean(1).round().long()
    assert set(whole.tolist()) == {1, 2} and 0.3 < float((whole == 2).float().mean()) < 0.7
    torch.testing.assert_close(times[times.any(1)].mean(1), whole.float(), rtol=0.3, atol=0)
    still, right, wrong = (off(batch, by, factor) for by in (0.0, 1.0, -1.0))
    assert right < 0.5 * still < 0.5 * wrong


@pytest.mark.parametrize(
    ("step", "frames", "pairs"),
    [
        (1, (3,), {2, 3}),
        (2, (1,), {1}),
        (2, (3,), {1, 3}),
        (2, (0, 2), {0, 2}),
        (6, (1,), {1}),
        (6, (2,), set()),
    ],
)
def test_the_motion_is_that_of_the_frames_that_a_crop_has(
    step: int, frames: tuple[int, ...], pairs: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of pairs so many frames apart as these, that end or begin in them; of eight frames."""
    even = np.datetime64("2024-06-01", "ns") + np.arange(8) * np.timedelta64(5, "m")
    numbered = moving()[:8].assign_coords(time=even)
    numbered.values[...] = np.arange(8)[:, None, None]
    asked = set()

    def recorded(means: np.ndarray, rain: bool) -> tuple[np.ndarray]:
        first, second = means.mean((1, 2))
        assert second - first == step
        asked.add(int(first))
        return (means,)

    monkeypatch.setattr("finescale.training.fields.seen", recorded)
    monkeypatch.setattr("finescale.training.fields.motion", np.ones_like)
    cells = slice(frames[0], frames[-1] + 1, step), slice(0, 64), slice(0, 64)
    velocity = Field([numbered], hold=True).velocity(*cells, Factor(len(frames), 8))
    assert asked == pairs and bool(np.any(velocity)) == bool(pairs)


@pytest.mark.parametrize("double", [False, True])
def test_the_motion_is_turned_and_shrunk_with_its_crop(double: bool) -> None:
    factor = Factor(1, 8)
    augmentation = Augmentation(smoothing=0.1 if double else 0.0, neighbours=True)
    crops = Crops([[moving()]], factor, (1, 64, 64), neighbours=1, motion=True, augmentation=augmentation)
    batch = crops.draw(96, 3)
    assert batch.velocity is not None
    velocity = batch.velocity.mean((2, 3, 4))
    speeds = velocity.norm(dim=1)[velocity.any(1)] * 8 / math.hypot(*SPEED)
    assert len({tuple(one) for one in velocity[velocity.any(1)].sign().tolist()}) == 4  # every orientation
    assert bool(((speeds > 0.35) & (speeds < 0.65)).any()) == double and float(speeds.max()) > 0.8
    still, right, wrong = (off(batch, by, factor) for by in (0.0, 1.0, -1.0))
    assert right < 0.5 * still < 0.5 * wrong


def test_crops_without_neighbours_do_not_move() -> None:
    crops = Crops(
        [[moving()]], Factor(1, 8), (1, 64, 64), neighbours=1, motion=True, augmentation=Augmentation(neighbours=True)
    )
    batch = crops.draw(200, 1)
    assert batch.neighbours is not None and batch.velocity is not None
    gone = batch.neighbours.isnan().flatten(1).all(1)
    assert 0 < int(gone.sum()) < 60
    assert not bool(batch.velocity[gone].any()) and bool(batch.velocity[~gone].flatten(1).any(1).all())


@pytest.fixture(scope="module")
def there(generating: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("motion")
    moving().to_dataset().to_netcdf(folder / "fine.nc", engine="netcdf4")
    parts = [finescale.coarsen(moving()[part].to_dataset(), "2x8") for part in (slice(GAP), slice(GAP, None))]
    xr.concat(parts, "time").to_netcdf(folder / "coarse.nc", engine="netcdf4")
    settings = generating | {
        "factor": {"time": [1, 3], "space": [2, 8]},
        "latent.side": 4,
        "data": {"crop": 64, "min_wet": 0.0, "min_valid": 0.5, "neighbours": 1, "motion": True, "skips": 2},
        "generator.score.together": False,
        "train": {"steps": 4, "minutes": None, "batch": 2},
    }
    finescale.fit(read_config("one-step", settings), folder / "model", data=folder / "fine.nc")
    return folder


def test_a_start_keeps_motion_and_skips_no_frames(there: Path, tmp_path: Path) -> None:
    """…for what comes less often than its own data is no concern of others."""
    finescale.fit(None, tmp_path / "on", {"train.steps": 1}, data=there / "fine.nc", start=there / "model")
    model = finescale.load(tmp_path / "on")
    assert model.moving and model.remembers.apart == 1 and "skips" not in model.config["data"]


@pytest.mark.parametrize("factor", ["1x8", "3x8"])
def test_a_model_that_skipped_frames_is_calibrated_on_whole_sequences(there: Path, factor: str) -> None:
    """…at factors, too, that leave none to skip."""
    model = finescale.load(there / "model")
    assert finescale.calibrate(model, there / "fine.nc", factor=factor).at[factor].crops > 0


def test_a_prediction_moves_the_frames_about_each(there: Path) -> None:
    """That of a file is that of the model given neighbours and velocity by hand; nothing moves across the gap."""
    model = finescale.load(there / "model").at("2x8")
    assert model.moving and model.neighbours == 1 and model.remembers.apart == 3
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    coarse = xr.load_dataset(there / "coarse.nc")
    alone = (1, *coarse["rain"].shape[1:])  # for the constraint looks across frames
    made = model.downscale(coarse, members=2, factor="2x8", window=alone)["rain"].values
    values = torch.from_numpy(coarse["rain"].values)[:, None, None]
    shown = seen(coarse["rain"].values, amounts=True)
    unknown = torch.full_like(values[0], torch.nan)
    for t in range(FRAMES // 2):
        low, high = (0, 3) if t < 3 else (3, 5)
        near = torch.stack([values[t + by] if low <= t + by < high else unknown for by in (-1, 1)])
        pairs = [pair for pair in (t - 1, t) if low <= pair < high - 1]
        velocity = np.mean([motion(*shown[pair : pair + 2]) for pair in pairs], axis=0)[None, :, None]
        assert np.abs(velocity).mean() > 0.1
        given = Inputs(values[t][None], neighbours=near[None], origin=(t, 0, 0), velocity=torch.from_numpy(velocity))
        wanted = model.sample(given, Members(range(2))).fields[0, :, 0]
        np.testing.assert_allclose(made[:, 2 * t : 2 * t + 2], wanted, rtol=1e-3, atol=1e-3)
        still = model.sample(Inputs(values[t][None], neighbours=near[None], origin=(t, 0, 0)), Members(range(2)))
        assert float((still.fields[0, :, 0] - wanted).abs().mean()) > 1e-4


def test_windows_see_the_motion_of_the_whole(there: Path) -> None:
    model, coarse = finescale.load(there / "model").at("2x8"), xr.load_dataset(there / "coarse.nc")
    whole = model.downscale(coarse, members=1, lifetime="20min")["rain"].values
    parts = model.downscale(coarse, members=1, lifetime="20min", window=(3, 8, 8), halo=(0, 12, 12))["rain"].values
    np.testing.assert_allclose(parts, whole, rtol=2e-2, atol=2e-2)
    single = model.downscale(coarse.isel(time=[1]), members=1)["rain"]
    assert np.isfinite(single.values).all()


def test_motion_needs_neighbours(there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fit", "one-step", "-o", str(tmp_path / "m"), "--set", f"data.path={there / 'fine.nc'}"]
    assert main([*words, "--set", "data.motion=true"]) == 2
    assert "set data.neighbours too" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()
