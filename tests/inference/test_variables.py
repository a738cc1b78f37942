"""Several variables and predictors through a prediction: found by name, in their own units, on a grid that is given."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import finescale
from finescale.cli import main
from finescale.data import store
from finescale.data.files import open_store
from finescale.data.synthetic import gaussian_field
from finescale.data.writing import write
from finescale.downscaler import Downscaler
from finescale.errors import InputError, Notice
from finescale.grids import coordinates
from finescale.grids.blocks import block_means
from finescale.grids.factor import Factor

FOUR = Factor(space=4)
Fields = Callable[..., xr.Dataset]
Models = Callable[..., Downscaler]


def means(fine: xr.DataArray) -> np.ndarray:
    """Block means (…, y, x) of a fine field, y and x increasing."""
    fine = coordinates.increasing(fine)
    return block_means(fine.values, FOUR, coordinates.read_grid(fine).cell_area)


def check_means(out: xr.Dataset, given: xr.Dataset, name: str, tolerance: float = 5e-6) -> None:
    """The block means of every member are the coarse field's, in its units."""
    wanted = coordinates.increasing(given[name]).values
    found = means(out[name].transpose("realization", "time", ...))
    np.testing.assert_allclose(found, np.broadcast_to(wanted, found.shape), atol=tolerance * np.abs(wanted).max())


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_every_variable_is_written_in_its_own_units(two: Models, fields: Fields, tmp_path: Path, suffix: str) -> None:
    two().save(tmp_path / "model")
    given, out = fields(), tmp_path / f"out{suffix}"
    write(given[["pr"]], tmp_path / "rain.nc")
    write(given[["tas", "psl"]], tmp_path / "rest.zarr")
    files = [str(tmp_path / name) for name in ("rain.nc", "rest.zarr")]
    assert main(["downscale", str(tmp_path / "model"), *files, "-o", str(out), "--members", "3"]) == 0
    with open_store(out, chunks=None) as ds:
        ds = ds.load()
    assert set(ds.data_vars) - {"lat_bnds", "lon_bnds"} == {"pr", "tas"}
    for name, units in (("pr", "mm/day"), ("tas", "degC")):
        assert ds[name].dims == ("time", "realization", "lat", "lon")
        assert ds[name].attrs["units"] == units
        assert ds[name].attrs["standard_name"] == given[name].attrs["standard_name"]
        assert 0 < ds[name].attrs["conservation_residual"] < 5e-6  # of °C, of which the model has K
        check_means(ds, given, name)
    assert (ds["lat"].values[0] > ds["lat"].values[-1]) and ds.sizes["lat"] == 24
    worst = max(ds[name].attrs["conservation_residual"] for name in ("pr", "tas"))
    assert ds.attrs["finescale_conservation_residual"] == worst
    assert ds.attrs["title"].startswith("pr, tas: downscaled by 1x4")
    in_memory = finescale.downscale(finescale.load(tmp_path / "model"), [given[["pr"]], given[["tas"]]], members=3)
    for name in ("pr", "tas"):
        np.testing.assert_array_equal(in_memory[name].values, ds[name].transpose("realization", ...).values)
        assert in_memory[name].attrs["conservation_residual"] == ds[name].attrs["conservation_residual"]


