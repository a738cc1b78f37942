"""Neighbouring coarse frames as conditions: what crops carry, what a prediction reads, and what networks make of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import finescale
from finescale.cli import main
from finescale.config.read import read_config
from finescale.data.synthetic import synthetic_rain
from finescale.errors import InputError
from finescale.grids.factor import Factor
from finescale.model.batch import Inputs, Members
from finescale.training.crops import Crops
from finescale.training.cutting import Augmentation

GAP = 5
"""The first frame after a gap in time."""
SEEING: dict[str, Any] = {
    "latent.side": 4,
    "data": {"crop": 32, "min_wet": 0.0, "min_valid": 0.5, "neighbours": 2},
    "train": {"steps": 20, "minutes": None, "batch": 4},
}


def rain() -> xr.DataArray:
    """Nine frames, with a gap before the sixth."""
    found = synthetic_rain((9, 48, 64), seed=1)
    time = found["time"].values.copy()
    time[GAP:] += np.timedelta64(1, "h")
    return found.assign_coords(time=time)


@pytest.mark.parametrize("ft", [1, 2])
def test_crops_carry_the_frames_about_theirs(ft: int) -> None:
    field, n = rain(), 2
    factor = finescale.Factor(ft, 4)
    crops = Crops([[field]], factor, (ft, 16, 16), augmentation=Augmentation(turn=False), neighbours=n)
    frames = 9 - ft + 1 - (ft - 1)  # none over the gap
    assert len(set(crops.positions[:, 1])) == frames
    for pick in crops.positions[:: len(crops.positions) // 40]:
        batch = crops.at(pick[None], factor)
        assert batch.fine.shape == (1, 1, ft, 16, 16) and batch.neighbours is not None
        assert batch.neighbours.shape == (1, 2 * n, 1, 1, 4, 4) and batch.coarse.shape == (1, 1, 1, 4, 4)
        _, t, y, x = pick
        low, high = (0, GAP) if t < GAP else (GAP, 9)
        for place, by in enumerate(by for by in range(-n, n + 1) if by):
            first = t + by * ft
            found = batch.neighbours[0, place, 0, 0].numpy()
            if first < low or first + ft > high:
                assert np.isnan(found).all()
                continue
            block = field.values[first : first + ft, y : y + 16, x : x + 16]
            np.testing.assert_allclose(found, block.reshape(ft, 4, 4, 4, 4).mean(axis=(0, 2, 4)), rtol=1e-5)


def test_drawn_crops_are_varied_with_their_neighbours_and_some_go_without() -> None:
    crops = Crops(
        [[rain()]],
        finescale.Factor(1, 4),
        (1, 16, 16),
        augmentation=Augmentation(rescale=0.5, smoothing=1.0, neighbours=True),
        neighbours=1,
    )
    batch = crops.draw(400, 1)
    assert batch.neighbours is not None
    gone = batch.neighbours.isnan().all(dim=(1, 2, 3, 4, 5)).float().mean()
    assert 0.05 < float(gone) < 0.18
    known = batch.neighbours[~batch.neighbours.isnan().flatten(1).any(1)]
    own = batch.coarse[~batch.neighbours.isnan().flatten(1).any(1)]
    # In another orientation, or multiplied by other numbers, they would not be alike.
    alike, turned = (
        float(torch.corrcoef(torch.stack([known.mean(1).flatten(), one.flatten()]))[0, 1])
        for one in (own, own.flip(-1))
    )
    assert alike > 0.7 and alike > turned + 0.2


@pytest.mark.parametrize("ft", [1, 2])
def test_crops_skip_frames(ft: int) -> None:
    """Of half of them up to three lie between two that are taken, in the crop and about it; none over a gap."""
    field = rain()
    field.values[...] = np.arange(9)[:, None, None]
    factors = finescale.Factors.parse({"time": ft, "space": [4, 8]})
    skipping = Augmentation(turn=False, skips=3)
    crops = Crops([[field]], factors, (4, 16, 16), frames=lambda _: 1, augmentation=skipping, neighbours=1)
    batch = crops.draw(300, 0)
    assert batch.neighbours is not None and batch.fine.shape[2] == ft
    steps = set()
    for fine, near in zip(batch.fine, batch.neighbours, strict=True):
        times, about = fine[0, :, 0, 0], near[:, 0, 0, 0, 0]
        apart = [*times.diff().tolist(), *((about - times.mean()).abs() / ft).tolist()]
        step = max((int(one) for one in apart if one == one), default=0)
        if not step:  # a single frame that has no neighbours
            continue
        assert times.tolist() == [float(times[0]) + step * k for k in range(ft)]
        low, high = (0, GAP) if times[0] < GAP else (GAP, 9)
        assert low <= times[0] and times[-1] < high
        for by, mean in zip((-1, 1), about.tolist(), strict=True):
            wanted = times + by * ft * step
            inside = low <= float(wanted[0]) and float(wanted[-1]) < high
            assert mean == float(wanted.mean()) if inside else np.isnan(mean)
        steps.add(step)
    assert steps == {1: {1, 2, 3, 4}, 2: {1, 2, 3}}[ft]
    # What lies further apart than the longest of 4 and 5 frames has no neighbours.
    assert crops.furthest == (4 if ft == 1 else 1)


def test_skips_that_leave_nothing_out_are_refused() -> None:
    skipping = Augmentation(skips=3)
    for factor, length, neighbours in ((Factor(3, 4), 4, 1), (Factor(1, 4), 1, 0), (Factor(1, 4), 4, 0)):
        with pytest.raises(InputError, match="no frames to leave out"):
            Crops([[rain()]], factor, (length, 16, 16), augmentation=skipping, neighbours=neighbours)
    short = Crops([[rain()[:2]]], Factor(1, 4), (1, 16, 16), augmentation=skipping, neighbours=1)
    assert short.furthest == 1  # of two frames
    long = Crops([[rain()[:3]]], Factor(1, 4), (1, 16, 16), augmentation=skipping, neighbours=1)
    assert long.furthest == 2


@pytest.fixture(scope="module")
def there(generating: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("neighbours")
    rain().to_dataset().to_netcdf(folder / "fine.nc", engine="netcdf4")
    finescale.coarsen(folder / "fine.nc", "1x4", folder / "coarse.nc")
    finescale.fit(read_config("one-step", generating | SEEING), folder / "model", data=folder / "fine.nc")
    return folder


def test_a_prediction_reads_the_frames_about_each(there: Path) -> None:
    """That of a file is that of the model given the neighbours by hand; none lie across the gap."""
    model = finescale.load(there / "model")
    assert model.neighbours == 2
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    coarse = xr.load_dataset(there / "coarse.nc")
    made = model.downscale(coarse, members=2)["precipitation_rate"].values
    values = torch.from_numpy(coarse["precipitation_rate"].values)[:, None, None]
    unknown = torch.full_like(values[0], torch.nan)
    for t in (0, 2, 4, 5, 8):
        low, high = (0, GAP) if t < GAP else (GAP, 9)
        near = torch.stack([values[t + by] if low <= t + by < high else unknown for by in (-2, -1, 1, 2)])
        given = Inputs(values[t][None], neighbours=near[None], origin=(t, 0, 0))
        wanted = model.sample(given, Members(range(2))).fields[0, :, 0, 0]
        np.testing.assert_allclose(made[:, t], wanted, rtol=1e-4, atol=1e-4)
        alone = model.sample(Inputs(values[t][None], origin=(t, 0, 0)), Members(range(2))).fields[0, :, 0, 0]
        assert float((alone - wanted).abs().mean()) > 1e-4
    # One frame alone, and frames window by window.
    single = model.downscale(coarse.isel(time=[3]), members=1)["precipitation_rate"]
    assert np.isfinite(single.values).all()
    parts = model.downscale(coarse, members=2, window=(2, 4, 8), halo=(0, 4, 4))["precipitation_rate"].values
    assert parts.shape == made.shape and np.isfinite(parts).all()


def test_a_resumed_prediction_looks_at_the_neighbours_too(
    there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A frame that is only a neighbour of what is finished may not change."""
    from finescale.data.store import ZarrStore
    from finescale.errors import Interrupted

    coarse = xr.load_dataset(there / "coarse.nc")
    coarse.to_netcdf(tmp_path / "coarse.nc")
    write, count = ZarrStore.write, [0]

    def stopping(self: ZarrStore, *arguments: Any) -> None:
        write(self, *arguments)
        count[0] += 1
        if count[0] == 2:
            raise Interrupted(15)

    words = ["downscale", str(there / "model"), str(tmp_path / "coarse.nc"), "-o", str(tmp_path / "out.zarr")]
    words += ["--members", "1", "--window", "1x8"]
    with monkeypatch.context() as patch:
        patch.setattr(ZarrStore, "write", stopping)
        assert main(words) == 143
    coarse["precipitation_rate"][2] *= 2  # a neighbour of the first frame
    coarse.to_netcdf(tmp_path / "other.nc")
    (tmp_path / "other.nc").replace(tmp_path / "coarse.nc")
    assert main([*words, "--resume"]) == 2
    assert "has changed" in capsys.readouterr().err


def test_another_source_has_no_neighbours(there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fit", "one-step", "-o", str(tmp_path / "m"), "--set", f"data.path={there / 'fine.nc'}"]
    words += ["--set", "data.neighbours=1", "--set", "data.mode=direct"]
    assert main([*words, "--set", f"data.coarse={there / 'coarse.nc'}"]) == 2
    assert "leave them out" in capsys.readouterr().err
    assert main([*words[:-2], "--set", "data.neighbours=-1"]) == 2
