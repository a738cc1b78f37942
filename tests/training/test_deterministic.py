"""Deterministic networks trained through a strict constraint, or with a soft penalty."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from finescale.cli import main
from finescale.config.build import build_model
from finescale.config.load import load
from finescale.config.read import read_config
from finescale.constraints import Additive, Bounded, Softmax
from finescale.downscaler import Downscaler
from finescale.errors import InputError, Notice
from finescale.grids.factor import Factor
from finescale.model.batch import Batch, Inputs, Members
from finescale.operators.coarsen import Coarsen
from finescale.training.fit import fit

SMALL: dict[str, dict[str, Any]] = {
    "srcnn": {"width": 8},
    "lapsrn": {"width": 8, "convolutions": 2},
    "dense_unet": {"width": 8, "depth": 2},
    "dbpn": {"width": 8, "blocks": 2},
    "dense_sr": {"width": 16, "blocks": 2, "layers": 2},
    "edsr": {"width": 8, "blocks": 2},
    "rdn": {"width": 8, "blocks": 2, "layers": 2, "growth": 8},
    "unet": {"width": 8, "multipliers": [1, 1]},
}


def built(backbone: str = "edsr", factor: str = "1x4", **changes: Any) -> Downscaler:
    torch.manual_seed(0)
    config = {"factor": factor, "mean.backbone": {"kind": backbone} | SMALL[backbone], "precision": "float32"}
    return build_model(read_config("conservative-cnn", config | changes)).eval()


def batch() -> Batch:
    fine = torch.rand(3, 1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    return Batch(Coarsen(Factor(1, 4))(fine), torch.ones(3, 16, 16), fine=fine)


def woken(model: Downscaler) -> Downscaler:
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize("backbone", SMALL)
@pytest.mark.parametrize("factor", [Factor(1, 4), Factor(1, y=2, x=5), Factor(2, 3)], ids=str)
def test_every_network_trains_and_conserves(backbone: str, factor: Factor) -> None:
    model = woken(built(backbone, str(factor)))
    fine = torch.rand(2, 1, 2 * factor.time, 4 * factor.y, 8 * factor.x)
    crops = Batch(Coarsen(factor)(fine), torch.ones(2, *fine.shape[-2:]), fine=fine)
    loss = model.loss("mean", crops, torch.Generator())
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.mean.parameters())
    field = model.sample(Inputs(crops.coarse), Members()).fields[:, 0]
    assert field.shape == fine.shape
    torch.testing.assert_close(Coarsen(factor)(field), crops.coarse, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["additive", "multiplicative", "softmax", "tapered", "bounded", "projection"])
def test_the_loss_is_that_of_the_conserved_field(kind: str) -> None:
    model, crops = woken(built(constraint={"kind": kind})), batch()
    field = model.sample(Inputs(crops.coarse), Members()).fields[:, 0]
    expected = (model.transform(field) - model.transform(crops.fine)).square().mean()
    torch.testing.assert_close(model.loss("mean", crops, torch.Generator()), expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(Coarsen(Factor(1, 4))(field), crops.coarse, atol=1e-5, rtol=0)


def test_unknown_cells_leave_gradients_finite() -> None:
    model, crops = woken(built()), batch()
    fine, coarse, area = crops.fine, crops.coarse, crops.area
    fine = fine.clone()
    fine[0, ..., :6, :6] = torch.nan
    known = fine.isfinite()
    coarse = Coarsen(Factor(1, 4), mask=known)(fine)
    assert coarse.isnan().any()
    model.loss("mean", Batch(coarse, area, fine=fine), torch.Generator()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.mean.parameters())


def test_the_penalty_is_added_and_nothing_is_projected() -> None:
    crops = batch()
    soft, free = (woken(built(constraint=spec)) for spec in ({"kind": "penalty", "weight": 2.0}, "none"))
    field = soft.sample(Inputs(crops.coarse), Members()).fields[:, 0]
    violation = (Coarsen(Factor(1, 4))(field) - crops.coarse).square().mean()
    assert violation > 1e-4
    expected = free.loss("mean", crops, torch.Generator()) + 2 * violation
    torch.testing.assert_close(soft.loss("mean", crops, torch.Generator()), expected, rtol=1e-4, atol=1e-6)


def test_mean_absolute_error() -> None:
    crops = batch()
    model = woken(built(**{"mean.loss": "mae"}))
    expected = (
        (model.transform(model.sample(Inputs(crops.coarse), Members()).fields[:, 0]) - model.transform(crops.fine))
        .abs()
        .mean()
    )
    torch.testing.assert_close(model.loss("mean", crops, torch.Generator()), expected, rtol=1e-4, atol=1e-6)


def test_what_does_not_fit_together() -> None:
    for changes, message in (
        ({"factor": {"time": [1, 2], "space": [1, 4]}}, "edsr refines by one factor"),
        ({"denoiser": {"backbone": {"kind": "edsr"}}}, "cannot be told the noise level"),
        ({"denoiser": {"backbone": "unet"}, "constraint": "softmax"}, "needs denoiser: none"),
        ({"mean.backbone": {"kind": "edrs"}}, "did you mean 'edsr'"),
    ):
        with pytest.raises(InputError, match=message):
            built(**changes)


@pytest.mark.parametrize("native", [False, True], ids=["float32", "bfloat16"], indirect=True)
def test_fitted_and_one_field_made(tmp_path: Path, native: bool) -> None:
    values = np.random.default_rng(0).random((4, 32, 32), dtype=np.float32)
    coords = {"time": np.arange(4) * np.timedelta64(1, "D") + np.datetime64("2020-01-01", "ns")}
    coords |= {"y": np.arange(32.0), "x": np.arange(32.0)}
    da = xr.DataArray(values, dims=("time", "y", "x"), coords=coords, name="sst", attrs={"units": "K"})
    da.to_dataset().to_netcdf(tmp_path / "fine.nc", engine="netcdf4")
    changes = {
        "mean.backbone": {"kind": "lapsrn"} | SMALL["lapsrn"],
        "data": {"path": str(tmp_path / "fine.nc"), "crop": 16},
        "train": {"steps": 4, "batch": 2},
    }
    model = fit("conservative-cnn", tmp_path / "model", changes)
    coarse = da.coarsen(y=4, x=4).mean()
    with pytest.warns(Notice, match="deterministic"):
        out = model.downscale(coarse, members=16)
    with warnings.catch_warnings():  # nobody asked for several
        warnings.filterwarnings("error", message=".*deterministic")
        xr.testing.assert_equal(model.downscale(coarse), out)
    assert out["sst"].shape == (1, 4, 32, 32) and out.attrs["finescale_conservation_residual"] < 1e-6


@pytest.mark.parametrize(
    ("through", "kind", "expected"),
    [(0.25, "additive", 5), (1.0, "additive", 20), (0.0, "additive", 0), (0.0, "softmax", 20)],
)
def test_the_constraint_is_seen_in_the_last_part_of_training(
    through: float, kind: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Validation losses see it always, and so do networks whose output is nothing without it."""
    fine = np.random.default_rng(0).random((4, 32, 32), dtype=np.float32)
    field = xr.DataArray(fine, dims=("time", "y", "x"), coords={"y": np.arange(32.0), "x": np.arange(32.0)}, name="v")
    field.to_netcdf(tmp_path / "fine.nc")
    seen: list[bool] = []
    kinds = {"additive": Additive, "softmax": Softmax}
    forward = kinds[kind].forward

    def counted(self: Any, y: Any, *rest: Any) -> Any:
        seen.append(y.requires_grad)
        return forward(self, y, *rest)

    monkeypatch.setattr(kinds[kind], "forward", counted)
    settings = {"data.path": str(tmp_path / "fine.nc"), "data.crop": 16, "factor": "1x4", "constraint": kind}
    settings |= {"mean.backbone": {"kind": "srcnn", "width": 8}, "train": {"steps": 20, "through": through}}
    fit("conservative-cnn", tmp_path / "model", settings)
    assert sum(seen) == expected and False in seen


