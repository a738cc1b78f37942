"""Prediction in windows: no trace of the windows, of an interruption, or of the order of latitudes."""

from __future__ import annotations

import errno
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from torch.nn.functional import avg_pool2d

from finescale.data import store
from finescale.data.atomic import sole_writer
from finescale.data.files import open_store
from finescale.data.journal import JOURNAL
from finescale.data.static import StaticFields
from finescale.data.writing import write
from finescale.errors import InputError
from finescale.grids import coordinates
from finescale.grids.blocks import block_means
from finescale.grids.factor import Factor, Factors
from finescale.inference.tasks import Tasks
from finescale.model.batch import Ensemble, Inputs, Members
from finescale.model.calibrated import Calibrated
from finescale.model.masks import Masks
from finescale.model.remembers import Remembers
from finescale.operators.coarsen import Coarsen
from finescale.verbs import downscale


class Fake:
    """Replication, plus noise keyed by position and scaled by the mean of 3 x 3 coarse cells, then conserved."""

    factor = Factor(time=2, y=3, x=4)
    factors = Factors.parse("2x3x4")
    remembers, masks, calibrated = Remembers(), Masks(), Calibrated()
    variables: ClassVar[dict[str, dict[str, str]]] = {"rain": {"units": "mm h-1"}}
    predictors: ClassVar[dict[str, dict[str, str]]] = {}
    conserves = (True,)
    direct, neighbours, moving, across, usual_smoothness = False, 0, False, 0, None
    multiple = (1, 2, 1)
    halo = (0, 2, 1)
    context = 1
    window = (1, 4, 3)
    calls = 0

    def at_once(self, cells: int) -> int:
        return 2

    static = ()
    deterministic, linear = False, True
    fingerprint = "0" * 16
    called = fingerprint
    trained = ()

    def check_plane(self, height: int, width: int) -> None:
        pass

    def evaluations(self, steps: int | None) -> int:
        return 1

    def sample(self, given: Inputs, members: Members) -> Ensemble:
        self.calls += 1
        _, _, t, h, w = given.coarse.shape
        operators = Coarsen(self.factor, None if given.area is None else given.area[0].double())
        fine = []
        for one, first in zip(given.coarse[:, None], given.origins, strict=True):
            assert all(o % m == 0 for o, m in zip(first, self.multiple, strict=True))
            near = avg_pool2d(one.nan_to_num()[0].double(), 3, 1, 1)[None]
            index = [torch.arange(n * f) + o * f for n, f, o in zip((t, h, w), self.factor, first, strict=True)]
            keys = index[0][:, None, None] * 131.1 + index[1][:, None] * 17.31 + index[2] * 1.37
            out = []
            for member in members.numbers:
                noise = torch.frac(torch.sin(keys.double() + 7.7 * member + 91.3 * members.seed) * 4375.85)
                noise = noise - operators.replicate(operators(noise))
                out.append(operators.replicate(one.double()) + noise * operators.replicate(near))
            fine.append(torch.stack(out, 1).float())
        return Ensemble(torch.cat(fine))


def coarse(t=3, h=9, w=10, seed=0, dry=False) -> xr.Dataset:
    values = np.random.default_rng(seed).gamma(0.4, 3, (t, h, w)).astype(np.float32) * (not dry)
    values[1:2, 2:4, 3:9] = np.nan
    values[:1, 8:, 9:] = np.nan
    return xr.Dataset(
        {"rain": (("time", "lat", "lon"), values, {"units": "mm h-1", "long_name": "rain rate"})},
        coords={
            "time": ("time", pd.date_range("2020-01-01", periods=t, freq="h")),
            "lat": ("lat", 30 + 1.0 * np.arange(h), {"units": "degrees_north", "standard_name": "latitude"}),
            "lon": ("lon", 5 + 1.0 * np.arange(w), {"units": "degrees_east"}),
        },
        attrs={"title": "coarse rain", "history": "made"},
    )


