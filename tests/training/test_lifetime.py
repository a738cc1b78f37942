"""The lifetime of detail: of noise whose lifetime is known, and through `finescale calibrate`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.ndimage import gaussian_filter

import finescale
from finescale.cli import main
from finescale.config.load import load
from finescale.diffusion import Carried, carried_noise
from finescale.grids.factor import Factor
from finescale.training.fields import Field
from finescale.training.lifetime import lifetime

SIDE, FRAMES = 128, 12


def rain(life: float, speed: tuple[int, int] = (1, 2), minutes: int = 5) -> xr.DataArray:
    """Showers that move by whole cells and do not change, and detail that lives for ``life`` frames."""
    times = np.arange(FRAMES) + 0.5
    number = np.floor(times / life)
    angle, epochs = np.pi / 2 * (times / life - number), np.stack([number, number + 1], -1)
    shift = ((times[:, None] - epochs * life)[..., None] * np.array(speed) / 4)[..., None, None]
    shift = np.broadcast_to(shift, (FRAMES, 2, 2, SIDE // 4 + 2, SIDE // 4 + 2)).astype(np.float32)
    share = np.stack([np.cos(angle), np.sin(angle)], -1).astype(np.float32)
    carried = Carried(*(torch.tensor(np.array(part))[None] for part in (shift, share, epochs.astype(int), 0)))
    small = carried_noise(1, (FRAMES, SIDE, SIDE), carried, [(0, (0, 0, 0))], (4, 4), 1)[0, 0].numpy()
    small = gaussian_filter(small, (0, 1, 1))
    room = 2 * FRAMES
    large = gaussian_filter(np.random.default_rng(0).standard_normal((SIDE + 2 * room,) * 2), 12)
    steps = [(room - t * speed[0], room - t * speed[1]) for t in range(FRAMES)]
    moved = np.stack([large[y : y + SIDE, x : x + SIDE] for y, x in steps])
    values = np.exp(1.5 * moved / large.std() + 0.7 * small / small.std()).astype(np.float32)
    time = np.datetime64("2024-06-01", "ns") + np.arange(FRAMES) * np.timedelta64(minutes, "m")
    coords: dict[str, Any] = {"time": time}
    for axis in "yx":
        told = {"units": "m", "standard_name": f"projection_{axis}_coordinate"}
        coords[axis] = (axis, 1e3 * np.arange(SIDE), told)
    attrs = {"units": "mm h-1", "standard_name": "rainfall_rate"}
    return xr.DataArray(values, dims=("time", "y", "x"), coords=coords, attrs=attrs, name="precipitation_rate")


def test_the_lifetime_of_carried_noise_is_found() -> None:
    found = [lifetime([Field([rain(life)], True, None, None)], Factor(1, 4), True) for life in (3.0, 8.0)]
    assert found[0] == pytest.approx(3.0 * 300, rel=0.3)
    assert found[1] == pytest.approx(8.0 * 300, rel=0.3)


def test_fields_that_do_not_say_have_none() -> None:
    field = rain(4.0)
    assert lifetime([Field([field[:3]], True, None, None)], Factor(1, 4), True) is None
    assert lifetime([Field([field[:, :40, :40]], True, None, None)], Factor(1, 4), True) is None
    new = field.copy(data=np.random.default_rng(0).gamma(0.5, size=field.shape).astype(np.float32))
    assert lifetime([Field([new], True, None, None)], Factor(1, 4), True) is None
    undated = field.assign_coords(time=np.arange(FRAMES))
    assert lifetime([Field([undated], True, None, None)], Factor(1, 4), True) is None


def test_calibrate_keeps_it_and_downscale_takes_it(
    generator: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, field = generator(), rain(6.0)
    model.config |= {"data": {**model.config["data"], "path": "fine.nc", "crop": 32, "min_wet": 0.0}}
    model.save(tmp_path / "model")
    field.to_dataset().to_netcdf(tmp_path / "fine.nc")
    assert main(["calibrate", str(tmp_path / "model"), str(tmp_path / "fine.nc")]) == 0
    assert "lifetime" in capsys.readouterr().out
    told = load(tmp_path / "model").calibrated
    assert told.lifetime is not None and 600 < told.lifetime < 3600
    finescale.coarsen(tmp_path / "fine.nc", "1x4", tmp_path / "coarse.nc")
    out = {}
    for name, more in {"asked": [], "own": ["--lifetime", "none"], "same": ["--lifetime", f"{told.lifetime}s"]}.items():
        words = ["downscale", str(tmp_path / "model"), str(tmp_path / "coarse.nc"), "-o", str(tmp_path / f"{name}.nc")]
        assert main([*words, "--members", "1", *more]) == 0
        out[name] = xr.load_dataset(tmp_path / f"{name}.nc")["precipitation_rate"].values
    np.testing.assert_array_equal(out["asked"], out["same"])
    assert not np.array_equal(out["asked"], out["own"])
    # Frames that do not follow each other say nothing of it.
    uneven = field.isel(time=[0, 1, 4, 5, 9, 11])
    uneven.to_dataset().to_netcdf(tmp_path / "few.nc")
    assert main(["calibrate", str(tmp_path / "model"), str(tmp_path / "few.nc"), "-o", str(tmp_path / "other")]) == 0
    assert load(tmp_path / "other").calibrated.lifetime is None
