"""``downscale --variance``: what a file says of its uncertainty, whatever the windows or an interruption."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from finescale.cli import commands, runner
from finescale.config.load import load
from finescale.data import store
from finescale.data.writing import write
from finescale.downscaler import Downscaler
from finescale.errors import InputError
from finescale.model.batch import Inputs, Members
from finescale.model.uncertainty import LEVELS
from finescale.training.fit import fit
from finescale.verbs import downscale

LINEAR = {"transform": ["standardize"], "constraint": "additive"}


@pytest.fixture
def trained(head: dict[str, Any], config: Callable[..., Any], data: Path, tmp_path: Path) -> Path:
    """A deterministic model with a head, of a linear transform."""
    settings = config(data, steps=10, variance_share=0.4) | LINEAR | {"denoiser": "none", "variance": head}
    fit(settings, tmp_path / "model")
    return tmp_path / "model"


def coarse_file(folder: Path) -> Path:
    values = np.random.default_rng(0).gamma(0.5, 2.0, (2, 6, 8)).astype(np.float32)
    values[1, 2, 3] = np.nan
    ds = xr.Dataset(
        {"rain": (("time", "lat", "lon"), values, {"units": "mm h-1", "cell_methods": "area: mean"})},
        coords={
            "time": ("time", np.datetime64("2020-01-01", "ns") + np.arange(2) * np.timedelta64(1, "h")),
            "lat": ("lat", np.arange(60.0, 57.0, -0.5), {"units": "degrees_north"}),
            "lon": ("lon", np.arange(8) * 0.5, {"units": "degrees_east"}),
        },
    )
    write(ds, folder / "coarse.nc", overwrite=True)
    return folder / "coarse.nc"


def run(*words: object) -> int:
    return commands.main([str(word) for word in words])


def read(path: Path) -> xr.Dataset:
    # Not by the package's own reader, which refuses infinite deviations of an untrained model.
    with xr.open_zarr(path) if path.suffix == ".zarr" else xr.open_dataset(path, engine="netcdf4") as ds:
        return ds.load()


def test_from_training_to_a_file(trained: Path, tmp_path: Path) -> None:
    """fit, then downscale --members 0 --variance: the file has what Python has, whatever the windows."""
    model = load(trained)
    assert set(model.parameters_by_part) == {"mean", "variance"} and float(model.latent.scale.min()) != 1
    coarse = coarse_file(tmp_path)
    for suffix in (".nc", ".zarr"):
        out = tmp_path / f"o{suffix}"
        # Its cells are twelve times as wide as those of the training, which does not matter here.
        command = ["downscale", trained, coarse, "-o", out, "--members", 0, "--variance", "--window", "1x4", "--force"]
        assert run(*command) == 0
        ds = read(out)
        assert ds["rain"].dims == ds["rain_std"].dims == ("time", "lat", "lon") and "realization" not in ds.dims
        assert "rain_quantile" not in ds and ds["rain"].attrs["ancillary_variables"] == "rain_std"
        std = ds["rain_std"]
        assert std.attrs["units"] == "mm h-1" and "variance head" in std.attrs["comment"]
        assert std.attrs["cell_methods"] == "area: mean realization: standard_deviation"
        assert "additive constraint" in std.attrs["comment"] and "--variance head" in ds.attrs["history"]
        assert 0 <= ds.attrs["finescale_conservation_residual"] < 1e-5
        python = model.downscale(read(coarse), members=0, variance=True, force=True)
        for name in ("rain", "rain_std"):
            np.testing.assert_allclose(ds[name], python[name], rtol=1e-3, atol=1e-4)
        assert (np.isnan(std.values) == np.isnan(ds["rain"].values)).all() and np.isnan(std.values).sum() == 16
    # What has a mean and its standard deviation has one gridded variable to every other command.
    assert run("info", tmp_path / "o.nc") == 0
    tensor = torch.from_numpy(np.flip(read(coarse)["rain"].values, 1).copy())[:, None, None]
    direct = model.marginals(Inputs(tensor), Members(range(64))).std[:, 0, 0].flip(1)
    np.testing.assert_allclose(python["rain_std"], direct, rtol=0.02, atol=1e-3)  # but for the area of cells


def test_members_and_quantiles_beside_them(
    built: Callable[..., Downscaler], head: dict[str, Any], tmp_path: Path
) -> None:
    model = built(variance=head)
    model.save(tmp_path / "model")
    coarse, out = coarse_file(tmp_path), tmp_path / "o.zarr"
    words = ("downscale", tmp_path / "model", coarse, "-o", out, "--members", 2)
    assert run(*words, "--variance") == 0
    ds = read(out)
    assert ds["rain"].shape == (2, 2, 24, 32) and ds["rain_quantile"].dims == ("time", "quantile", "lat", "lon")
    np.testing.assert_allclose(ds["quantile"], LEVELS)
    alone = model.downscale(read(coarse), members=2)
    np.testing.assert_allclose(ds["rain"].transpose("realization", ...), alone["rain"], rtol=1e-3, atol=1e-4)
    assert (ds["rain_quantile"].diff("quantile").fillna(0) >= 0).all()
    assert "constraint acts on the mean alone" in ds["rain_std"].attrs["comment"]
    assert run(*words, "--variance", "members", "--overwrite") == 0
    again = read(out)
    assert "2 sampled latents" in again["rain_std"].attrs["comment"]
    np.testing.assert_allclose(again["rain"].transpose("realization", ...), alone["rain"], rtol=1e-3, atol=1e-4)
    assert again.attrs["finescale_conservation_residual_before"] > 0
    assert not np.allclose(read(out)["rain_std"], ds["rain_std"], equal_nan=True)


def test_an_interrupted_spread_is_resumed(
    built: Callable[..., Downscaler], head: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, coarse = built(**LINEAR, variance=head), coarse_file(tmp_path)
    settings: dict[str, Any] = {"members": 2, "variance": True, "window": (1, 4, 4), "progress": False}
    downscale(model, coarse, tmp_path / "whole.zarr", **settings)
    original = store.ZarrStore.write

    def stop(self: Any, task: int, *rest: Any) -> None:
        if task == 3:
            raise KeyboardInterrupt
        original(self, task, *rest)

    monkeypatch.setattr(store.ZarrStore, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        downscale(model, coarse, tmp_path / "o.zarr", **settings)
    monkeypatch.undo()
    with pytest.raises(InputError, match="variance head is now None"):
        downscale(model, coarse, tmp_path / "o.zarr", **(settings | {"variance": False}), resume=True)
    downscale(model, coarse, tmp_path / "o.zarr", **settings, resume=True)
    xr.testing.assert_equal(read(tmp_path / "o.zarr"), read(tmp_path / "whole.zarr"))


def test_the_command_line_says_what_is_missing(
    built: Callable[..., Downscaler], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    built(denoiser="none").save(tmp_path / "plain")
    coarse = coarse_file(tmp_path)
    for words, said in (
        (("--variance",), "has no variance head"),
        (("--members", "0"), "--variance"),
        (("--variance=psychic",), "--variance"),
    ):
        assert run("downscale", tmp_path / "plain", coarse, "-o", tmp_path / "o.nc", *words) == 2
        err = capfd.readouterr().err.splitlines()
        assert len(err) == 1 and said in err[0], err
    assert not (tmp_path / "o.nc").exists()


def test_a_distilled_denoiser_says_no_variance(
    built: Callable[..., Downscaler], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    process = {
        "schedule": {"kind": "edm", "sigma_max": 10},
        "sampler": {"kind": "consistency", "levels": 8},
        "steps": 2,
    }
    model = built(process=process)
    model.save(tmp_path / "model")
    words = ("downscale", tmp_path / "model", coarse_file(tmp_path), "-o", tmp_path / "o.nc", "--variance", "denoiser")
    assert run(*words) == 2 and not (tmp_path / "o.nc").exists()
    err = capfd.readouterr().err.splitlines()
    assert len(err) == 1 and "this model is distilled" in err[0] and "--variance members" in err[0]
    assert model.variance_source("auto", 64) == "members"


def test_a_bare_flag_takes_no_other_word() -> None:
    assert runner.bare_variance(["--variance", "m", "c"]) == ["--variance=auto", "m", "c"]
    assert runner.bare_variance(["m", "--variance"]) == ["m", "--variance=auto"]
    assert runner.bare_variance(["--variance", "head"]) == ["--variance", "head"]
