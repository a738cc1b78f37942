"""The preset of arXiv 2604.21903: a mean that conserves, trained together with the diffusion, over coarse frames."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import finescale
from finescale.cli import main
from finescale.config.build import build_model
from finescale.config.read import read_config
from finescale.data.synthetic import gaussian_field
from finescale.downscaler import Downscaler
from finescale.model import losses, sampling
from finescale.model.batch import Batch, Inputs
from finescale.operators.coarsen import Coarsen

SMALL: dict[str, Any] = {
    "factor": "2x4",
    "mean.backbone.width": 8, "mean.backbone.multipliers": [1, 1], "mean.backbone.heads": 1, "mean.backbone.window": 4,
    "denoiser.backbone.width": 8, "denoiser.backbone.multipliers": [1, 1], "denoiser.backbone.heads": 1,
    "denoiser.backbone.window": 4,
}  # fmt: skip


@pytest.fixture
def rain_film(stored: Callable[[np.ndarray, Path], Path], tmp_path: Path) -> Path:
    return stored(np.exp(gaussian_field((24, 32, 32), seed=3, outer_km=12.0)), tmp_path / "rain.nc")


def alive(model: Downscaler) -> Downscaler:
    """The model with weights that do something where they start at zero."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if not parameter.any():
            parameter.data.normal_(0, 0.1, generator=generator)
    return model.eval()


def test_fit_trains_mean_and_diffusion_together_through_the_constraint(rain_film: Path, tmp_path: Path) -> None:
    settings = SMALL | {"data.path": str(rain_film), "data.crop": 16, "train.minutes": None, "train.steps": 6}
    settings |= {"train.batch": 2, "train.mean_share": 0.5, "data.frames": 3}
    model = finescale.fit("scale-adaptive", tmp_path / "model", settings)
    stages = [json.loads(line)["stage"] for line in (tmp_path / "model" / "log.jsonl").read_text().splitlines()]
    assert dict.fromkeys(stages) == dict.fromkeys(["mean", "joint"])
    coarse = torch.rand(2, 1, 3, 4, 4, generator=torch.Generator().manual_seed(0)) + 0.5
    given = Inputs(coarse)
    with torch.no_grad():
        mu = sampling.mean(model, given, sampling.conditions(model, given))
    means = Coarsen(model.factor)(model.physical(mu))
    torch.testing.assert_close(means, coarse, rtol=1e-4, atol=0)


@pytest.mark.parametrize("unknown", [False, True])
def test_the_residual_and_the_losses_are_of_a_mean_that_conserves(unknown: bool) -> None:
    """In training, where the block means are over the known cells."""
    model = alive(build_model(read_config("scale-adaptive", SMALL | {"constraint": "multiplicative"})))
    fine = torch.rand(2, 1, 6, 16, 16, generator=torch.Generator().manual_seed(1)) + 0.5
    if unknown:
        fine[..., :2, :3] = torch.nan
    known = fine.isfinite()
    operators = Coarsen(model.factor, None, known)
    batch = Batch(operators(fine), fine=fine, area=torch.ones(2, 16, 16))
    model.transform.fit([fine])
    y = model.transform(fine)
    mu = y - losses.residual(model, batch)
    torch.testing.assert_close(operators(model.physical(mu).nan_to_num()), batch.coarse, rtol=1e-4, atol=0)
    loss = model.loss("mean", batch, torch.Generator())
    torch.testing.assert_close(loss, (y - mu)[known].square().mean(), rtol=1e-4, atol=0)
    # Without the constraint, as in the first part of the mean's own stage, it is another one.
    assert not torch.isclose(model.loss("mean", batch, torch.Generator(), through=False), loss, rtol=1e-3)
    model.loss("joint", batch, torch.Generator().manual_seed(0)).backward()
    gradients = [p.grad for p in model.mean.parameters()]
    assert all(g is not None and g.isfinite().all() for g in gradients) and any(g.any() for g in gradients)


def test_networks_attend_over_the_coarse_frames() -> None:
    """L of them, whatever the factor in time; their fine frames are channels."""
    model = alive(build_model(read_config("scale-adaptive", SMALL | {"factor": "3x4", "process.steps": 2})))
    frames = []
    for network in (model.mean.backbone, model.denoiser.backbone):
        network.register_forward_pre_hook(lambda _, inputs: frames.append(inputs[0].shape[2]))
    drawn = model.downscale(film(9), members=1)
    assert max(frames) == model.context == 4 and drawn.sizes["time"] == 27
    assert model.latent.channels == 3 and np.isfinite(drawn["rain"].values).all()


def film(frames: int) -> xr.DataArray:
    values = np.random.default_rng(0).random((frames, 4, 4), np.float32) + 0.5
    coords = {
        "time": np.datetime64("2020-06-01", "ns") + np.arange(frames) * np.timedelta64(3, "h"),
        "y": np.arange(4.0),
        "x": np.arange(4.0),
    }
    return xr.DataArray(values, dims=("time", "y", "x"), coords=coords, name="rain")


def test_what_cannot_be_is_refused(rain_film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = {
        "constraint=none": "mean.conserve puts the mean through the constraint, but there is none",
        "factor={time: [1, 3], space: [2, 4]}": "latent.interval takes the frames of one factor as channels",
        "mean.interval=7": "configuration key mean.interval is 7",
    }
    for setting, said in wrong.items():
        arguments = ["fit", "scale-adaptive", "-o", str(tmp_path / "model"), "--set", f"data.path={rain_film}"]
        assert main([*arguments, "--set", "data.crop=16", "--set", "factor=2x4", "--set", setting]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1 and said in lines[0]
