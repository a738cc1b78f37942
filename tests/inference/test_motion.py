"""Detail that moves with the coarse field: through files, windows, gaps, workers and interruptions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.ndimage import gaussian_filter

from finescale.cli import main
from finescale.errors import InputError
from finescale.grids.windows import cut
from finescale.inference.motion import Motion
from finescale.model.calibrated import Calibrated

SPEED = (1, -2)
"""Coarse cells a frame, along y and x."""
SHAPE = (24, 32)


def moving(frames: int = 6, seed: int = 0) -> xr.DataArray:
    """Coarse rain that moves by `SPEED` a frame and does not change else, every five minutes."""
    height, width = (n + 2 * frames * max(map(abs, SPEED)) for n in SHAPE)
    field = gaussian_filter(np.random.default_rng(seed).standard_normal((height, width)), 3)
    field = np.maximum(field / field.std(), 0) * 4
    room = frames * max(map(abs, SPEED))
    parts = [field[room - t * SPEED[0] :, room - t * SPEED[1] :][: SHAPE[0], : SHAPE[1]] for t in range(frames)]
    time = np.datetime64("2024-06-01") + np.arange(frames) * np.timedelta64(5, "m")
    coords = {"time": time.astype("datetime64[ns]"), "y": np.arange(SHAPE[0]) * 8e3, "x": np.arange(SHAPE[1]) * 8e3}
    attrs = {"units": "mm h-1", "standard_name": "rainfall_rate"}
    found = xr.DataArray(np.stack(parts).astype(np.float32), dims=("time", "y", "x"), coords=coords, attrs=attrs)
    for axis in "yx":
        found[axis].attrs = {"units": "m", "standard_name": f"projection_{axis}_coordinate"}
    return found.rename("rain")


@pytest.fixture(scope="module")
def diffusing(built: Callable[..., Any]) -> Any:
    """A model of single frames whose detail is its noise, but for the constraint."""
    model = built(factor="1x4", constraint=None, mean="interpolation", latent="pixel")
    for parameter in model.denoiser.parameters():
        torch.nn.init.zeros_(parameter)
    return model


def detail(made: xr.Dataset, member: int = 0) -> np.ndarray:
    """Log-rain without what is larger than two coarse cells, where it rains."""
    values = np.log1p(made["rain"].isel(realization=member).values / 0.1)
    return values - np.stack([gaussian_filter(one, 4) for one in values])


def alike(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def along(found: np.ndarray, lag: int) -> tuple[float, float]:
    """Autocorrelation of sequences (t, H, W) in place, and along the motion."""
    dy, dx = (4 * lag * n for n in SPEED)
    height, width = found.shape[1:]
    now = found[lag:, max(0, dy) : height + min(0, dy), max(0, dx) : width + min(0, dx)]
    before = found[:-lag, max(0, -dy) : height + min(0, -dy), max(0, -dx) : width + min(0, -dx)]
    return alike(found[lag:], found[:-lag]), alike(now, before)


def test_detail_moves_with_the_coarse_field_and_lives_for_a_while(diffusing: Any) -> None:
    coarse = moving()
    own, short, long = (
        detail(diffusing.downscale(coarse, members=1, lifetime=lifetime)) for lifetime in (None, "10min", "2h")
    )
    for found in (own, short, long):
        assert abs(along(found, 1)[0]) < 0.2
    assert abs(along(own, 1)[1]) < 0.2
    assert along(long, 1)[1] > 0.75 and along(long, 3)[1] > 0.6
    assert 0.4 < along(short, 1)[1] < along(long, 1)[1]
    assert along(short, 3)[1] < 0.3
    # At each time the members are what they were: as rough, and with the same mean.
    assert np.std(long) == pytest.approx(np.std(own), rel=0.06)


def test_windows_and_threads_agree(diffusing: Any, tmp_path: Path) -> None:
    """Without a network that sees neighbours, windows have the bits of the whole."""
    coarse = moving()
    whole = diffusing.downscale(coarse, members=2, lifetime="20min")
    parts = diffusing.downscale(coarse, members=2, lifetime="20min", window=(2, 10, 12), halo=(0, 2, 2))
    np.testing.assert_allclose(parts["rain"].values, whole["rain"].values, rtol=1e-4, atol=1e-4)
    diffusing.save(tmp_path / "model")
    coarse.to_dataset().to_netcdf(tmp_path / "coarse.nc")
    words = ["downscale", str(tmp_path / "model"), str(tmp_path / "coarse.nc"), "--members", "2"]
    words += ["--lifetime", "20min", "--window", "1x12", "--threads", "2", "-o", str(tmp_path / "out.zarr")]
    assert main(words) == 0
    with xr.open_zarr(tmp_path / "out.zarr") as found:
        got = found["rain"].transpose("realization", "time", "y", "x").values
    np.testing.assert_allclose(got, whole["rain"].values, rtol=1e-4, atol=1e-4)


def test_the_orientation_of_a_file_does_not_matter(diffusing: Any) -> None:
    coarse = moving()
    same = diffusing.downscale(coarse, members=1, lifetime="1h")["rain"]
    turned = diffusing.downscale(coarse[:, ::-1, :], members=1, lifetime="1h")["rain"]
    np.testing.assert_allclose(turned.values[..., ::-1, :], same.values, rtol=1e-4, atol=1e-4)


def test_nothing_is_carried_over_a_gap(diffusing: Any) -> None:
    coarse = moving(8)
    time = coarse["time"].values.copy()
    time[4:] += np.timedelta64(3, "h")
    found = detail(diffusing.downscale(coarse.assign_coords(time=time), members=1, lifetime="2h"))
    dy, dx = (4 * n for n in SPEED)
    pairs = [alike(found[t + 1, dy:, :dx], found[t, :-dy, -dx:]) for t in range(7)]
    assert min(pairs[:3] + pairs[4:]) > 0.6
    assert abs(pairs[3]) < 0.2


def test_the_frames_of_a_coarse_one_move_together(generator: Callable[..., Any]) -> None:
    """A generator that refines time has noise in every fine frame, which moves half as far from one to the next."""
    model = generator(factor="2x4", constraint=None, **{"data.frames": 1})
    for parameter in model.generator.parameters():
        torch.nn.init.zeros_(parameter)
    torch.nn.init.ones_(model.generator.amplitudes.bias)  # z = w
    dy, dx = (2 * n for n in SPEED)
    pairs = []
    for lifetime in ("2h", "none"):
        found = detail(model.downscale(moving(), members=1, lifetime=lifetime))
        assert len(found) == 12
        pairs.append([alike(found[t + 1, dy:, :dx], found[t, :-dy, -dx:]) for t in range(11)])
    assert min(pairs[0]) > 0.6 and np.mean(pairs[1]) < 0.3


def test_a_calibrated_lifetime_is_taken_and_none_leaves_it_out(diffusing: Any) -> None:
    coarse = moving()
    asked = diffusing.downscale(coarse, members=1, lifetime="30min")["rain"].values
    own = diffusing.downscale(coarse, members=1)["rain"].values
    try:
        diffusing.calibrated = Calibrated(lifetime=1800.0)
        np.testing.assert_array_equal(diffusing.downscale(coarse, members=1)["rain"].values, asked)
        np.testing.assert_array_equal(diffusing.downscale(coarse, members=1, lifetime="none")["rain"].values, own)
        # A field of one time has nothing that moves, and of one every day nothing lives from one to the next.
        times = np.datetime64("2024-06-01", "ns") + np.arange(6) * np.timedelta64(1, "D")
        daily = coarse.assign_coords(time=times)
        both = [diffusing.downscale(daily, members=1, **told)["rain"].values for told in ({}, {"lifetime": "none"})]
        np.testing.assert_array_equal(*both)
        assert np.isfinite(diffusing.downscale(coarse[:1], members=1)["rain"].values).all()
    finally:
        diffusing.calibrated = Calibrated()


def test_what_cannot_be_carried_is_refused(diffusing: Any, built: Callable[..., Any]) -> None:
    coarse = moving()
    for asked, said in (
        ("5", "lifetime '5' is not understood"),
        ("-5min", "is not understood"),
        ("1s", "0.00333 coarse frames, but must be from 0.1"),
    ):
        with pytest.raises(InputError, match=said):
            diffusing.downscale(coarse, members=1, lifetime=asked)
    with pytest.raises(InputError, match="has no frames that follow"):
        diffusing.downscale(coarse[:1], members=1, lifetime="5min")
    persistent = built(factor="2x4", process={"persistent": True}, data={"frames": 2})
    with pytest.raises(InputError, match="several frames at once"):
        persistent.downscale(coarse, members=1, lifetime="5min")
    # Modes left out; and all of them of patches that overlap, which have more coefficients than there are cells.
    for latent in ({"modes": 3}, {"modes": 16, "overlap": True}):
        model = built(factor="1x4", latent={"kind": "patch_pod", "patch": 4, **latent})
        with pytest.raises(InputError, match="no orthonormal transform"):
            model.downscale(coarse, members=1, lifetime="5min")


def test_an_interrupted_run_looks_at_the_motion_too(
    diffusing: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A later frame, to which a finished one's detail moves, may not change; and another lifetime is another run."""
    from finescale.data.store import ZarrStore
    from finescale.errors import Interrupted

    coarse, write, count = moving(), ZarrStore.write, [0]
    diffusing.save(tmp_path / "model")
    coarse.to_dataset().to_netcdf(tmp_path / "coarse.nc")

    def stopping(self: ZarrStore, *arguments: Any) -> None:
        write(self, *arguments)
        count[0] += 1
        if count[0] == 2:
            raise Interrupted(15)

    def words(file: str, lifetime: str = "20min") -> list[str]:
        found = ["downscale", str(tmp_path / "model"), str(tmp_path / file), "-o", str(tmp_path / "out.zarr")]
        return [*found, "--members", "1", "--window", "1x64", "--lifetime", lifetime]

    with monkeypatch.context() as patch:
        patch.setattr(ZarrStore, "write", stopping)
        assert main(words("coarse.nc")) == 143
    other = coarse.copy(deep=True)
    other[2] = np.roll(other[2].values, 3, axis=0)
    other.to_dataset().to_netcdf(tmp_path / "other.nc")
    capsys.readouterr()
    assert main([*words("other.nc"), "--resume"]) == 2
    assert "has changed, first in frames" in capsys.readouterr().err
    assert main([*words("coarse.nc", "10min"), "--resume"]) == 2
    assert "lifetime" in capsys.readouterr().err
    assert main([*words("coarse.nc"), "--resume"]) == 0
    with xr.open_zarr(tmp_path / "out.zarr") as found:
        whole = diffusing.downscale(coarse, members=1, lifetime="20min")["rain"]
        got = found["rain"].transpose("realization", "time", "y", "x").values
    np.testing.assert_allclose(got, whole.values, rtol=1e-4, atol=1e-4)


def test_frames_are_read_once_for_all_windows() -> None:
    read: list[int] = []

    def frame(number: int) -> np.ndarray:
        read.append(number)
        return np.log1p(moving()[number].values / 0.1)

    motion = Motion(frame, SHAPE, [0, 6], 4.0, 1)
    for window in cut((6, *SHAPE), (1, 12, 16), halo=(0, 2, 2), blend=(0, 0, 0)):
        motion.carried([window])
    assert len(read) <= 2 * 6
