"""Coarse ensembles: every member of the input gets members of its own, which share no noise with another's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import finescale
from finescale.cli import main
from finescale.data import store
from finescale.data.writing import write
from finescale.downscaler import Downscaler
from finescale.errors import InputError

Fields = Callable[..., xr.Dataset]
Models = Callable[..., Downscaler]


def ensemble(fields: Fields, numbers: tuple[int, ...] = (3, 5, 9)) -> xr.Dataset:
    """An input of several members, numbered."""
    parts = [fields(seed=n) for n in numbers]
    return xr.concat(parts, xr.Variable("number", list(numbers)))


def test_every_member_of_the_input_gets_members(two: Models, fields: Fields, tmp_path: Path) -> None:
    two().save(tmp_path / "model")
    given, out = ensemble(fields), tmp_path / "out.nc"
    write(given, tmp_path / "coarse.nc")
    words = ["downscale", str(tmp_path / "model"), str(tmp_path / "coarse.nc"), "-o", str(out)]
    assert main([*words, "--members", "2"]) == 0
    with xr.open_dataset(out) as ds:
        assert ds["tas"].dims == ("time", "realization", "lat", "lon") and ds.sizes["realization"] == 6
        assert ds["input_realization"].values.tolist() == [3, 3, 5, 5, 9, 9]
        assert ds["member"].values.tolist() == [0, 1, 0, 1, 0, 1]
        assert ds["realization"].values.tolist() == list(range(6))
        assert ds.attrs["finescale_conservation_residual"] < 5e-6
        means = ds["tas"].coarsen(lat=4, lon=4).mean()
        for n in range(6):
            wanted = given["tas"].isel(number=n // 2)
            np.testing.assert_allclose(means.isel(realization=n), wanted, atol=0.1)  # cells of unequal areas


def test_no_noise_is_shared(two: Models, fields: Fields) -> None:
    """Equal members of the input get members that differ as those of one do; more leave the first as they are.

    One by one: a batch of another size may be added up in another order.
    """
    model, one = two(), fields()
    same = xr.concat([one, one], "realization")
    out = model.downscale(same, members=2, batch=1)
    values = out["tas"].values.reshape(4, -1)
    distances = [float(np.abs(values[i] - values[j]).mean()) for i in range(4) for j in range(i)]
    assert min(distances) > 0.5 * max(distances) > 0
    more = model.downscale(same, members=3, batch=1)
    for n, k in ((0, 0), (1, 1), (2, 3), (3, 4)):
        np.testing.assert_array_equal(more["tas"][k].values, out["tas"][n].values)
    alone = model.downscale(same.isel(realization=[1]), members=2)
    assert alone["tas"].shape[0] == 2 and "input_realization" not in alone.coords


def test_windows_and_batches_of_an_ensemble(two: Models, fields: Fields) -> None:
    model, given = two(), ensemble(fields)
    whole = model.downscale(given, members=3)
    cut = model.downscale(given, members=3, window=(1, 6, 8), batch=2)
    for name in ("pr", "tas"):
        np.testing.assert_allclose(cut[name], whole[name], rtol=1e-4, atol=1e-4)


def test_an_interrupted_ensemble_is_resumed(
    two: Models, fields: Fields, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, given = two(), ensemble(fields)
    settings: dict[str, Any] = dict(members=2, window=(1, 6, 8), batch=1, progress=False)
    finescale.downscale(model, given, tmp_path / "whole.zarr", **settings)
    write_task, tasks = store.ZarrStore.write, []

    def stop(self: store.ZarrStore, task: int, *rest: Any) -> None:
        if len(tasks) == 8:
            raise KeyboardInterrupt
        tasks.append(task)
        write_task(self, task, *rest)

    monkeypatch.setattr(store.ZarrStore, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        finescale.downscale(model, given, tmp_path / "o.zarr", **settings)
    monkeypatch.undo()
    changed = given.copy(deep=True)
    changed["tas"][1, 0, 0, 0] += 1
    with pytest.raises(InputError, match="has changed, first in frames 0 to 0"):
        finescale.downscale(model, changed, tmp_path / "o.zarr", resume=True, **settings)
    finescale.downscale(model, given, tmp_path / "o.zarr", resume=True, **settings)
    with xr.open_zarr(tmp_path / "o.zarr") as a, xr.open_zarr(tmp_path / "whole.zarr") as b:
        for name in ("pr", "tas", "input_realization", "member"):
            xr.testing.assert_identical(a[name].load(), b[name].load())


def test_predictors_of_an_ensemble(two: Models, fields: Fields) -> None:
    """Those of each member go with it; those of one go with all."""
    model = two(predictors={"psl": {"units": "Pa"}})
    model.conditions.predictor_mean.fill_(1e5)
    model.conditions.predictor_std.fill_(500.0)
    given = ensemble(fields)
    out = model.downscale(given, members=1)
    swapped = given.assign(psl=given["psl"].isel(number=[1, 0, 2]).assign_coords(number=given["number"]))
    other = model.downscale(swapped, members=1)
    changed = np.abs(out["tas"] - other["tas"]).max(("time", "lat", "lon")).values
    assert (changed[:2] > 1e-3).all() and changed[2] == 0
    shared = given.assign(psl=given["psl"].isel(number=1, drop=True))
    assert model.downscale(shared, members=1)["tas"][1].equals(out["tas"][1])


def test_what_an_ensemble_cannot_be(two: Models, fields: Fields) -> None:
    model, given = two(), ensemble(fields)
    with pytest.raises(InputError, match="the input has 3 members: select one, or leave --variance out"):
        model.downscale(given, members=2, variance=True)
    with pytest.raises(InputError, match=r"has 1 members of tas, .* 3 of pr"):
        model.downscale([given[["pr"]], fields()[["tas"]]])
