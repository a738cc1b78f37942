"""Training data that are not in memory: the same batches and the same model as from memory, and one pass over them."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from safetensors.torch import load_file

from finescale.cli import main
from finescale.config.read import read_config
from finescale.data.files import open_field
from finescale.data.lazy import Cache, blockwise, single
from finescale.downscaler import Downscaler
from finescale.grids.coordinates import increasing
from finescale.grids.factor import Factor
from finescale.model.batch import Batch
from finescale.training import crops as crops_of
from finescale.training import survey as surveys
from finescale.training.ahead import DEPTH, Ahead
from finescale.training.crops import Crops
from finescale.training.cutting import Augmentation
from finescale.training.data import open_data
from finescale.training.fields import Field
from finescale.training.survey import Criteria, Survey, survey

CROP = (2, 16, 16)


@pytest.fixture
def store(tmp_path: Path, rng: np.random.Generator) -> Callable[..., Path]:
    """``store(kind, chunks)``: rain and wind every hour but one, latitudes falling, a coast where both are missing."""

    def made(kind: str = "zarr", chunks: tuple[int, int, int] = (3, 12, 20)) -> Path:
        rain = np.maximum(rng.normal(0, 2, (9, 40, 56)), 0).astype(np.float32)
        wind = rng.normal(5, 2, rain.shape).astype(np.float32)
        rain[:, :8, :12] = np.nan
        wind[2, 30:33, 20:25] = np.nan
        hours = np.array([0, 1, 2, 3, 5, 6, 7, 8, 9])
        ds = xr.Dataset(
            {
                "rain": (("time", "lat", "lon"), rain, {"units": "mm h-1"}),
                "wind": (("time", "lat", "lon"), wind, {"units": "m s-1"}),
            },
            {
                "time": np.datetime64("2020-06-01", "ns") + hours * np.timedelta64(1, "h"),
                "lat": ("lat", 60 - np.arange(40) * 0.01, {"units": "degrees_north"}),
                "lon": ("lon", np.arange(56) * 0.01, {"units": "degrees_east"}),
            },
        )
        (tmp_path / "data").mkdir(exist_ok=True)
        path = tmp_path / "data" / f"rain.{kind}"
        if kind == "nc":
            ds.to_netcdf(path, encoding={name: {"chunksizes": chunks, "zlib": True} for name in ds.data_vars})
        else:
            ds.to_zarr(path, encoding={name: {"chunks": chunks} for name in ds.data_vars}, consolidated=False)
        return path

    return made


def opened(path: Path, cache: Cache | None = None, names: tuple[str, ...] = ("rain", "wind")) -> list[xr.DataArray]:
    """The variables of a store, not read."""
    fields = [single(open_field(path, name, chunks=None)) for name in names]
    return [increasing(blockwise(field, cache) if cache else field) for field in fields]


def same(one: Batch, other: Batch) -> None:
    for name in ("coarse", "fine", "area", "weight"):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None), name
        if a is not None:
            assert torch.equal(a.nan_to_num(-7), b.nan_to_num(-7)) and torch.equal(a.isnan(), b.isnan()), name


# --- the same as in memory


@pytest.mark.parametrize("kind", ["zarr", "nc"])
def test_training_is_the_same_streamed_and_in_memory(
    store: Callable[..., Path], config: Callable[..., Any], tmp_path: Path, kind: str
) -> None:
    """By the command: equal losses, to the last digit, and equal weights."""
    path = store(kind)
    settings = config(path, steps=6)
    settings["data"] |= {
        "train": {"lon": [None, 0.36]},
        "valid": {"lon": [0.36, None]},
        "min_valid": 0.7,
        "favour": 0.5,
    }
    (tmp_path / "config.json").write_text(json.dumps(settings))  # which is YAML too
    found = {}
    for name, memory in (("held", "1GB"), ("streamed", "1kB")):
        arguments = ["fit", str(tmp_path / "config.json"), "-o", str(tmp_path / name)]
        assert main([*arguments, "--set", f"data.memory={memory}"]) == 0
        lines = (tmp_path / name / "log.jsonl").read_text().splitlines()
        losses = [{key: row[key] for key in ("stage", "step", "loss", "valid")} for row in map(json.loads, lines)]
        found[name] = losses, load_file(tmp_path / name / "weights.safetensors")
    (held, weights), (streamed, others) = found["held"], found["streamed"]
    assert str(held) == str(streamed) and len(held) > 4
    assert weights.keys() == others.keys() and all(torch.equal(weights[name], others[name]) for name in weights)
    # Streamed, what was found in the data is kept beside them; held, nothing is.
    kept = [one.name for one in path.parent.iterdir() if one.name.endswith("finescale-survey")]
    assert len(kept) == 2 and all(name.startswith(f".rain.{kind}.") for name in kept)


@pytest.mark.parametrize("weighted", [False, True])
def test_batches_are_the_same_wherever_the_data_lie(store: Callable[..., Path], weighted: bool) -> None:
    path = store()
    ways = {
        "memory": [field.load() for field in opened(path)],
        "blocks": opened(path, Cache(2**20)),
        "few blocks": opened(path, Cache(50_000)),
        "plain": opened(path),
        "dask": [increasing(open_field(path, name)) for name in ("rain", "wind")],
    }
    augmentation = Augmentation(favour=0.7, rescale=0.3)
    made = {
        (name, memory): Crops(
            [fields], Factor(1, 4), CROP, Criteria(0.6, 0.1), None, augmentation, weighted=weighted, memory=memory
        )
        for name, fields in ways.items()
        for memory in (0, 2**30)
    }
    first = made["memory", 2**30]
    for name, crops in made.items():
        assert np.array_equal(crops.positions, first.positions), name
        assert np.array_equal(crops.cumulative, first.cumulative) and crops.missing == first.missing, name
        for key in range(3):
            same(crops.draw(5, 1, key), first.draw(5, 1, key))
        same(crops.apart(4, 2), first.apart(4, 2))
        assert np.array_equal(crops.side_by_side(10**6), first.side_by_side(10**6))
        same(crops.fold(0, 2).draw(3, 0), first.fold(0, 2).draw(3, 0))
    # Rain alone is varied in amount, and chooses crops.
    still = Crops([ways["memory"]], Factor(1, 4), CROP, Criteria(0.6, 0.1), augmentation=Augmentation(turn=False))
    varied = Crops(
        [ways["memory"]], Factor(1, 4), CROP, Criteria(0.6, 0.1), augmentation=Augmentation(False, rescale=1.0)
    )
    one, other = still.draw(1, 3).fine[0], varied.draw(1, 3).fine[0]
    ratio = (other / one)[0][one[0] > 0]
    assert torch.equal(one[1].nan_to_num(), other[1].nan_to_num())
    assert abs(float(ratio.mean()) - 1) > 0.01 and float(ratio.std()) < 1e-5


def test_batches_made_ahead_by_threads_come_in_order(store: Callable[..., Path]) -> None:
    fields = opened(store("nc"), Cache(100_000))
    crops = Crops([fields], Factor(1, 4), CROP, Criteria(0.6), memory=0)
    alone = [crops.draw(4, 0, step) for step in range(5, 15)]
    with Ahead(lambda step: crops.draw(4, 0, step), 5) as batches:
        for batch in alone:
            same(batches.next(), batch)

    # However long each takes: the first of several ends last.
    gate = threading.Event()

    def make(number: int) -> int:
        if number == 0:
            assert gate.wait(20)
        else:
            gate.set()
        if number == 3:
            raise ValueError("the third")
        return number

    with Ahead(make, 0) as numbers:
        assert [numbers.next() for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="the third"):
            numbers.next()
        assert numbers.number <= 4 + DEPTH  # no more than asked for and what lies ready


# --- the pass over the data


def by_loops(
    field: Field, crop: tuple[int, int, int], stride: int, criteria: Criteria
) -> tuple[list[Any], list[float]]:
    """Crops that count, and amounts, crop by crop."""
    found, amounts = [], []
    frames, height, width = field.shape[1:]
    starts = (range(n - size + 1) for n, size in zip((frames, height, width), crop, strict=True))
    times, rows, columns = starts
    for t, y, x in itertools.product(times, rows[::stride], columns[::stride]):
        if any(t < gap < t + crop[0] for gap in field.gaps):
            continue
        cut = field.box(slice(t, t + crop[0]), slice(y, y + crop[1]), slice(x, x + crop[2]))
        if criteria.accept(cut):
            found.append((t, y, x))
            amounts.append(float(np.nan_to_num(cut[0]).mean(dtype=np.float64)))
    return found, amounts


@pytest.mark.parametrize(("crop", "stride"), [((2, 16, 16), 4), ((1, 10, 15), 3), ((3, 40, 9), 7)])
@pytest.mark.parametrize("tile", [2**21, 500])
def test_a_survey_finds_what_loops_find(
    store: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, crop: tuple[int, int, int], stride: int, tile: int
) -> None:
    monkeypatch.setattr(surveys, "TILE", tile)
    criteria = Criteria(0.8, 0.3, wet=0.5)
    field = Field(opened(store()), hold=False)
    assert field.gaps == (4,)
    found = survey(field, crop, stride, criteria, field.gaps)
    wanted, amounts = by_loops(Field(field.variables, hold=True), crop, stride, criteria)
    assert [tuple(one) for one in found.positions.tolist()] == wanted and len(wanted) > 10
    np.testing.assert_allclose(found.amounts, amounts, rtol=1e-5)
    rain, wind = (variable.values for variable in field.variables)
    known = np.isfinite(rain) & np.isfinite(wind)
    assert found.share_missing == pytest.approx(1 - known.mean())
    assert found.wet_share == pytest.approx((rain > 0.5)[known].mean())
    for values, low, high, mean in zip((rain, wind), found.low, found.high, found.mean, strict=True):
        assert (low, high) == (np.nanmin(values), np.nanmax(values))
        assert mean == pytest.approx(np.nanmean(values, dtype=np.float64))


def test_of_too_many_crops_an_even_part_is_kept(store: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    fields = opened(store())
    all_of_them = Crops([fields, fields], Factor(1, 4), (1, 16, 16), Criteria(0.0), 2)
    monkeypatch.setattr(surveys, "MOST", 500)
    some = Crops([fields, fields], Factor(1, 4), (1, 16, 16), Criteria(0.0), 2)
    assert 200 < len(some) <= 500 < len(all_of_them)
    there = {tuple(one) for one in all_of_them.positions.tolist()}
    kept = [tuple(one) for one in some.positions.tolist()]
    assert set(kept) < there and kept == sorted(kept)
    # Of every field the same, and of all times and places alike.
    assert [one[1:] for one in kept if one[0] == 0] == [one[1:] for one in kept if one[0] == 1]
    for column in (1, 2, 3):
        before, after = (crops.positions[:, column].astype(float) for crops in (all_of_them, some))
        assert abs(after.mean() - before.mean()) < 4 * before.std() / len(some) ** 0.5
    again = Crops([fields, fields], Factor(1, 4), (1, 16, 16), Criteria(0.0), 2, memory=0)
    assert np.array_equal(again.positions, some.positions)


# --- what is kept of it


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Survey]:
    """The surveys that were made and not found."""
    made: list[Survey] = []

    def counting(*arguments: Any) -> Survey:
        made.append(survey(*arguments))
        return made[-1]

    monkeypatch.setattr(crops_of, "survey", counting)
    return made


def data_of(path: Path, **data: Any) -> dict[str, Any]:
    given = {"path": str(path), "variable": "rain", "crop": 16, "min_wet": 0, "min_valid": 0.5, "memory": "1kB"} | data
    return read_config("wavelet", {f"data.{key}": value for key, value in given.items()} | {"factor": "1x4"})


def beside(path: Path) -> list[Path]:
    return sorted(one for one in path.parent.iterdir() if one.name.endswith(".finescale-survey"))


def test_a_survey_is_made_once(store: Callable[..., Path], counted: list[Survey]) -> None:
    path = store()
    first, _ = open_data(data_of(path)).crops()
    again, _ = open_data(data_of(path)).crops()
    assert len(counted) == 1 and len(beside(path)) == 1
    assert np.array_equal(first.positions, again.positions) and np.array_equal(first.cumulative, again.cumulative)
    assert first.surveys[0].low == again.surveys[0].low and first.surveys[0].most == again.surveys[0].most
    same(first.draw(4, 0), again.draw(4, 0))
    # Anything that it depends on makes another one.
    for number, other in enumerate(
        ({"crop": 32}, {"min_valid": 0.6}, {"wet": 0.2}, {"variable": "wind"}, {"train": {"lon": [None, 0.3]}})
    ):
        open_data(data_of(path, **other)).crops()
        assert len(counted) == 2 + number
    with xr.open_zarr(path, consolidated=False) as ds:
        changed = ds.load()
    changed["rain"][3] = 7.0
    for variable in changed.variables.values():
        variable.encoding = {}
    changed.to_zarr(path, mode="w", consolidated=False)
    fresh, _ = open_data(data_of(path)).crops()
    assert len(counted) == 7 and fresh.surveys[0].high[0] >= 7.0
    for size in range(16, 36, 2):  # only the youngest stay
        open_data(data_of(path, crop=[size - size % 4, 16], min_valid=size / 100)).crops()
    assert len(beside(path)) == 8


@pytest.mark.parametrize("what", ["a byte", "the end", "empty", "text", "another's", "a folder"])
def test_a_damaged_survey_is_none(store: Callable[..., Path], counted: list[Survey], what: str) -> None:
    path = store()
    first, _ = open_data(data_of(path)).crops()
    (kept,) = beside(path)
    content = bytearray(kept.read_bytes())
    if what == "a byte":
        content[-40] ^= 1  # a position, or an amount
    elif what == "another's":
        open_data(data_of(path, min_valid=0.6)).crops()
        content = bytearray(next(one for one in beside(path) if one != kept).read_bytes())
    made = len(counted)
    kept.unlink()
    if what == "a folder":
        kept.mkdir()
    else:
        kept.write_bytes({"the end": content[:-9], "empty": b"", "text": b"{}" * 40}.get(what, bytes(content)))
    again, _ = open_data(data_of(path)).crops()
    assert len(counted) == made + 1
    assert np.array_equal(first.positions, again.positions) and np.array_equal(first.cumulative, again.cumulative)
    open_data(data_of(path)).crops()
    assert len(counted) == made + 1, "it has been replaced by a whole one"


def test_beside_data_that_may_not_be_written_nothing_is(
    store: Callable[..., Path], counted: list[Survey], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Then it lies in the user's cache folder; where that is no folder, nowhere."""
    from finescale.training import survey_cache

    path, write = store(), survey_cache.atomic

    def refused(target: Path) -> Any:
        if target.parent == path.parent:
            raise PermissionError(13, "Permission denied")
        return write(target)

    monkeypatch.setattr(survey_cache, "atomic", refused)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for _ in range(2):
        open_data(data_of(path)).crops()
    assert not beside(path) and len(counted) == 1 and len(list((tmp_path / "cache" / "finescale").iterdir())) == 1
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for _ in range(2):
        open_data(data_of(path)).crops()
    assert len(counted) == 3