def read(path) -> xr.Dataset:
    with open_store(path, chunks=None) as ds:
        return ds.load()


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_an_output_has_everything(tmp_path, suffix):
    downscale(Fake(), coarse(), tmp_path / f"o{suffix}", members=3, progress=False)
    ds = read(tmp_path / f"o{suffix}")
    assert ds["rain"].dims == ("time", "realization", "lat", "lon")  # as CDO reads them
    rain = ds["rain"].transpose("realization", ...)
    assert rain.shape == (3, 6, 27, 40) and rain.dtype == np.float32
    assert rain.attrs["units"] == "mm h-1" and rain.attrs["long_name"] == "rain rate"
    assert ds.realization.attrs["standard_name"] == "realization" and ds.realization.attrs["axis"] == "E"
    assert {"lat_bnds", "lon_bnds", "time_bnds"} <= set(ds.variables)
    assert (
        ds.attrs["finescale_factor"] == "2x3x4"
        and ds.attrs["input_title"] == "coarse rain"
        and ds.attrs["finescale_seed"] == 0
    )
    assert ds.attrs["history"].endswith("made") and "downscale --members 3" in ds.attrs["history"]
    assert 0 < ds.attrs["finescale_conservation_residual"] < 1e-6
    given = coarse()["rain"].values
    grid = coordinates.read_grid(rain)
    back = block_means(rain.values, Fake.factor, grid.cell_area, np.float32)
    np.testing.assert_allclose(back, np.broadcast_to(given, back.shape), atol=1e-5)
    np.testing.assert_array_equal(np.isnan(rain.values[0]), np.isnan(np.kron(given, np.ones((2, 3, 4)))))
    assert [p.name for p in tmp_path.iterdir()] == [f"o{suffix}"]
    np.testing.assert_array_equal(downscale(Fake(), coarse(), members=3)["rain"].values, rain.values)


@pytest.mark.parametrize(
    "settings", [dict(window=(9, 99, 99)), dict(window=(1, 2, 1)), dict(window=(2, 4, 7)), dict(batch=1), dict(batch=5)]
)
def test_windows_and_batches_leave_no_trace(settings):
    whole = downscale(Fake(), coarse(), members=5, seed=3, window=(9, 99, 99), batch=5)["rain"]
    np.testing.assert_allclose(
        downscale(Fake(), coarse(), members=5, seed=3, **settings)["rain"], whole, rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 31), (4, 13, 7)])
def test_any_size_of_domain(shape, tmp_path):
    downscale(Fake(), coarse(*shape).drop_vars("time"), tmp_path / "o.zarr", members=2, progress=False)
    assert read(tmp_path / "o.zarr")["rain"].shape == (shape[0] * 2, 2, shape[1] * 3, shape[2] * 4)


def test_fewer_members_are_the_same_members():
    many = downscale(Fake(), coarse(), members=5)["rain"]
    np.testing.assert_array_equal(downscale(Fake(), coarse(), members=3)["rain"], many[:3])


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_descending_latitude_is_the_same_flipped(tmp_path, suffix):
    up = downscale(Fake(), coarse(), members=2)["rain"]
    downscale(
        Fake(),
        coarse().isel(lat=slice(None, None, -1)).copy(deep=True),
        tmp_path / f"d{suffix}",
        members=2,
        progress=False,
    )
    down = read(tmp_path / f"d{suffix}")["rain"].transpose("realization", ...)
    assert down.lat.values[0] > down.lat.values[-1]
    np.testing.assert_array_equal(down.values[:, :, ::-1], up.values)
    np.testing.assert_allclose(down.lat.values[::-1], up.lat.values)


def test_dry_is_dry():
    out = downscale(Fake(), coarse(dry=True), members=2)
    assert np.nanmax(np.abs(out["rain"])) == 0 and out.attrs["finescale_conservation_residual"] == 0


def test_units_there_and_back():
    ds = coarse()
    si = ds.assign(rain=(ds["rain"] / 3600).assign_attrs(units="kg m-2 s-1"))
    out = downscale(Fake(), si, members=1)["rain"]
    assert out.attrs["units"] == "kg m-2 s-1"
    np.testing.assert_allclose(out * 3600, downscale(Fake(), ds, members=1)["rain"], rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="cannot be converted to 'mm h-1'"):
        downscale(Fake(), ds.assign(rain=ds["rain"].assign_attrs(units="K")))


