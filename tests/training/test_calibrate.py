"""Calibration: the spread and the smoothness of a model put right on fine fields, by the command and in Python."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
import yaml
from scipy.ndimage import gaussian_filter

import finescale
from finescale.cli import main
from finescale.config.read import read_config
from finescale.data.synthetic import synthetic_rain
from finescale.errors import InputError
from finescale.model.batch import Inputs, Members
from finescale.model.calibrated import Calibrated
from finescale.operators.structure import halved
from finescale.scores.settings import Settings
from finescale.scores.spectra import log_spectral_distance
from finescale.scores.sums import Sums
from finescale.training.crops import Crops
from finescale.training.cutting import Augmentation, Cut, blurred, doubled
from finescale.training.spread import members_of, ratio_of
from finescale.training.survey import Criteria

SMOOTHING: dict[str, Any] = {
    "latent.side": 4,
    "data": {"crop": 32, "min_wet": 0.0, "min_valid": 0.5, "smoothing": 1.5},
    "train": {"steps": 30, "minutes": None, "batch": 4},
}


@pytest.fixture(scope="module")
def there(generating: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained model of too much spread, and rain that is smoother than what it was trained on."""
    folder = tmp_path_factory.mktemp("calibrate")
    rain = synthetic_rain((4, 96, 96), seed=1)
    rain.to_dataset().to_netcdf(folder / "rain.nc", engine="netcdf4")
    finescale.fit(read_config("one-step", generating | SMOOTHING), folder / "fitted", data=folder / "rain.nc")
    model = finescale.load(folder / "fitted")
    with torch.no_grad():
        for parameter in model.generator.amplitudes.parameters():
            parameter *= 1.5
    model.save(folder / "model")
    other = synthetic_rain((4, 96, 96), seed=2)
    smooth = other.copy(data=gaussian_filter(other.values, (0, 1.5, 1.5)))
    smooth.to_dataset().to_netcdf(folder / "smooth.nc", engine="netcdf4")
    return folder


@pytest.fixture
def model(there: Path, tmp_path: Path) -> Path:
    """A copy of the model that a test may change."""
    shutil.copytree(there / "model", tmp_path / "model")
    return tmp_path / "model"


