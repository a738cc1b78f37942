"""How exactly values are written, and in which order: what is stated of an output is true of what is read back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr
import zarr

import finescale
from finescale.cli.commands import main
from finescale.data.files import open_store
from finescale.data.packing import Packed, Precision
from finescale.downscaler import Downscaler
from finescale.errors import InputError
from finescale.grids.blocks import block_means
from finescale.grids.factor import Factor
from finescale.model.remembers import Remembers, Seen


@pytest.fixture
def seen(built: Callable[..., Downscaler], tmp_path: Path) -> Path:
    """The folder of a model that has seen rain up to 40 mm/h."""
    model = built()
    model.config["remembers"] = Remembers(variables={"rain": Seen(0.0, 40.0)}).plain()
    model.save(tmp_path / "model")
    return tmp_path / "model"


def stored(path: Path) -> np.dtype:
    """The type of the rain in a file."""
    if path.suffix == ".zarr":
        return zarr.open_group(str(path), mode="r")["rain"].dtype
    with netCDF4.Dataset(path) as file:
        return file["rain"].dtype


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
@pytest.mark.parametrize(
    ("precision", "kind"), [("0.01", "int16"), ("0.001", "int32"), ("3digits", "float32"), ("1 digit", "float32")]
)
def test_values_are_within_what_is_stated(seen, rain, tmp_path, precision, kind, suffix):
    """…of those sampled, and the residual that is stated is that of what is read back."""
    ds = rain(t=2, h=8, w=8)
    ds.to_netcdf(tmp_path / "coarse.nc")
    out = tmp_path / f"o{suffix}"
    words = ["--members", "2", "--seed", "3", "--precision", precision]
    assert main(["downscale", str(seen), str(tmp_path / "coarse.nc"), "-o", str(out), *words]) == 0
    exact = finescale.downscale(str(seen), ds, members=2, seed=3)["rain"].transpose("time", "realization", ...)
    found = open_store(out)
    assert stored(out) == kind
    read, wanted = found["rain"].values.astype(np.float64), exact.values.astype(np.float64)
    np.testing.assert_array_equal(np.isnan(read), np.isnan(wanted))
    rule = Precision.parse(precision)
    bound = rule.step / 2 if rule.step else np.abs(wanted) * 0.5 * 10.0**-rule.digits
    rounding = np.finfo(np.float32).eps * np.abs(wanted)  # of values in single precision
    assert (np.abs(read - wanted) <= bound + rounding)[np.isfinite(read)].all()
    assert np.abs(read - wanted)[np.isfinite(read)].max() > 0
    assert (read[wanted == 0] == 0).all()
    says = found["rain"].attrs["finescale_precision"]
    assert says.startswith("to " if rule.digits else f"in steps of {precision} mm h-1: each within {rule.step / 2:g}")
    assert f"--precision {rule}" in found.attrs["history"]
    coarse = ds["rain"].values[:, None]
    means = block_means(read, Factor.parse("1x4"), np.repeat(np.repeat(_area(exact), 1, 0), 1, 1))
    worst = np.nanmax(np.abs(means - coarse)) / np.nanmax(coarse)
    assert found.attrs["finescale_conservation_residual"] == pytest.approx(worst, rel=1e-3, abs=1e-7)
    assert worst > 1e-6


def _area(fine: xr.DataArray) -> np.ndarray:
    from finescale.grids.coordinates import read_grid

    return read_grid(fine.isel(realization=0)).cell_area


def test_a_variable_that_does_not_reach_zero_is_packed_about_its_middle():
    """…in multiples of the step, so that 273.15 at steps of 0.01 is 273.15."""
    packed = Precision.parse("0.01").packed((230.0, 310.0))
    assert packed == Packed("int16", 0.01, 270.0)
    values = np.array([273.15, 199.99, np.nan], dtype=np.float32)
    back = packed.stored(values, "t") * packed.step + packed.offset
    np.testing.assert_allclose(back[:2], values[:2], atol=0.005 + 1e-4)
    assert packed.stored(values, "t")[2] == packed.missing
    assert Precision.parse(0.01).packed(None) == Packed("int32", 0.01)
    with pytest.raises(InputError, match="do not hold in int16: begin afresh with a larger --precision"):
        packed.stored(np.array([700.0]), "t")


@pytest.mark.parametrize("words", ["0", "-1", "nan", "digits", "9digits", "0digits", "1e-40", "int16", "True"])
def test_a_precision_that_is_none_is_named(words):
    with pytest.raises(InputError, match=r"--precision is .* must be a step"):
        Precision.parse(words)


@pytest.mark.parametrize("order", ["realization,time,y,x", "(realization, time, y, x)", "time,realization,y,x"])
@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_dimensions_come_in_the_order_asked_for(seen, rain, tmp_path, order, suffix):
    """The same values, whichever comes first; in memory members always do."""
    ds = rain(t=2, h=8, w=8).isel(lat=slice(None, None, -1))
    ds.to_netcdf(tmp_path / "coarse.nc")
    out = tmp_path / f"o{suffix}"
    words = ["--members", "2", "--variance", "members", "--order", order, "--window", "1x4"]
    assert main(["downscale", str(seen), str(tmp_path / "coarse.nc"), "-o", str(out), *words]) == 0
    raw = xr.open_dataset(out, engine="zarr" if suffix == ".zarr" else "netcdf4")
    first = "realization" if "(r" in order or order[0] == "r" else "time"
    assert raw["rain"].dims[0] == first and set(raw["rain"].dims[:2]) == {"realization", "time"}
    memory = finescale.downscale(str(seen), ds, members=2, variance="members", window=(1, 4, 4), order=order)
    assert memory["rain"].dims[:2] == ("realization", "time")
    for name in memory.data_vars:
        np.testing.assert_array_equal(raw[name].transpose(*memory[name].dims).values, memory[name].values)


def test_orders_that_are_none_are_named(seen, rain, tmp_path, capsys):
    rain(t=2, h=8, w=8).to_netcdf(tmp_path / "coarse.nc")
    run = ["downscale", str(seen), str(tmp_path / "coarse.nc"), "-o", str(tmp_path / "o.nc")]
    for words in (["--order", "x,y"], ["--precision", "much"]):
        assert main([*run, *words]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1 and not (tmp_path / "o.nc").exists()


@pytest.mark.parametrize("precision", [None, "0.01"])
def test_block_means_of_a_file_by_others_are_the_coarse_field(seen, tmp_path, precision):
    """…as `cdo gridboxmean` takes them: xarray's, of cells of equal areas, without anything of ours.

    Sums of n cells in single precision are off by at most n eps of the largest; steps of s by s / 2.
    """
    values = np.random.default_rng(0).gamma(0.4, 2, (2, 6, 8)).astype(np.float32)
    metres = {"units": "m"}
    axes = {"y": ("y", 4000.0 * np.arange(6), metres), "x": ("x", 4000.0 * np.arange(8), metres)}
    ds = xr.Dataset({"rain": (("time", "y", "x"), values, {"units": "mm h-1"})}, coords=axes)
    finescale.downscale(str(seen), ds, tmp_path / "o.nc", members=2, precision=precision, progress=False)
    means = xr.open_dataset(tmp_path / "o.nc")["rain"].astype("float64").coarsen(y=4, x=4).mean()
    bound = 16 * np.finfo(np.float32).eps * values.max() + (0.0 if precision is None else float(precision) / 2)
    np.testing.assert_allclose(means.transpose("realization", ...).values, np.stack([values] * 2), rtol=0, atol=bound)


def test_what_a_dry_run_says_of_the_size_is_that_of_whole_numbers(seen, rain, tmp_path, capsys):
    """2 x 2 x 32 x 32 values of two bytes, where they are four otherwise."""
    rain(t=2, h=8, w=8).to_netcdf(tmp_path / "coarse.nc")
    run = ["downscale", str(seen), str(tmp_path / "coarse.nc"), "-o", str(tmp_path / "o.zarr"), "--members", "2"]
    for words, says in ((["--precision", "0.01"], "values of 2 bytes"), ([], "values of 4 bytes")):
        assert main([*run, "--dry-run", *words]) == 0
        assert says in capsys.readouterr().out