PUBLISHED = {
    "transform": [{"kind": "bounds", "low": 0.0, "high": 1.0}],
    "mean.skip": False,
    "mean.backbone.activation": "tanh",
    "constraint": {"kind": "bounded", "low": 0.0, "high": 1.0},
}
"""Geiss & Hardin as they are, besides `train.through`."""


@pytest.mark.parametrize("backbone", [name for name in SMALL if name != "unet"])
def test_as_published_the_network_alone_makes_the_field(backbone: str) -> None:
    """tanh of the network is the field in [−1, 1]: no interpolation in it, nothing that the constraint has to clip."""
    settings = {"mean.backbone": {"kind": backbone} | SMALL[backbone]} | PUBLISHED
    model = build_model(read_config("conservative-cnn", {"factor": "1x4", "precision": "float32"} | settings)).eval()
    crops = batch()
    start = model.draw(Inputs(crops.coarse), Members())
    assert not start.any()  # the last layer starts at zero
    y = woken(model).draw(Inputs(crops.coarse), Members())[:, 0]
    assert y.abs().max() <= 1 and y.std() > 0
    field = model.sample(Inputs(crops.coarse), Members()).fields[:, 0]
    assert field.min() >= 0 and field.max() <= 1
    torch.testing.assert_close(Coarsen(Factor(1, 4))(field), crops.coarse, atol=1e-6, rtol=0)


def test_as_published_by_settings_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One command: the constraint in every step of the training, the field between its bounds."""
    monkeypatch.chdir(tmp_path)
    fine = np.random.default_rng(0).random((4, 32, 32), dtype=np.float32)
    axes = {"y": np.arange(32.0), "x": np.arange(32.0)}
    field = xr.DataArray(fine, dims=("time", "y", "x"), coords=axes, name="v", attrs={"units": "1"})
    field.to_netcdf("fine.nc")
    seen: list[bool] = []
    forward = Bounded.forward

    def counted(self: Any, y: Any, *rest: Any) -> Any:
        seen.append(y.requires_grad)
        return forward(self, y, *rest)

    monkeypatch.setattr(Bounded, "forward", counted)
    settings = [
        *("data.path=fine.nc", "data.crop=16", "factor=1x4", "transform=[{kind: bounds, low: 0, high: 1}]"),
        *("mean.skip=false", "mean.backbone.kind=srcnn", "mean.backbone.width=8", "mean.backbone.activation=tanh"),
        *("constraint.kind=bounded", "train.through=1", "train.steps=3", "train.batch=2"),
    ]
    assert main(["fit", "conservative-cnn", "-o", "model", *(w for s in settings for w in ("--set", s))]) == 0
    assert sum(seen) == 3
    coarse = field.coarsen(y=4, x=4).mean()
    made = load("model").downscale(coarse)["v"]
    assert made.min() >= 0 and made.max() <= 1
    np.testing.assert_allclose(made.coarsen(y=4, x=4).mean()[0], coarse, atol=1e-6)