# --- weights


@pytest.fixture
def all_crops(rng: np.random.Generator) -> Crops:
    """Storms of very different amounts, each crop where its candidate is; favoured by amount, with weights."""
    amounts = np.repeat(np.exp(rng.normal(0, 0.8, (12, 3, 4))), 16, axis=1).repeat(16, axis=2)
    # The larger, the rougher: what favours amounts favours large losses.
    values = (amounts * np.exp(0.3 * amounts.clip(max=4) * rng.standard_normal(amounts.shape))).astype(np.float32)
    coords = {"y": np.arange(48.0), "x": np.arange(64.0)}
    da = xr.DataArray(values, dims=("time", "y", "x"), coords=coords, name="rain", attrs={"units": "mm h-1"})
    crops = Crops(
        [[da]], Factor(1, 4), (1, 16, 16), Criteria(), 16, Augmentation(turn=False, favour=1.0), weighted=True
    )
    crops.stride = 1  # so that they are not moved
    return crops


def test_favoured_crops_leave_the_expected_loss_as_it_is(
    all_crops: Crops, built: Callable[..., Downscaler], monkeypatch: pytest.MonkeyPatch
) -> None:
    """E_p[w L] = (1/n) Σ L: of many draws the mean of weighted losses is the loss over all crops alike."""
    model = built()
    model.transform.fit([all_crops.at(all_crops.positions, Factor(1, 4)).fine])
    whole = all_crops.at(all_crops.positions, Factor(1, 4))
    assert whole.weight is None and len(whole) == 144

    def loss(batch: Batch) -> float:
        with torch.no_grad():
            return float(model.loss("mean", batch, torch.Generator()))

    wanted = loss(whole)
    draws = [all_crops.draw(16, 0, step) for step in range(100)]
    weighted = np.array([loss(batch) for batch in draws])
    plain = np.array([loss(Batch(b.coarse, b.area, fine=b.fine)) for b in draws])
    error = weighted.std() / len(draws) ** 0.5
    assert abs(weighted.mean() - wanted) < 4 * error
    assert error < 0.03 * wanted and plain.mean() > wanted + 10 * error  # what favour does without weights
    weights = torch.cat([batch.weight for batch in draws if batch.weight is not None])
    assert len(weights) == 1600 and weights.min() > 0 and abs(float(weights.mean()) - 1) < 0.1
    # A crop's weight is (1/n)/p, p ∝ its amount.
    means = torch.cat([batch.fine.mean((1, 2, 3, 4)) for batch in draws])
    torch.testing.assert_close(weights * means, torch.full_like(means, float(whole.fine.mean())), rtol=1e-4, atol=0)