@pytest.fixture
def interrupted(monkeypatch):
    """``interrupted(task, model, coarse, out, **settings)``: a run that ends where a task is to be written."""

    def run(last, *arguments, **settings):
        write_region = store.ZarrStore.write

        def stop(self, task, *rest):
            if task == last:
                raise KeyboardInterrupt
            write_region(self, task, *rest)

        monkeypatch.setattr(store.ZarrStore, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            downscale(*arguments, **settings)
        monkeypatch.undo()

    return run


def test_an_interrupted_run_is_resumed(tmp_path, interrupted):
    settings = dict(members=5, seed=1, progress=False)
    downscale(Fake(), coarse(), tmp_path / "whole.zarr", **settings)
    model, out, partial = Fake(), tmp_path / "o.zarr", tmp_path / ".o.partial.zarr"
    interrupted(7, model, coarse(), out, **settings)
    assert not out.exists() and partial.is_dir()
    with (partial / JOURNAL).open("a") as journal:
        journal.write("[7, 0.0, 3")  # a line that the interruption cut short
    with pytest.raises(InputError, match="give --resume to continue it or --overwrite"):
        downscale(model, coarse(), out, **settings)
    with pytest.raises(InputError, match=r"is of another run .seed 1 is now 2"):
        downscale(model, coarse(), out, **(settings | {"seed": 2}), resume=True)
    with pytest.raises(InputError, match=r"input of the interrupted run has changed, first in frames 0 to 0"):
        downscale(model, coarse(seed=5), out, **settings, resume=True)
    first, model.calls = model.calls, 0
    downscale(model, coarse(), out, **settings, resume=True)
    whole = Fake()
    downscale(whole, coarse(), tmp_path / "again.zarr", **settings)
    # Task 8 was computed while 7 was written.
    assert first == 9 and model.calls == whole.calls - 7
    assert not partial.exists() and not (out / JOURNAL).exists()
    a, b = read(tmp_path / "whole.zarr"), read(out)
    np.testing.assert_array_equal(a["rain"].values, b["rain"].values)
    assert a.attrs["finescale_conservation_residual"] == b.attrs["finescale_conservation_residual"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda ds: ds.assign(rain=ds["rain"] + (ds["rain"] == ds["rain"][1, 0, 9])),
            "changed, first in frames 1 to 1",
        ),
        (lambda ds: ds.assign(rain=ds["rain"].assign_attrs(units="mm d-1")), "is of another run .units"),
        (lambda ds: ds.assign_coords(lon=ds["lon"] + 1), "is of another run .grid"),
    ],
    ids=["a value in the middle", "units", "grid"],
)
def test_a_run_is_not_resumed_with_another_input(tmp_path, interrupted, change, words):
    """…neither where the first and the last frame are as they were, nor where all values are; and nothing is lost."""
    settings, out = dict(members=2, seed=1, window=(1, 9, 99), progress=False), tmp_path / "o.zarr"
    interrupted(2, Fake(), coarse(), out, **settings)
    with pytest.raises(InputError, match=words):
        downscale(Fake(), change(coarse()), out, **settings, resume=True)
    downscale(Fake(), coarse(), out, **settings, resume=True)
    downscale(Fake(), coarse(), tmp_path / "whole.zarr", **settings)
    xr.testing.assert_identical(read(out)["rain"], read(tmp_path / "whole.zarr")["rain"])