def test_two_variables_from_training_to_a_file(tiny: dict[str, Any], tmp_path: Path) -> None:
    """…through the command line: fit for some steps, and downscale what coarsen makes of the training data."""
    dims = ("time", "lat", "lon")
    coords = {
        "time": pd.date_range("2020-06-01", periods=4, freq="h"),
        "lat": ("lat", 60 - np.arange(48) * 0.01, {"units": "degrees_north"}),
        "lon": ("lon", np.arange(64) * 0.01, {"units": "degrees_east"}),
    }
    rain = np.exp(gaussian_field((4, 48, 64), seed=3, outer_km=12.0)).astype("float32")
    warm = 10 + 5 * gaussian_field((4, 48, 64), seed=4, outer_km=12.0).astype("float32")
    fine = xr.Dataset({"pr": (dims, rain, {"units": "mm h-1"}), "tas": (dims, warm, {"units": "degC"})}, coords=coords)
    write(fine, tmp_path / "fine.nc")
    coarse = {}
    for name in ("pr", "tas"):
        coarse[name] = str(tmp_path / f"{name}.nc")
        assert (
            main(["coarsen", str(tmp_path / "fine.nc"), "--variable", name, "--factor", "1x4", "-o", coarse[name]]) == 0
        )
    variables = {"pr": {"transform": tiny["transform"]}, "tas": {"units": "K", "constraint": "additive"}}
    config = tiny | {
        "variables": variables,
        "transform": "standardize",
        "data": {"path": str(tmp_path / "fine.nc"), "crop": 16},
        "train": {"steps": 6, "batch": 2, "warmup": 2},
    }
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    assert main(["fit", str(tmp_path / "config.yaml"), "-o", str(tmp_path / "model")]) == 0
    out = tmp_path / "out.nc"
    assert (
        main(["downscale", str(tmp_path / "model"), *coarse.values(), "-o", str(out), "--members", "2", "--variance"])
        == 0
    )
    with xr.open_dataset(out) as ds:
        for name, units in (("pr", "mm h-1"), ("tas", "degC")):
            assert {ds[part].attrs["units"] for part in (name, f"{name}_std", f"{name}_quantile")} == {units}
            assert ds[name].attrs["ancillary_variables"] == f"{name}_std {name}_quantile"
            with xr.open_dataset(coarse[name]) as given:
                check_means(ds, given, name)
        std = ds["tas"].std("realization", ddof=1)
        assert float(ds["tas_std"].mean()) == pytest.approx(float(std.mean()), rel=0.5)


def test_members_are_joint(two: Models, fields: Fields) -> None:
    """What is made of one variable depends on the other, as both come of one latent."""
    model, given = two(), fields()
    warmer = given.assign(tas=(given["tas"] + np.linspace(0, 9, 8, dtype="float32")).assign_attrs(given["tas"].attrs))
    first, second = (model.downscale(ds, members=2) for ds in (given, warmer))
    assert float(np.abs(first["pr"] - second["pr"]).max()) > 1e-3


def test_variables_are_found_by_their_other_names(two: Models, fields: Fields) -> None:
    """What they are called in coarse files; or their standard name, where one alone has it."""
    given = fields()
    wanted = two().downscale(given, members=1)
    variables = {
        "pr": two().variables["pr"] | {"coarse": "tp"},
        "tas": two().variables["tas"] | {"coarse": "air_temperature"},
    }
    renamed = given.rename(pr="tp", tas="t2m")
    found = two(variables=variables).downscale(renamed, members=1)
    for name in ("pr", "tas"):
        np.testing.assert_array_equal(found[name].values, wanted[name].values)
    twice = renamed.assign(t850=renamed["t2m"])
    with pytest.raises(InputError, match=r"tas \[K\] \(missing\)"):
        two(variables=variables).downscale(twice, members=1)


