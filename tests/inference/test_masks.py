"""Masks: of a file, and remembered of the training. Masked cells are missing, block means are those over the rest."""

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
from finescale.config.load import load
from finescale.data.writing import write
from finescale.downscaler import Downscaler
from finescale.errors import InputError, Notice
from finescale.grids import coordinates
from finescale.grids.blocks import block_means
from finescale.grids.factor import Factor
from finescale.model.batch import Inputs, Members
from finescale.model.remembers import Plane, Remembers
from finescale.operators.coarsen import Coarsen

FOUR = Factor(space=4)
Fields = Callable[..., xr.Dataset]
Models = Callable[..., Downscaler]


def land(given: xr.Dataset, factor: int = 4, wider: int = 0) -> xr.Dataset:
    """A mask on the fine cells of a field, and so many more to each side: a random half, a whole block missing."""
    sides = {}
    for dim in ("lat", "lon"):
        centre = given[dim].values
        step, n = (centre[1] - centre[0]) / factor, factor * centre.size
        first = centre[0] - (factor - 1) / 2 * step
        sides[dim] = (dim, first + step * np.arange(-wider, n + wider), given[dim].attrs)
    valid = np.random.default_rng(5).random([len(side[1]) for side in sides.values()]) > 0.5
    valid[wider + 4 : wider + 8, wider + 8 : wider + 12] = False
    return xr.Dataset({"sea": (("lat", "lon"), valid.astype("int8"))}, coords=sides)


def check(out: xr.Dataset, given: xr.Dataset, sea: xr.DataArray, name: str) -> None:
    """Exactly the masked cells are missing, and means over the others are the coarse field's."""
    fine = out[name].transpose("realization", "time", "lat", "lon")
    np.testing.assert_array_equal(np.isfinite(fine.values), np.broadcast_to(sea.values > 0, fine.shape))
    fine = coordinates.increasing(fine)
    found = block_means(fine.values, FOUR, coordinates.read_grid(fine).cell_area)
    wanted = np.broadcast_to(coordinates.increasing(given[name]).values, found.shape)
    some = np.isfinite(found)
    assert some.mean() == pytest.approx(1 - 1 / 48)
    np.testing.assert_allclose(found[some], wanted[some], atol=5e-6 * np.abs(wanted).max())


@pytest.mark.parametrize("kind", ["numbers", "truth", "missing"])
def test_a_mask_of_a_file(two: Models, fields: Fields, tmp_path: Path, kind: str) -> None:
    two().save(tmp_path / "model")
    given = fields()
    write(given, tmp_path / "coarse.nc")
    mask = land(given)
    stored = {"numbers": mask, "truth": mask > 0, "missing": mask.where(mask > 0)}[kind]
    stored.to_netcdf(tmp_path / "mask.nc")
    words = ["downscale", str(tmp_path / "model"), str(tmp_path / "coarse.nc"), "-o", str(tmp_path / "out.nc")]
    assert main([*words, "--members", "2", "--mask", str(tmp_path / "mask.nc"), "--variance", "members"]) == 0
    with xr.open_dataset(tmp_path / "out.nc") as out:
        for name in ("pr", "tas"):
            check(out, given, mask["sea"], name)
            assert out[name].attrs["conservation_residual"] < 5e-6
            known = out[f"{name}_std"].notnull().values
            np.testing.assert_array_equal(known, np.broadcast_to(mask["sea"].values > 0, known.shape))
        assert (
            "those that" in out.attrs["comment_on_missing_cells"] and "mask.nc" in out.attrs["comment_on_missing_cells"]
        )


def test_windows_and_larger_masks_leave_no_trace(two: Models, fields: Fields) -> None:
    model, given = two(), fields()
    small, large = land(given), land(given, wider=3)
    part = large.isel(lat=slice(3, -3), lon=slice(3, -3))
    whole = model.downscale(given, members=2, mask=large)
    check(whole, given, part["sea"], "tas")
    xr.testing.assert_equal(whole, model.downscale(given, members=2, mask=part.isel(lat=slice(None, None, -1))))
    assert not whole["tas"].equals(model.downscale(given, members=2, mask=small)["tas"])
    cut = model.downscale(given, members=2, mask=part, window=(1, 4, 4), batch=1)
    for name in ("pr", "tas"):
        check(cut, given, part["sea"], name)


def test_dry_windows_are_masked_too(two: Models, fields: Fields) -> None:
    given = fields()
    given["pr"][:] = 0.0
    model = two(variables={"pr": two().variables["pr"]}, transform="standardize")
    out = model.downscale(given[["pr"]], members=1, mask=land(given))
    np.testing.assert_array_equal(out["pr"][0, 0], np.where(land(given)["sea"] > 0, 0.0, np.nan))


def test_a_mask_on_another_grid_is_refused(two: Models, fields: Fields) -> None:
    model, given = two(), fields()
    mask = land(given)
    for other in (
        mask.assign_coords(lon=mask["lon"] + 0.05),
        mask.isel(lon=slice(4, None)),
        mask.isel(lon=slice(None, None, 2)),
        mask.drop_vars(["lat", "lon"]),
        mask.assign_coords(lat=("lat", mask["lat"].values), lon=("lon", mask["lon"].values)).rename(lat="y", lon="x"),
    ):
        with pytest.raises(InputError, match=r"lies on other cells than the output, .* 24 x 32 from y 47.6 to 50"):
            model.downscale(given, mask=other)
    with pytest.raises(InputError, match="masks every cell"):
        model.downscale(given, mask=mask * 0)