VARIED = {
    "mean": ("mean", {}),
    "absolute": ("mean", {"mean": {"loss": "mae"}}),
    "denoiser": ("denoiser", {"process": {"tv": 0.01}}),
    "joint": ("joint", {}),
    "penalty": ("mean", {"constraint": {"kind": "penalty", "weight": 3.0}, "denoiser": "none", "latent": "pixel"}),
    "variance": ("variance", {}),
}


@pytest.mark.parametrize("name", VARIED)
def test_every_loss_is_the_mean_of_weighted_ones(
    name: str,
    all_crops: Crops,
    built: Callable[..., Downscaler],
    tiny: dict[str, Any],
    head: dict[str, Any],
) -> None:
    """Linear in the weights, and the usual loss where all are one: L = mean w L."""
    kind, changes = VARIED[name]
    changes = {key: tiny[key] | value if isinstance(value, dict) and key in ("mean", "process") else value
               for key, value in changes.items()}  # fmt: skip
    model = built(**changes, **({"variance": head} if kind == "variance" else {}))
    batch = all_crops.at(all_crops.positions[[3, 40, 77, 110]], Factor(1, 4))
    batch.fine[1, ..., :4, :8] = torch.nan  # unknown cells count as before

    def loss(weight: list[float] | None) -> float:
        given = Batch(
            batch.coarse, batch.area, fine=batch.fine, weight=None if weight is None else torch.tensor(weight)
        )
        with torch.no_grad():
            return float(model.loss(kind, given, torch.Generator().manual_seed(5)))

    units = [loss([float(n == m) * 4 for m in range(4)]) for n in range(4)]
    assert loss([1.0] * 4) == pytest.approx(loss(None), rel=1e-5)
    assert sum(units) / 4 == pytest.approx(loss(None), rel=1e-5)
    assert loss([0.5, 2.0, 1.0, 3.0]) == pytest.approx(
        (0.5 * units[0] + 2 * units[1] + units[2] + 3 * units[3]) / 4, rel=1e-5
    )
    assert len({round(one, 6) for one in units}) == 4


def test_weights_are_a_switch(store: Callable[..., Path]) -> None:
    path = store()
    for weighted in (False, True):
        crops, valid = open_data(data_of(path, favour=1.0, weighted=weighted, memory="1GB")).crops()
        assert (crops.draw(4, 0).weight is not None) is weighted
        assert crops.apart(4).weight is None and valid.apart(4).weight is None
