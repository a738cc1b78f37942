"""The command line from a fine file to a scored ensemble, and what it says of wrong models and configurations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
import yaml

from finescale.cli.commands import main
from finescale.config.build import build_model
from finescale.config.load import load
from finescale.data.files import open_store
from finescale.data.synthetic import synthetic_rain
from finescale.data.writing import write


@pytest.fixture(scope="module")
def folder(tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fine truth, its coarse version and an untrained model."""
    path = tmp_path_factory.mktemp("data")
    write(synthetic_rain((3, 48, 64), seed=5).to_dataset(), path / "fine.nc")
    assert main(["coarsen", str(path / "fine.nc"), "-o", str(path / "coarse.nc"), "--factor", "1x4"]) == 0
    torch.manual_seed(0)
    build_model(tiny).save(path / "model")
    return path


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run, expect exit code 2 and one line on stderr; return it."""
    capsys.readouterr()
    assert main(arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("finescale: ")
    return lines[0]


def test_coarsen_fit_downscale_verify(tiny: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    config = tiny | {
        "variables": {"precipitation_rate": {"units": "mm h-1"}},
        "data": {"path": str(folder / "fine.nc"), "crop": 16, "min_wet": 0.01},
        "train": {"steps": 6, "batch": 4},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    model, ensemble = str(tmp_path / "model"), str(tmp_path / "ensemble.nc")
    assert main(["fit", str(tmp_path / "config.yaml"), "-o", model, "--set", "train.batch=3"]) == 0
    assert main(["downscale", model, str(folder / "coarse.nc"), "-o", ensemble, "--members", "3", "--steps", "2"]) == 0
    arguments = ["verify", ensemble, str(folder / "fine.nc"), "-o", str(tmp_path / "scores")]
    assert main([*arguments, "--coarse", str(folder / "coarse.nc")]) == 0
    scores = json.loads((tmp_path / "scores" / "scores.json").read_text())
    assert {"ensemble", "nearest", "bicubic", "rainfarm"} <= set(scores["systems"])
    assert scores["systems"]["ensemble"]["conservation_residual"] < 1e-6
    assert (tmp_path / "scores" / "report.html").is_file()
    out = open_store(ensemble)
    assert out["precipitation_rate"].dims == ("time", "realization", "y", "x")
    assert out.attrs["finescale_conservation_residual"] < 1e-6 and "downscale" in out.attrs["history"]


def test_dry_input_gives_zeros(folder: Path, tmp_path: Path) -> None:
    coarse = open_store(folder / "coarse.nc").load()
    coarse["precipitation_rate"][:] = 0
    coarse["precipitation_rate"][0, 0, 0] = np.nan
    write(coarse, tmp_path / "dry.nc")
    out = str(tmp_path / "out.zarr")
    assert main(["downscale", str(folder / "model"), str(tmp_path / "dry.nc"), "-o", out, "--members", "2"]) == 0
    values = open_store(out)["precipitation_rate"].values
    assert np.isnan(values[0, :, :4, :4]).all() and np.isnan(values).sum() == 2 * 16
    assert (np.nan_to_num(values) == 0).all()


def test_wrong_models(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coarse, out = str(folder / "coarse.nc"), tmp_path / "out.nc"
    assert "no config.yaml" in refused(["downscale", str(tmp_path), coarse, "-o", str(out)], capsys)
    load(folder / "model").save(tmp_path / "broken")
    weights = tmp_path / "broken" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "truncated" in refused(["downscale", str(tmp_path / "broken"), coarse, "-o", str(out)], capsys)
    assert not out.exists() and not list(tmp_path.glob(".*partial*"))


def test_wrong_units_and_variables(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = str(folder / "model"), str(tmp_path / "out.nc")
    coarse = open_store(folder / "coarse.nc").load()
    coarse["precipitation_rate"].attrs["units"] = "K"
    write(coarse, tmp_path / "kelvin.nc")
    assert "K" in refused(["downscale", model, str(tmp_path / "kelvin.nc"), "-o", out], capsys)
    said = refused(["downscale", model, str(folder / "coarse.nc"), "-o", out, "--variable", "rian"], capsys)
    assert "precipitation_rate" in said
    assert not Path(out).exists()


def test_compatible_units_are_converted(folder: Path, tmp_path: Path) -> None:
    coarse = open_store(folder / "coarse.nc").load()
    per_second = coarse.copy()
    per_second["precipitation_rate"] = (coarse["precipitation_rate"] / 3600).assign_attrs(units="kg m-2 s-1")
    write(per_second, tmp_path / "flux.nc")
    fields = []
    for name, source in (("a", folder / "coarse.nc"), ("b", tmp_path / "flux.nc")):
        out = tmp_path / f"{name}.nc"
        assert main(["downscale", str(folder / "model"), str(source), "-o", str(out), "--members", "1"]) == 0
        fields.append(open_store(out)["precipitation_rate"].load())
    assert fields[1].attrs["units"] == "kg m-2 s-1"
    xr.testing.assert_allclose(fields[0].drop_attrs(), fields[1].drop_attrs() * 3600, rtol=1e-3, atol=1e-4)


def test_wrong_configurations(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "model"
    data = f"data.path={folder / 'fine.nc'}"
    fit = ["fit", "wavelet", "-o", str(model), "--set", data]
    assert "did you mean 'side'" in refused([*fit, "--set", "latent.sid=4", "--set", "data.crop=16"], capsys)
    assert "did you mean 'wavelet'" in refused(["fit", "wavelt", "-o", str(model)], capsys)
    assert "data.path is missing" in refused(["fit", "wavelet", "-o", str(model)], capsys)
    assert "does not exist" in refused([*fit[:-1], "data.path=nowhere.nc"], capsys)
    assert "not divisible" in refused([*fit, "--set", "data.crop=17"], capsys)
    assert "smaller than the training crop" in refused([*fit, "--set", "data.crop=128"], capsys)
    assert "no coordinate 'lon'" in refused([*fit, "--set", "data.train={lon: [0, 1]}"], capsys)
    assert not model.exists()