def test_the_command_puts_the_spread_right_and_is_kept(
    there: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fine = str(there / "smooth.nc")
    before = (model / "weights.safetensors").read_bytes()
    assert main(["calibrate", str(model), fine, "--crops", "12"]) == 0
    said = capsys.readouterr().out
    loaded = finescale.load(model)
    assert (model / "weights.safetensors").read_bytes() == before
    assert loaded.calibrated.path == fine and f"spread {loaded.calibrated.spread:.2f}" in said
    assert loaded.calibrated.smoothness is not None
    assert loaded.calibrated.smoothness > float(loaded.conditions.usual) + 0.2
    again = finescale.calibrate(loaded, fine, crops=12)
    told = again.at["1x4"]
    assert again.calibrated == loaded.calibrated and abs(np.log(told.after)) < abs(np.log(told.before))
    assert told.after == pytest.approx(1, abs=0.1)
    assert loaded.fingerprint != finescale.load(there / "model").fingerprint
    new = model.parent / "new"
    assert main(["calibrate", str(there / "model"), fine, "--crops", "12", "-o", str(new)]) == 0
    assert finescale.load(new).calibrated == loaded.calibrated
    assert main(["calibrate", str(there / "model"), fine, "--crops", "12", "-o", str(new)]) == 2
    assert "calibrated" not in yaml.safe_load((there / "model" / "config.yaml").read_text())
    main(["info", str(model)])
    assert "calibrated: {smoothness" in capsys.readouterr().out


def test_the_ratio_is_that_of_verify(there: Path) -> None:
    model, factor = finescale.load(there / "model"), finescale.Factor(1, 4)
    field = xr.open_dataset(there / "smooth.nc")["precipitation_rate"].load()
    said = finescale.calibrate(model, field, crops=6)
    model.calibrated = Calibrated()
    batch = Crops([[field]], factor, (1, 32, 32), Criteria(0.5, 0.0, 0.1)).apart(6)
    origins = [(0, model.multiple[1] * 4096 * n, 0) for n in range(len(batch))]
    drawn = model.sample(replace(batch, origin=origins), Members(range(8))).fields[:, :, 0, 0].transpose(0, 1)
    sums = Sums(Settings(full=False))
    sums.add(drawn.numpy(), batch.fine[:, 0, 0].numpy(), None, False)
    assert said.at["1x4"].before == pytest.approx(sums.scores()["spread_skill"], rel=1e-4)


def test_members_become_as_smooth_as_the_fields(there: Path) -> None:
    """And no smoother: the blur is that of the nearest spectrum; totals stay, and nothing is left below 0.05 mm/h."""
    model = finescale.load(there / "model")
    rain = synthetic_rain((4, 96, 96), seed=2)
    field = rain.copy(data=gaussian_filter(rain.values, (0, 0.8, 0.8)))
    said = finescale.calibrate(model, field, crops=16).at["1x4"]
    assert 0.3 < said.blur < 1.0
    coarse = finescale.coarsen(field, "1x4")["precipitation_rate"]
    distances = {}
    for blur in (0.0, said.blur, 2 * said.blur):
        model.calibrated = replace(model.calibrated, blur=blur)
        made = finescale.downscale(model, coarse, members=4, progress=False)["precipitation_rate"]
        rain = made.transpose("realization", ...).values
        distances[blur] = log_spectral_distance(rain, field.values)
        means = rain.reshape(*rain.shape[:2], 24, 4, 24, 4).mean((3, 5), dtype=np.float64)
        np.testing.assert_allclose(means, np.broadcast_to(coarse.values, means.shape), rtol=1e-5, atol=1e-6)
        few = np.broadcast_to(coarse.values, means.shape).repeat(4, -2).repeat(4, -1) < 0.05
        assert not ((rain > 0) & (rain < 0.0499) & ~few).any()
    assert distances[said.blur] < min(distances[0.0] - 0.05, distances[2 * said.blur])


def test_members_have_no_amounts_that_the_fields_have_not(there: Path) -> None:
    """Fields that report nothing below .4: a hundredth of their wet cells may be below, and totals stay."""
    model = finescale.load(there / "model")
    rain = synthetic_rain((4, 96, 96), seed=2)
    field = rain.where(rain >= 0.4, 0.0).assign_attrs(rain.attrs)
    coarse = finescale.coarsen(field, "1x4")["precipitation_rate"]

    def members() -> Any:
        made = finescale.downscale(model, coarse, members=4, progress=False)["precipitation_rate"]
        return made.transpose("realization", ...).values

    def below(fine: Any) -> float:
        """Share of wet cells below what the fields report, in blocks that hold more than one such cell."""
        counted = np.broadcast_to(coarse.values.repeat(4, -2).repeat(4, -1) > 0.4 / 16, fine.shape) & (fine > 0)
        return float((fine[counted] < 0.3999).mean())

    assert below(members()) > 0.05
    said = finescale.calibrate(model, field, crops=16)
    assert 0.4 <= said.calibrated.least < 0.5 and "nothing below 0.4" in str(said)
    rain = members()
    assert below(rain) == 0
    means = rain.reshape(*rain.shape[:2], 24, 4, 24, 4).mean((3, 5), dtype=np.float64)
    np.testing.assert_allclose(means, np.broadcast_to(coarse.values, means.shape), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("step", "least"), [(0.3, 0.15), (0.1, 0.05), (0.004, 0.2), (0.0, 0.2)])
def test_the_least_is_what_it_was_before_it_was_rounded(there: Path, step: float, least: float) -> None:
    """Steps of .3, .1 and .004 mm/h, and none: what is reported as .3 was .15 and more."""
    rain = synthetic_rain((4, 96, 96), seed=2)
    values = np.where(rain >= least, np.maximum(rain, least * 1.0001), 0.0)
    field = rain.copy(data=(step * np.floor(values / step + 0.5) if step else values).astype("float32"))
    said = finescale.calibrate(finescale.load(there / "model"), field, crops=16)
    assert said.calibrated.least == pytest.approx(least, rel=0.1)


def test_nothing_is_below_the_least_where_cells_are_unknown_or_free(generator: Callable[..., Any]) -> None:
    """With cells that do not count, an unknown coarse cell, and without conservation; NaN stays where it was."""
    torch.manual_seed(0)
    coarse = torch.rand(1, 1, 1, 8, 8) * 0.2
    coarse[..., 0, 0] = torch.nan
    model, members = generator(), Members(range(2), 1)
    fine = (8 * model.factor.y, 8 * model.factor.x)
    given = Inputs(coarse, mask=torch.rand(1, 1, *fine) > 0.2)
    plain = model.sample(given, members).fields
    model.calibrated = Calibrated(least=0.2)
    x = model.sample(given, members).fields
    assert torch.equal(x.isnan(), plain.isnan()) and bool(x.isnan().any())
    assert float(((x > 0) & (x < 0.1999)).sum()) < 0.1 * float(((plain > 0) & (plain < 0.1999)).sum())
    known = torch.where(given.mask[:, None], x.nan_to_num(), 0.0)
    counts = given.mask.float().unflatten(-1, (8, -1)).unflatten(-3, (8, -1)).sum((-3, -1))
    sums = known.unflatten(-1, (8, -1)).unflatten(-3, (8, -1)).sum((-3, -1))
    there = coarse[:, 0].isfinite() & (counts > 0)
    means = (sums / counts.clamp_min(1)[:, None, None])[:, :, 0]
    torch.testing.assert_close(means[there.expand_as(means)], coarse[:, 0].expand_as(means)[there.expand_as(means)])
    free = model.conserving(False).sample(given, members).fields
    assert not bool(((free > 0) & (free < 0.1999)).any())


def test_the_members_of_a_variance_are_blurred_too(built: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    given, members, model = Inputs(torch.rand(1, 1, 1, 8, 8)), Members(range(3), 1), built()
    sharp = model.sample(given, members).fields
    model.calibrated = Calibrated(blur=0.9)
    smooth, found = model.sample(given, members).fields, model.marginals(given, members, "members", fields=True)
    assert torch.equal(found.members.fields, smooth) and not torch.equal(smooth, sharp)


def test_fields_that_a_constraint_makes_of_logits_stay(there: Path, built: Callable[..., Any]) -> None:
    """It cannot act on them a second time."""
    given, members, model = (
        Inputs(torch.rand(1, 1, 1, 8, 8)),
        Members(range(2), 1),
        built(constraint="softmax", denoiser="none"),
    )
    sharp = model.sample(given, members).fields
    model.calibrated = Calibrated(blur=0.9)
    assert torch.equal(model.sample(given, members).fields, sharp)


def test_rougher_fields_are_not_blurred(there: Path) -> None:
    model = finescale.load(there / "model")
    rain = xr.open_dataset(there / "rain.nc")["precipitation_rate"].load()
    rough = rain * xr.full_like(rain, 1).copy(data=np.random.default_rng(0).gamma(1.0, 1.0, rain.shape))
    assert finescale.calibrate(model, rough.assign_attrs(rain.attrs), crops=8).at["1x4"].blur == 0.0


def test_a_single_crop_says_nothing_of_the_spread(there: Path) -> None:
    """The fewer crops, the nearer to 1: log s is shrunk by the jackknife's error."""
    model = finescale.load(there / "model")
    one, many = (finescale.calibrate(model, there / "smooth.nc", crops=n).at["1x4"].spread for n in (1, 16))
    assert one == 1.0 and abs(np.log(many)) > 0.1


def test_the_error_of_a_ratio_is_the_jackknifes(there: Path) -> None:
    model = finescale.load(there / "model")
    field = xr.open_dataset(there / "smooth.nc")["precipitation_rate"].load()
    batch = Crops([[field]], finescale.Factor(1, 4), (1, 32, 32), Criteria(0.5, 0.0, 0.1)).apart(6)
    found = ratio_of(model, batch, Calibrated(), 0)
    drawn = torch.cat([fields for _, fields in members_of(model, batch, 0)])[:, :, 0, 0].double()

    def log(left_out: int) -> float:
        kept = [n for n in range(len(batch)) if n != left_out]
        variance, error = drawn[kept].var(1).mean(), (drawn[kept].mean(1) - batch.fine[kept, 0, 0]).square().mean()
        return float((9 / 8 * variance / error).sqrt().log())

    logs = np.array([log(n) for n in range(6)])
    assert found.error == pytest.approx(float(np.sqrt(5 / 6 * ((logs - logs.mean()) ** 2).sum())), rel=1e-3)


def test_training_again_forgets_it(there: Path, model: Path, tmp_path: Path) -> None:
    finescale.calibrate(model, there / "smooth.nc", crops=4)
    config = yaml.safe_load((model / "config.yaml").read_text())
    assert "calibrated" in config
    config["train"] = {"steps": 1, "batch": 2}
    assert "calibrated" not in finescale.fit(config, tmp_path / "again").config


def test_a_spread_multiplies_deviations_from_the_centre(
    built: Callable[..., Any], generator: Callable[..., Any]
) -> None:
    """Diffusion: those of the residual from the mean. A generator: those from what it makes of no noise."""
    torch.manual_seed(0)
    given, members = Inputs(torch.rand(1, 1, 1, 8, 8)), Members(range(3), 1)
    for model in (built().conserving(False), generator()):
        first = model.draw(given, members)
        model.calibrated = Calibrated(spread=2.0)
        second = model.draw(given, members)
        model.calibrated = Calibrated(spread=1e-6)
        centre = model.draw(given, members)
        torch.testing.assert_close(centre[:, 0], centre[:, 1], rtol=0, atol=1e-4)
        torch.testing.assert_close(second - centre, 2 * (first - centre), rtol=0.05, atol=0.02)


def test_the_networks_are_told_how_smooth_fields_are(generator: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    given, members = Inputs(torch.rand(2, 1, 1, 8, 8)), Members(range(1), 1)
    model = generator()
    usual = model.sample(given, members).fields
    told = model.told(1.4).sample(given, members).fields
    assert float((usual - told).abs().mean()) > 1e-4
    assert torch.equal(model.told(1.0).sample(given, members).fields, usual)  # what it takes for usual, untrained
    each = replace(given, smoothness=torch.tensor([1.4, torch.nan]))
    both = model.sample(each, members).fields
    torch.testing.assert_close(both[0], told[0])
    torch.testing.assert_close(both[1], usual[1])
    with pytest.raises(InputError, match="trained without a smoothness"):
        generator(**{"data.smoothing": 0.0}).told(1.0)


def test_a_prediction_is_told_it_too(there: Path, model: Path, tmp_path: Path) -> None:
    finescale.coarsen(there / "smooth.nc", "1x4", tmp_path / "coarse.nc")
    words = ["downscale", str(model), str(tmp_path / "coarse.nc"), "--members", "1", "-o"]
    assert main([*words, str(tmp_path / "a.nc")]) == 0
    assert main([*words, str(tmp_path / "b.nc"), "--smoothness", "1.4"]) == 0
    assert main([*words, str(tmp_path / "c.nc"), "--smoothness", "-1"]) == 2
    a, b = (xr.load_dataset(tmp_path / name)["precipitation_rate"].values for name in ("a.nc", "b.nc"))
    assert not np.array_equal(a, b, equal_nan=True)


def test_smaller_cells_than_those_of_training_are_taken_to_be_smoother(
    there: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As smooth as the training's fields interpolated; of half the size and less, to half. A measured number stays."""
    coarse = finescale.coarsen(there / "smooth.nc", "1x4").isel(time=slice(1))
    usual = float(finescale.load(model).conditions.usual)

    def made(size: float, *more: str) -> Any:
        """A member of cells so much smaller, with that in the notices."""
        name = str(tmp_path / f"{len(list(tmp_path.iterdir()))}.nc")
        names = ("y", "x", "y_bnds", "x_bnds")
        changed = coarse.assign_coords({k: (coarse[k].dims, coarse[k].values * size, coarse[k].attrs) for k in names})
        changed.to_netcdf(name)
        words = ["--members", "1", "--force", "-o", name.replace(".nc", "-fine.nc"), *more]
        assert main(["downscale", str(model), name, *words]) == 0
        said = [line for line in capsys.readouterr().err.splitlines() if "smaller than those of training" in line]
        return xr.load_dataset(words[4])["precipitation_rate"].values, said

    half = round(halved(usual), 2)
    between = usual + (halved(usual) - usual) * np.log2(1 / 0.7)
    for size, told in ((0.9, None), (0.7, between), (0.5, half), (0.3, half)):
        values, said = made(size)
        if told is None:
            assert not said
            np.testing.assert_array_equal(values, made(1.0)[0])
            continue
        assert len(said) == 1 and f"({told:.2f} instead of {usual:.2f})" in said[0]
        wanted, silent = made(size, "--smoothness", f"{told:.2f}")
        assert not silent
        np.testing.assert_array_equal(values, wanted)
    assert main(["calibrate", str(model), str(there / "smooth.nc"), "--crops", "4"]) == 0
    assert not made(0.5)[1]


def test_what_cannot_be_calibrated(
    there: Path, model: Path, capsys: pytest.CaptureFixture[str], generator: Callable[..., Any]
) -> None:
    fine = str(there / "smooth.nc")
    before = (model / "config.yaml").read_bytes()
    assert main(["calibrate", str(model), str(there / "none.nc")]) == 2
    assert main(["calibrate", str(model), fine, "--select", "{time: [2050-01-01, null]}"]) == 2
    assert main(["calibrate", str(there), fine]) == 2
    assert main(["calibrate", str(model), fine, "--factor", "1x3"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 4
    assert (model / "config.yaml").read_bytes() == before
    with pytest.raises(InputError, match="one field"):
        finescale.calibrate(generator(generator=None, mean="interpolation", denoiser="none"), fine)


@pytest.mark.parametrize("factor", ["1x5", "2x3"])
def test_a_model_of_many_factors_is_calibrated_at_any_of_them(
    there: Path, generator: Callable[..., Any], factor: str
) -> None:
    """Also at those that do not divide the crops of its training."""
    data = {"crop": 32, "smoothing": 1.0, "min_valid": 0.5}
    model = generator(factor={"time": [1, 2], "space": [2, 6]}, variables={"rain": {"units": "mm h-1"}}, data=data)
    said = finescale.calibrate(model, there / "smooth.nc", factor=factor, variable="precipitation_rate", crops=4)
    assert list(said.at) == [factor] and model.calibrated.spread == {factor: said.at[factor].spread}
    told = said.at[factor]
    assert told.crops == 4 and abs(np.log(told.after)) <= abs(np.log(told.before)) + 1e-6


def test_a_range_of_factors_is_calibrated_at_some_and_between_them(
    there: Path, generator: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And left out are those for which the fields are too few."""
    data = {"crop": 32, "smoothing": 1.0, "min_valid": 0.5}
    model = generator(factor={"time": [1, 9], "space": [1, 8]}, variables={"rain": {"units": "mm h-1"}}, data=data)
    model.save(tmp_path / "model")
    words = ["calibrate", str(tmp_path / "model"), str(there / "smooth.nc"), "--variable", "precipitation_rate"]
    assert main([*words, "--crops", "3"]) == 0
    out, err = capsys.readouterr()
    mine = finescale.load(tmp_path / "model").calibrated
    assert isinstance(mine.spread, dict) and list(mine.spread) == ["1x2", "1x4", "1x8"]
    assert all(f"{factor}: spread {spread:.2f}, " in out for factor, spread in mine.spread.items())
    assert isinstance(mine.blur, dict) and list(mine.blur) == list(mine.spread)
    assert "not measured at 9x4" in err
    for factor, spread in mine.spread.items():
        assert mine.spread_at(finescale.Factor.parse(factor)) == spread


def test_what_lies_between_factors_is_between_theirs() -> None:
    assert Calibrated().spread_at(finescale.Factor(2, 7)) == 1
    one = Calibrated(spread={"1x2": 0.25, "1x8": 1.0})
    assert one.spread_at(finescale.Factor(1, 2)) == 0.25
    assert one.spread_at(finescale.Factor(1, 4)) == pytest.approx(0.5)  # as near to both, in logarithms
    assert 0.25 < one.spread_at(finescale.Factor(1, 3)) < 0.5 < one.spread_at(finescale.Factor(1, 6)) < 1
    assert one.spread_at(finescale.Factor(1, y=2, x=8)) == pytest.approx(0.5)
    two = Calibrated(blur={"1x2": 0.0, "1x8": 0.8})
    assert [two.blur_at(finescale.Factor(1, n)) for n in (2, 4, 8)] == pytest.approx([0.0, 0.4, 0.8])
    with pytest.raises(InputError, match="factor 'x' is not understood"):
        Calibrated(spread={"x": 1.0})


def test_members_have_the_spread_of_their_factor(generator: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    model = generator(factor={"time": [1, 2], "space": [2, 6]})
    given, members = Inputs(torch.rand(1, 1, 1, 8, 8)), Members(range(3), 1)
    plain = model.at("1x4").draw(given, members)
    model.calibrated = Calibrated(spread={"1x2": 1.0, "1x4": 3.0})
    assert torch.equal(model.at("1x4").draw(given, members).var(1) > 0, plain.var(1) > 0)
    wide = model.at("1x4").draw(given, members)
    model.calibrated = Calibrated(spread=3.0)
    assert torch.equal(wide, model.at("1x4").draw(given, members)) and not torch.equal(wide, plain)


# --- crops of other smoothness


def test_a_crop_of_double_cells_is_the_means_of_two_by_two() -> None:
    fine = np.arange(2 * 8 * 8, dtype=np.float32).reshape(1, 2, 8, 8)
    fine[0, 0, 0, 0] = np.nan
    area = np.linspace(1, 2, 8, dtype=np.float32)[:, None].repeat(8, 1)
    cut = doubled(Cut(fine, area, area[None]))
    wanted = xr.DataArray(fine, dims=list("ctyx")).coarsen(y=2, x=2).reduce(np.mean)
    np.testing.assert_allclose(cut.fine, wanted)
    assert cut.area.shape == (4, 4) and cut.static is not None and cut.static.shape == (1, 4, 4)


def test_smoothing_keeps_what_is_unknown_and_means() -> None:
    fine = np.random.default_rng(0).gamma(0.5, 1, (1, 1, 64, 64)).astype(np.float32)
    smooth = blurred(fine, 1.2)
    ours, weight = (gaussian_filter(x, (0, 0, 1.2, 1.2), mode="constant") for x in (fine, np.ones_like(fine)))
    np.testing.assert_allclose(smooth, ours / weight, rtol=1e-5)
    fine[0, 0, :20] = np.nan
    part = blurred(fine, 1.2)
    assert np.array_equal(np.isnan(part), np.isnan(fine)) and float(np.nanmean(part)) == pytest.approx(
        float(np.nanmean(fine)), rel=0.05
    )
    constant = np.where(np.isnan(fine), np.nan, np.float32(3))
    np.testing.assert_allclose(blurred(constant, 2.0), constant, rtol=1e-5)


def test_crops_differ_in_smoothness_where_that_is_asked_for(there: Path, generator: Callable[..., Any]) -> None:
    rain = xr.open_dataset(there / "rain.nc")["precipitation_rate"].load()
    plain = Crops([[rain]], finescale.Factor(1, 4), (1, 32, 32), augmentation=Augmentation())
    other = Crops([[rain]], finescale.Factor(1, 4), (1, 32, 32), augmentation=Augmentation(smoothing=2.0))
    model = generator()
    ends = []
    for crops in (plain, other):
        batch = crops.draw(64, 3)
        assert batch.fine.shape == (64, 1, 1, 32, 32)
        exponents = model.smoothness_of(batch.fine)
        assert exponents is not None
        ends.append(np.nanquantile(exponents.numpy(), [0.1, 0.9]))
    assert ends[1][1] > ends[0][1] + 0.2