def test_what_is_missing_is_asked_for_in_one_line(
    two: Models, fields: Fields, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two(predictors={"psl": {"units": "hPa"}, "hus": {"units": "1"}, "hour": None}).save(tmp_path / "model")
    write(fields()[["pr", "psl"]], tmp_path / "some.nc")
    capsys.readouterr()
    assert main(["downscale", str(tmp_path / "model"), str(tmp_path / "some.nc"), "-o", str(tmp_path / "o.nc")]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    wanted = (
        "pr [mm h-1] (pr of {0}), tas [K] (missing) and the predictors psl [hPa] ({0}), hus [1] (missing); {0} has "
    )
    assert wanted.format(tmp_path / "some.nc") + "pr, psl: " in said[0]
    assert "variables.tas.coarse" in said[0]


def test_targets_lie_on_one_grid_at_the_same_times(two: Models, fields: Fields) -> None:
    model, given = two(), fields()
    rain, warm = given[["pr"]], given[["tas"]]
    with pytest.raises(InputError, match=r"tas of the dataset lies on other cells than pr .*--onto"):
        model.downscale([rain, warm.assign_coords(lon=warm["lon"] + 0.2)])
    with pytest.raises(InputError, match="tas of the dataset lies on other cells"):
        model.downscale([rain, warm.isel(lon=slice(4))])
    with pytest.raises(InputError, match=r"lies at other times than pr .* select the times that both have"):
        model.downscale([rain, warm.assign_coords(time=warm["time"] + np.timedelta64(1, "h"))])
    with pytest.raises(InputError, match="this model makes pr, tas: leave --variable out"):
        model.downscale(given, variable="pr")
    with pytest.raises(InputError, match="cannot be converted to 'K'"):
        model.downscale(given.assign(tas=given["tas"].assign_attrs(units="Pa")))
    turned = warm.isel(lat=slice(None, None, -1))
    xr.testing.assert_equal(model.downscale([rain, turned], members=1), model.downscale(given, members=1))


# --- predictors


def test_predictors_change_the_result_and_are_read_with_the_window(two: Models, fields: Fields) -> None:
    """In their own units, on their own grid; members of large windows are those of small ones."""
    model = two(predictors={"psl": {"units": "hPa"}, "day of year": None, "latitude": None})
    model.conditions.predictor_mean.fill_(0.0)
    model.conditions.predictor_mean[0], model.conditions.predictor_std[0] = 1000.0, 5.0
    given, wide = fields(), fields(3, 4, 5, 1.2, seed=1)[["psl"]]
    first = model.downscale([given[["pr", "tas"]], wide], members=2)
    hecto = wide.assign(psl=(wide["psl"] / 100).assign_attrs(units="hPa"))
    same = model.downscale([given[["pr", "tas"]], hecto], members=2)
    for name in ("pr", "tas"):
        np.testing.assert_allclose(first[name], same[name], rtol=1e-4, atol=1e-3)
        check_means(first, given, name)
    lower = wide.assign(psl=(wide["psl"] - 2000).assign_attrs(units="Pa"))
    assert float(np.abs(model.downscale([given[["pr", "tas"]], lower], members=2)["tas"] - first["tas"]).max()) > 1e-2
    later = given.assign_coords(time=given["time"] + np.timedelta64(120, "D"))
    moved = wide.assign_coords(time=wide["time"] + np.timedelta64(120, "D"))
    assert float(np.abs(model.downscale([later, moved], members=2)["tas"].values - first["tas"].values).max()) > 1e-3


def test_predictors_that_are_elsewhere_are_refused(two: Models, fields: Fields) -> None:
    model = two(predictors={"psl": {"units": "Pa"}, "hour": None})
    given = fields()
    rest, psl = given[["pr", "tas"]], given[["psl"]]
    with pytest.raises(InputError, match="the dataset has no psl where pr lies"):
        model.downscale([rest, psl.assign_coords(lon=psl["lon"] + 40)])
    with pytest.raises(InputError, match="the dataset has no psl at any time of pr"):
        model.downscale([rest, psl.assign_coords(time=psl["time"] + np.timedelta64(400, "D"))])
    with pytest.raises(InputError, match="cannot be converted to 'Pa'"):
        model.downscale([rest, psl.assign(psl=psl["psl"].assign_attrs(units="K"))])
    with pytest.raises(InputError, match="has 2 members of psl, the coarse field 1"):
        model.downscale([rest, xr.concat([psl, psl], "realization")])
    with pytest.warns(Notice, match="has no psl at 1 of 3 times"):
        model.downscale([rest, psl.isel(time=slice(2))], members=1)
    undated = given.assign_coords(time=("time", np.arange(3.0), {"standard_name": "time"}))
    with pytest.raises(InputError, match="the predictor hour needs times that are dates"):
        model.downscale(undated)


def test_a_run_of_several_variables_is_resumed(
    two: Models, fields: Fields, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """…with the same bits; not where a predictor has changed."""
    model, given = two(predictors={"psl": {"units": "Pa"}}), fields()
    settings: dict[str, Any] = dict(members=3, window=(1, 4, 8), batch=2, progress=False)
    finescale.downscale(model, given, tmp_path / "whole.zarr", **settings)
    write_task = store.ZarrStore.write

    def stop_at_5(self: store.ZarrStore, task: int, *rest: Any) -> None:
        if task == 5:
            raise KeyboardInterrupt
        write_task(self, task, *rest)

    monkeypatch.setattr(store.ZarrStore, "write", stop_at_5)
    with pytest.raises(KeyboardInterrupt):
        finescale.downscale(model, given, tmp_path / "o.zarr", **settings)
    monkeypatch.undo()
    other = given.assign(psl=given["psl"] + 1)
    with pytest.raises(InputError, match="input of the interrupted run has changed"):
        finescale.downscale(model, other, tmp_path / "o.zarr", resume=True, **settings)
    with pytest.raises(InputError, match=r"is of another run .conserve"):
        finescale.downscale(model, given, tmp_path / "o.zarr", resume=True, conserve=False, **settings)
    finescale.downscale(model, given, tmp_path / "o.zarr", resume=True, **settings)
    with xr.open_zarr(tmp_path / "o.zarr") as a, xr.open_zarr(tmp_path / "whole.zarr") as b:
        for name in ("pr", "tas"):
            xr.testing.assert_identical(a[name].load(), b[name].load())


# --- on a grid that is given


@pytest.fixture
def fine() -> xr.Dataset:
    """A fine grid of 13 x 18 cells of 0.1°, southwards, half a cell off the coarse one; and a mask without times."""
    lat, lon = 49.25 - 0.1 * np.arange(13), 5.55 + 0.1 * np.arange(18)
    height = (("lat", "lon"), np.zeros((13, 18), "float32"), {"units": "m"})
    axes = {"lat": ("lat", lat, {"units": "degrees_north"}), "lon": ("lon", lon, {"units": "degrees_east"})}
    return xr.Dataset({"height": height}, coords=axes)


def test_onto_a_fine_grid(two: Models, fields: Fields, fine: xr.Dataset, tmp_path: Path) -> None:
    """The output has its coordinates, but for cells that fill no block; block means are those of the coarse field."""
    two().save(tmp_path / "model")
    given = fields()
    write(given, tmp_path / "coarse.nc")
    write(fine, tmp_path / "fine.nc")
    out = tmp_path / "out.nc"
    words = ["downscale", str(tmp_path / "model"), str(tmp_path / "coarse.nc"), "-o", str(out), "--members", "2"]
    assert main([*words, "--onto", str(tmp_path / "fine.nc")]) == 0
    with xr.open_dataset(out) as ds:
        np.testing.assert_array_equal(ds["lat"], fine["lat"][:12])
        np.testing.assert_array_equal(ds["lon"], fine["lon"][:16])
        np.testing.assert_array_equal(ds["time"], given["time"])
        assert ds["tas"].attrs["units"] == "degC" and ds["tas"].attrs["conservation_residual"] < 5e-6
        assert np.isfinite(ds["pr"].values).all()
        found = means(ds["tas"].transpose("realization", ...))[0]
        # The first block from the north: rows from 49.3 down to 48.9, columns from 5.5 to 5.9, over coarse edges.
        rows = {0: (49.2, 49.3), 1: (48.9, 49.2)}
        weights = [np.sin(np.deg2rad(high)) - np.sin(np.deg2rad(low)) for low, high in rows.values()]
        part = given["tas"].values[:, [1, 2]][:, :, [1, 2]].astype(float)
        wanted = np.einsum("tyx,y,x->t", part, np.array(weights) / sum(weights), [0.75, 0.25])
        np.testing.assert_allclose(found[:, -1, 0], wanted, rtol=1e-5)


def test_onto_a_grid_with_times_has_these(two: Models, fields: Fields, fine: xr.Dataset) -> None:
    """Those that the coarse field covers, whichever way it labels them; with other years those of the coarse field."""
    model, given = two(), fields(4)
    times = pd.date_range("2000-03-01T03:00", periods=6, freq="12h")
    timed = fine.expand_dims(time=times).copy()
    with pytest.warns(Notice, match="has no pr at 4 of 6 times"):
        out = model.downscale(given, members=1, onto=timed)
    np.testing.assert_array_equal(out["time"], times[:2])
    assert np.isfinite(out["tas"].values).all()
    other = timed.assign_coords(time=timed["time"] + np.timedelta64(3650, "D"))
    with pytest.warns(Notice, match="--onto has other times than pr"):
        out = model.downscale(given, members=1, onto=other)
    np.testing.assert_array_equal(out["time"], given["time"])


def test_onto_brings_targets_of_several_grids_together(two: Models, fields: Fields, fine: xr.Dataset) -> None:
    given = fields()
    moved = fields(step=0.5)[["tas"]]
    out = two().downscale([given[["pr"]], moved], members=1, onto=fine)
    assert out["tas"].shape == (1, 3, 12, 16) and np.isfinite(out["tas"].values).all()


def test_what_onto_refuses(two: Models, fields: Fields, fine: xr.Dataset) -> None:
    model, given = two(), fields()
    with pytest.raises(InputError, match="has no pr where height lies"):
        model.downscale(given, onto=fine.assign_coords(lon=fine["lon"] + 60))
    with pytest.raises(InputError, match="fewer than a block of the factor 1x4"):
        model.downscale(given, onto=fine.isel(lat=slice(3)))
    with pytest.raises(InputError, match="leave --to out"):
        model.downscale(given, onto=fine, to="0.1")
    metric = fine.assign_coords(
        lat=("lat", np.arange(13.0), {"units": "m"}), lon=("lon", np.arange(18.0), {"units": "m"})
    )
    with pytest.raises(InputError, match="projection"):
        model.downscale(given, onto=metric)


# --- conserving or not


def test_conserving_is_a_choice(two: Models, fields: Fields, tmp_path: Path) -> None:
    """By default as the model was trained: a direct model goes without."""
    given = fields()
    write(given, tmp_path / "coarse.nc")
    residuals = {}
    for mode in ("perfect", "direct"):
        two(data={"mode": mode}).save(tmp_path / mode)
        for word in ("", "--conserve", "--no-conserve"):
            out = tmp_path / f"{mode}{word}.nc"
            words = ["downscale", str(tmp_path / mode), str(tmp_path / "coarse.nc"), "-o", str(out), "--members", "1"]
            assert main([*words, *([word] if word else [])]) == 0
            with xr.open_dataset(out) as ds:
                residuals[mode, word] = ds.attrs["finescale_conservation_residual"]
                assert ds["tas"].attrs["conservation_residual"] <= residuals[mode, word]
                assert (word in ds.attrs["history"].split("\n")[0].split()) or not word
    small = {key for key, residual in residuals.items() if residual < 5e-6}
    assert small == {("perfect", ""), ("perfect", "--conserve"), ("direct", "--conserve")}
    assert all(residuals[key] > 1e-4 for key in residuals.keys() - small)


def test_the_residual_is_that_of_the_variables_that_conserve(two: Models, fields: Fields) -> None:
    variables = {"pr": two().variables["pr"], "tas": two().variables["tas"] | {"constraint": "none"}}
    out = two(variables=variables).downscale(fields(), members=1)
    assert out["pr"].attrs["conservation_residual"] < 1e-6 < 1e-4 < out["tas"].attrs["conservation_residual"]
    assert out.attrs["finescale_conservation_residual"] == out["pr"].attrs["conservation_residual"]


def test_a_model_without_a_constraint_cannot_conserve(two: Models, fields: Fields) -> None:
    variables = {name: one | {"constraint": "none"} for name, one in two().variables.items()}
    with pytest.raises(InputError, match="no constraint to conserve the coarse field by: leave --conserve out"):
        two(variables=variables).downscale(fields(), conserve=True)