def test_each_variable_may_have_a_mask_of_its_own(two: Models) -> None:
    """…as the training data had: block means of each are those over its own cells."""
    model = two()
    mask = torch.rand(2, 16, 24) > 0.4
    coarse = torch.rand(1, 2, 1, 4, 6) + torch.tensor([0.0, 280.0]).reshape(2, 1, 1, 1)
    fine = model.sample(Inputs(coarse, mask=mask), Members(range(3))).fields
    torch.testing.assert_close(fine.isfinite(), mask[None, None, :, None].expand_as(fine))
    found = Coarsen(FOUR, mask=mask[:, None])(fine.double().nan_to_num())
    torch.testing.assert_close(found, coarse[:, None].double().expand_as(found), rtol=1e-6, atol=1e-6)


def test_the_variance_of_neighbours_of_a_masked_block_is_known(built: Models, head: dict[str, Any]) -> None:
    """They share coefficients of the latent with it."""
    latent = {"kind": "patch_pod", "patch": 4, "modes": 4, "overlap": True}
    model = built(transform="standardize", constraint="additive", variance=head, latent=latent)
    mask = torch.ones(1, 16, 24, dtype=torch.bool)
    mask[:, 4:8, 8:12] = False
    found = model.marginals(Inputs(torch.rand(1, 1, 1, 4, 6), mask=mask), Members(), "head")
    for values in (found.mean, found.std):
        torch.testing.assert_close(values[0, :, 0].isfinite(), mask)


# --- remembered


def trained(tiny: dict[str, Any], tmp_path: Path, times: int = 4) -> tuple[xr.Dataset, xr.Dataset]:
    """A model of rain that is missing on land, always, and here and there at times; the rain, and its block means."""
    rng = np.random.default_rng(0)
    values = rng.gamma(0.5, 2, (times, 48, 64)).astype("float32")
    values[:, 20:31, 10:25] = np.nan
    values[1, :2, :2] = np.nan
    axes = {
        "time": np.datetime64("2020-06-01", "ns") + np.arange(times) * np.timedelta64(1, "h"),
        "lat": ("lat", 60 - 0.01 * np.arange(48), {"units": "degrees_north"}),
        "lon": ("lon", 0.01 * np.arange(64), {"units": "degrees_east"}),
    }
    fine = xr.Dataset({"rain": (("time", "lat", "lon"), values, {"units": "mm h-1"})}, coords=axes)
    write(fine, tmp_path / "fine.nc")
    data = {"path": str(tmp_path / "fine.nc"), "crop": 16, "min_valid": 0.3}
    config = tiny | {"data": data, "train": {"steps": 4, "batch": 2, "warmup": 2}}
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    assert main(["fit", str(tmp_path / "config.yaml"), "-o", str(tmp_path / "model")]) == 0
    coarse = finescale.coarsen(fine, "1x4", tmp_path / "coarse.nc")
    return fine, coarse


def test_a_mask_is_remembered_of_the_training(
    tiny: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """…and applied where the cells are those of the training, or a part of them; elsewhere a line says so."""
    fine, coarse = trained(tiny, tmp_path)
    always = fine["rain"].isnull().all("time").values
    assert main(["info", str(tmp_path / "model")]) == 0
    said = capsys.readouterr().out
    assert "mask: the cells that were always missing, of 48 x 64 cells" in said
    assert "mm h-1, above zero in up to " not in said  # rain without a dry cell
    words = ["downscale", str(tmp_path / "model"), str(tmp_path / "coarse.nc"), "-o", str(tmp_path / "out.nc")]
    assert main([*words, "--members", "2"]) == 0
    assert capsys.readouterr().err == ""
    with xr.open_dataset(tmp_path / "out.nc") as out:
        np.testing.assert_array_equal(np.isnan(out["rain"].values).all(axis=(0, 1)), always)
        assert "missing in all of the training data" in out.attrs["comment_on_missing_cells"]
        assert out.attrs["finescale_conservation_residual"] < 1e-6
        made = coordinates.increasing(out["rain"].transpose("realization", ...))
        found = block_means(made.values, FOUR, coordinates.read_grid(made).cell_area)
        wanted = coordinates.increasing(coarse["rain"]).values
        np.testing.assert_allclose(found, np.broadcast_to(wanted, found.shape), atol=1e-5)
    part = finescale.downscale(tmp_path / "model", coarse.isel(lat=slice(4, 9), lon=slice(2, 16)), members=1)
    np.testing.assert_array_equal(part["rain"].isnull().values[0].all(0), always[16:36, 8:64])
    moved = coarse.drop_vars("lon_bnds").assign_coords(lon=coarse["lon"] + 0.02)
    with pytest.warns(Notice, match="of the cells of the training data were missing"):
        other = finescale.downscale(tmp_path / "model", moved, members=1)
    assert "not known here" in other.attrs["comment_on_missing_cells"]


def test_a_mask_is_kept_with_the_weights(built: Models, tmp_path: Path) -> None:
    """Bit by bit; one whose size is not that of its plane is refused."""
    model = built()
    valid = np.random.default_rng(1).random((1, 7, 9)) > 0.5
    plane = Plane((40.0, 40.7, 7), (5.0, 5.9, 9), "latlon")
    model.remember(Remembers(masks=[plane]), [valid])
    model.save(tmp_path / "model")
    kept = load(tmp_path / "model")
    found = kept.masks.at(plane.grid)
    assert found is not None
    np.testing.assert_array_equal(found, valid)
    assert kept.masks.at(Plane((40.0, 40.7, 7), (5.05, 5.95, 9), "latlon").grid) is None
    assert kept.fingerprint == model.fingerprint
    config = (tmp_path / "model" / "config.yaml").read_text()
    (tmp_path / "model" / "config.yaml").write_text(config.replace("- 7\n", "- 70\n"))
    with pytest.raises(InputError, match="packed0"):
        load(tmp_path / "model")