@pytest.mark.parametrize("journal", ["", "no journal\n", "[1, 2]\n", "\xff\n"])
def test_a_journal_that_is_none_is_named(tmp_path, journal):
    (tmp_path / ".o.partial.zarr").mkdir()
    (tmp_path / ".o.partial.zarr" / JOURNAL).write_text(journal)
    with pytest.raises(InputError, match=r"does not say which run .*--overwrite"):
        downscale(Fake(), coarse(), tmp_path / "o.zarr", members=2, resume=True, progress=False)


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_one_process_writes_an_output(tmp_path, suffix):
    """While another one holds its lock; afterwards it may, and leaves nothing behind."""
    out = tmp_path / f"o{suffix}"
    with sole_writer(out), pytest.raises(InputError, match=r"another process is writing .*/o"):
        downscale(Fake(), coarse(), out, members=1, progress=False)
    downscale(Fake(), coarse(), out, members=1, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_members_that_are_not_finite_are_not_published(tmp_path, suffix):
    class Damaged(Fake):
        def sample(self, given, members):
            drawn = super().sample(given, members)
            drawn.fields[..., -1, -1] = np.nan
            return drawn

    with pytest.raises(ArithmeticError, match="weights are damaged"):
        downscale(Damaged(), coarse(), tmp_path / f"o{suffix}", members=1, progress=False)
    assert not (tmp_path / f"o{suffix}").exists()
    with pytest.raises(ArithmeticError, match="weights are damaged"):
        downscale(Damaged(), coarse(), members=1)


def test_files_are_read_and_written_by_one_thread_while_the_model_computes(tmp_path, monkeypatch):
    import threading

    threads: dict[str, set[int]] = {"read": set(), "write": set(), "compute": set()}

    def noted(what, function):
        def call(*args, **settings):
            threads[what].add(threading.get_ident())
            return function(*args, **settings)

        return call

    monkeypatch.setattr(Tasks, "read", noted("read", Tasks.read))
    monkeypatch.setattr(store.ZarrStore, "write", noted("write", store.ZarrStore.write))
    monkeypatch.setattr(Fake, "sample", noted("compute", Fake.sample))
    downscale(Fake(), coarse(), tmp_path / "o.zarr", members=3, progress=False)
    assert threads["read"] == threads["write"] and len(threads["read"]) == 1
    assert threads["compute"] == {threading.get_ident()} and not threads["compute"] & threads["read"]


class Stacked(Fake):
    """Takes 12 pairs at once."""

    def at_once(self, cells: int) -> int:
        return 12


def test_windows_at_several_times_are_sampled_together(tmp_path):
    """…in one call for as many as pay, with the members that they have one by one, and gaps and unknown cells kept."""
    field = coarse(t=9)
    field["rain"][4] = np.nan
    settings = dict(members=3, seed=4, window=(1, 99, 99), halo=(0, 0, 0))
    one, several = Fake(), Stacked()
    alone, together = (downscale(model, field, **settings)["rain"] for model in (one, several))
    xr.testing.assert_equal(alone, together)
    assert together[:, 8:10].isnull().all() and together[:, 10:].notnull().all()
    assert (one.calls, several.calls) == (16, 3)  # 8 known windows x 2 batches; 4 + 4 + 1 windows
    # Windows of different cells are not: y and x have two windows each.
    parted = Stacked()
    cut = downscale(parted, field, members=3, seed=4, window=(1, 6, 5), halo=(0, 2, 1))["rain"]
    xr.testing.assert_allclose(cut, alone, rtol=0, atol=1e-5)
    assert parted.calls == 8 * 4


def test_an_interrupted_stack_is_finished(tmp_path, monkeypatch):
    """Windows of a stack that were not written before an interruption are; those that were are not written again."""
    settings = dict(members=3, seed=4, window=(1, 99, 99), halo=(0, 0, 0), progress=False)
    downscale(Stacked(), coarse(t=9), tmp_path / "whole.zarr", **settings)
    write_task, written = store.ZarrStore.write, []

    def interrupted(self, task, parts, note):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(task)
        write_task(self, task, parts, note)

    monkeypatch.setattr(store.ZarrStore, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        downscale(Stacked(), coarse(t=9), tmp_path / "o.zarr", **settings)

    def noted(self, task, *rest):
        written.append(task)
        write_task(self, task, *rest)

    monkeypatch.setattr(store.ZarrStore, "write", noted)
    downscale(Stacked(), coarse(t=9), tmp_path / "o.zarr", resume=True, **settings)
    assert written == list(range(9))
    with xr.open_zarr(tmp_path / "o.zarr") as a, xr.open_zarr(tmp_path / "whole.zarr") as b:
        xr.testing.assert_identical(a["rain"].load(), b["rain"].load())


def test_static_fields_are_read_with_the_window_alone(tmp_path, monkeypatch):
    """So that one thread reads all files; in a window where nothing is known they are not read at all."""
    names = {"lat": 28 + 1.0 * np.arange(14), "lon": 3 + 1.0 * np.arange(16)}
    height = xr.DataArray(np.ones((14, 16), np.float32), dims=("lat", "lon"), coords=names, name="elevation")
    height.to_dataset().to_netcdf(tmp_path / "dem.nc", engine="netcdf4")

    class WithStatic(Fake):
        static = ("elevation",)

        def sample(self, given, members):
            assert given.static.shape == (1, 1, 3 * given.coarse.shape[-2], 4 * given.coarse.shape[-1])
            return super().sample(given, members)

    reading, read_at, known = [], [], []
    read_stack, at = Tasks.read, StaticFields.at

    def stack_read(self, stack):
        reading.append(stack)
        found = read_stack(self, stack)
        reading.pop()
        known.append(any(found.known))
        return found

    def static_read(*args):
        read_at.append(bool(reading))
        return at(*args)

    monkeypatch.setattr(Tasks, "read", stack_read)
    monkeypatch.setattr(StaticFields, "at", static_read)
    dark = coarse()
    dark["rain"][0, :4, :3] = np.nan  # the first window's core
    settings = dict(members=3, window=(1, 4, 3), halo=(0, 0, 0), static=tmp_path / "dem.nc", progress=False)
    downscale(WithStatic(), dark, tmp_path / "o.zarr", **settings)
    assert read_at == [True] * sum(known) and 3 < sum(known) < len(known)


@pytest.mark.filterwarnings("error")
def test_a_zarr_output_opens_without_a_warning(tmp_path):
    downscale(Fake(), coarse(), tmp_path / "o.zarr", members=2, progress=False)
    write(coarse(), tmp_path / "c.zarr")
    for name in ("o", "c"):
        with xr.open_zarr(tmp_path / f"{name}.zarr") as ds:
            xr.testing.assert_identical(ds.load(), xr.open_zarr(tmp_path / f"{name}.zarr", consolidated=False).load())
            assert ds.attrs.get("finescale_seed", 0) == 0 and ds["rain"].notnull().any()


@pytest.mark.parametrize("after", [0, 3])
@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_a_full_disk_leaves_nothing_under_the_name(tmp_path, suffix, after, monkeypatch):
    kind = store.NetcdfStore if suffix == ".nc" else store.ZarrStore
    write_region = kind.write

    def full(self, task, *rest):
        if task == after:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_region(self, task, *rest)

    monkeypatch.setattr(kind, "write", full)
    out = tmp_path / f"o{suffix}"
    with pytest.raises(InputError, match=r"could not be written: the disk is full") as caught:
        downscale(Fake(), coarse(), out, members=2, progress=False)
    assert not out.exists()
    kept = suffix == ".zarr" and after > 0
    assert ("--resume" in str(caught.value)) == kept
    assert [p.name for p in tmp_path.iterdir()] == ([".o.partial.zarr"] if kept else [])
    monkeypatch.undo()
    downscale(Fake(), coarse(), out, members=2, progress=False, resume=kept)
    assert [p.name for p in tmp_path.iterdir()] == [out.name]


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_a_fault_while_sampling_leaves_nothing(tmp_path, suffix):
    class Broken(Fake):
        def sample(self, *_, **__):
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        downscale(Broken(), coarse(), tmp_path / f"o{suffix}", members=2, progress=False)
    assert not list(tmp_path.iterdir())


def test_what_is_refused(tmp_path):
    write(coarse(), tmp_path / "c.nc")
    (tmp_path / "there.nc").write_text("keep me")
    for words, arguments in {
        "--overwrite": dict(out=tmp_path / "there.nc"),
        "must end in": dict(out=tmp_path / "o.tif"),
        "members is 0": dict(members=0),
        "seed is -1": dict(seed=-1),
        "no variable 'snow'": dict(variable="snow"),
        "cannot be resumed": dict(resume=True),
        "window": dict(window=(0, 1, 1)),
    }.items():
        with pytest.raises(InputError, match=words):
            downscale(Fake(), tmp_path / "c.nc", **(dict(out=tmp_path / "o.nc", progress=False) | arguments))
    with pytest.raises(InputError, match="uneven times"):
        downscale(Fake(), coarse(4).isel(time=[0, 1, 3]), tmp_path / "o.nc", progress=False)
    with pytest.raises(InputError, match="one time only"):
        downscale(Fake(), coarse(1))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.nc", "there.nc"]
    assert (tmp_path / "there.nc").read_text() == "keep me"
