"""Training crops: which ones are drawn, what is done to them, and that coarse and fine belong together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import xarray as xr

from finescale.errors import InputError
from finescale.grids.factor import Factor
from finescale.training.crops import Crops
from finescale.training.cutting import Augmentation
from finescale.training.survey import Criteria

STILL = Augmentation(turn=False)
FACTOR = Factor(1, 4)
Field = Callable[..., xr.DataArray]


@pytest.fixture
def wet_east(field: Field) -> xr.DataArray:
    """Dry west of column 28, wet east of it; the northern 8 rows of the first hour are unknown."""
    da = field()
    values = np.where(np.arange(56) >= 28, 1.0, 0.0) * np.ones((3, 40, 1), dtype=np.float32)
    values[0, -8:] = np.nan
    return da.copy(data=values.astype(np.float32))


def place(crop: torch.Tensor, da: xr.DataArray) -> tuple[int, int, int]:
    """(t, y, x) of a crop of `field`, from its first value."""
    t, y, x = np.unravel_index(int(crop.flatten()[0]), da.shape)
    return int(t), int(y), int(x)


def test_crops_are_cut_whole_from_the_field(field: Field) -> None:
    da = field()
    batch = Crops([[da]], FACTOR, (2, 16, 24), augmentation=STILL).draw(20, 1)
    fine, coarse, area = batch.fine, batch.coarse, batch.area
    assert fine.shape == (20, 1, 2, 16, 24) and coarse.shape == (20, 1, 2, 4, 6) and area.shape == (20, 16, 24)
    places = [place(crop, da) for crop in fine]
    for crop, (t, y, x) in zip(fine, places, strict=True):
        np.testing.assert_array_equal(crop[0], da.values[t : t + 2, y : y + 16, x : x + 24])
    assert len(set(places)) > 10
    assert any(y % 4 for _, y, _ in places), "crops are not confined to the candidates' grid"


def test_crops_of_several_fields_are_drawn_from_all(field: Field) -> None:
    far = field() + 1e6
    fine = Crops([[field()], [far]], FACTOR, (1, 16, 16)).draw(40, 0).fine
    from_far = (fine > 5e5).flatten(1).all(1).sum()
    assert 5 < from_far < 35


def test_every_crop_fulfils_the_criteria(wet_east: xr.DataArray) -> None:
    criteria = Criteria(min_valid=0.9, min_wet=0.5, wet=0.1)
    patches = Crops([[wet_east]], FACTOR, (1, 16, 16), criteria)
    fine = patches.draw(100, 3).fine
    known, wet = (~fine.isnan()).float().flatten(1).mean(1), (fine > 0.1).float().flatten(1).mean(1)
    assert (known >= 0.9).all() and (wet >= 0.5).all()
    assert len(patches) < len(Crops([[wet_east]], FACTOR, (1, 16, 16), Criteria(0.0)))


def test_a_batch_depends_on_its_key_alone(field: Field, wet_east: xr.DataArray) -> None:
    patches = Crops([[wet_east]], FACTOR, (1, 16, 16), augmentation=Augmentation(favour=1.0, rescale=0.3))
    first = patches.draw(6, 1, 0, 7)
    patches.draw(6, 1, 0, 8)
    again = Crops([[wet_east]], FACTOR, (1, 16, 16), augmentation=Augmentation(favour=1.0, rescale=0.3)).draw(
        6, 1, 0, 7
    )
    for name in ("fine", "coarse", "area"):
        assert torch.equal(getattr(first, name).nan_to_num(-1), getattr(again, name).nan_to_num(-1))
    whole = Crops([[field()]], FACTOR, (1, 16, 16))
    draws = [whole.draw(6, *key).fine for key in ((1, 0, 7), (1, 0, 8), (1, 1, 7), (2, 0, 7))]
    assert all(not torch.equal(draws[0], other) for other in draws[1:])


def test_crops_apart_are_the_same_crops_that_do_not_overlap(field: Field) -> None:
    da = field(times=4)
    patches = Crops([[da]], FACTOR, (2, 16, 16), augmentation=Augmentation(rescale=1.0))
    fine = patches.apart(50, 0).fine
    assert torch.equal(fine, patches.apart(50, 0).fine)
    assert 4 <= len(fine) < 50
    values = fine.flatten()
    assert values.unique().numel() == values.numel()
    for crop in fine:  # as they are: neither turned nor rescaled
        t, y, x = place(crop, da)
        np.testing.assert_array_equal(crop[0], da.values[t : t + 2, y : y + 16, x : x + 16])
    assert len(patches.apart(3, 0).fine) == 3


def test_coarse_is_the_area_weighted_mean_of_what_is_known(field: Field) -> None:
    da = field(lat=60.0) / 100
    values = da.values.copy()
    values[np.random.default_rng(0).random(values.shape) < 0.2] = np.nan
    values[:, 4:8, 4:8] = np.nan
    factor = Factor(2, y=4, x=8)
    patches = Crops([[da.copy(data=values)]], factor, (2, 40, 56), Criteria(0.0), augmentation=STILL)
    batch = patches.draw(1, 0)
    fine, coarse, area = batch.fine, batch.coarse, batch.area
    assert area[0, 0, 0] > 1.3 * area[0, -1, 0], "cells shrink towards the pole"
    lat = np.deg2rad(da["lat"].values)
    weight = np.cos(lat)[:, None] * np.ones(56) * np.isfinite(fine[0, 0].numpy())
    x = np.nan_to_num(fine[0, 0].numpy().astype(np.float64))
    blocks = [a.reshape(1, 2, 10, 4, 7, 8).sum((1, 3, 5)) for a in (weight * x, weight)]
    with np.errstate(invalid="ignore"):
        expected = blocks[0] / blocks[1]
    np.testing.assert_allclose(coarse[0, 0], expected, rtol=1e-4)
    lost = Crops([[da.copy(data=values)]], FACTOR, (1, 40, 56), Criteria(0.0), augmentation=STILL).draw(1, 0).coarse
    assert lost[0, 0, 0, 1, 1].isnan() and lost.isnan().sum() == 1


def test_turns_are_flips_and_transpositions_of_field_and_areas_together(field: Field) -> None:
    da = field(times=1, height=16, width=16, lat=60.0)
    patches = Crops([[da]], FACTOR, (1, 16, 16))
    batch = patches.draw(60, 0)
    values, cells = da.values[0], patches.fields[0].area
    ways = {}
    for transposed in (False, True):
        for flips in ((), (0,), (1,), (0, 1)):
            turned = [np.flip(a, flips).T if transposed else np.flip(a, flips) for a in (values, cells)]
            ways[transposed, flips] = turned
    seen = set()
    for crop, areas in zip(batch.fine, batch.area, strict=True):
        way = next(way for way, (turned, _) in ways.items() if np.array_equal(crop[0, 0], turned))
        np.testing.assert_array_equal(areas, ways[way][1])
        seen.add(way)
    assert len(seen) == 8


@pytest.mark.parametrize(("factor", "crop"), [(Factor(1, y=4, x=8), (1, 16, 16)), (FACTOR, (1, 16, 24))])
def test_nothing_is_transposed_unless_crop_and_factor_are_square(
    factor: Factor, crop: tuple[int, int, int], field: Field
) -> None:
    fine = Crops([[field()]], factor, crop).draw(30, 0).fine
    steps = (fine[..., 0, 1] - fine[..., 0, 0]).abs()
    assert (steps == 1).all(), "values grow by 1 along x"


def test_favour_chooses_wetter_crops_more_often(wet_east: xr.DataArray) -> None:
    def wet(favour: float) -> float:
        return float(
            Crops([[wet_east]], FACTOR, (1, 16, 16), augmentation=Augmentation(favour=favour))
            .draw(300, 0)
            .fine.nanmean()
        )

    assert wet(2.0) > wet(0.5) > wet(0.0) + 0.05


@pytest.mark.parametrize(("balance", "wanted"), [(0.0, 1 / 9), (0.5, 1 / 4), (1.0, 1 / 2)])
def test_balance_lets_a_small_field_count_as_much_as_a_large_one(field: Field, balance: float, wanted: float) -> None:
    small, large = field(1, 48, 48) * 0 + 1, field(8, 48, 48) * 0 + 100
    crops = Crops([[small], [large]], FACTOR, (1, 16, 16), augmentation=Augmentation(balance=balance))
    share = np.mean([float((crops.draw(64, n).fine.amax((1, 2, 3, 4)) < 50).float().mean()) for n in range(30)])
    assert share == pytest.approx(wanted, abs=0.04)  # 1920 drawn: a standard deviation of .011
    likely = crops.likely(72)
    assert np.mean(likely[:, 0] == 0) == pytest.approx(wanted, abs=0.03)


def test_rescale_multiplies_whole_crops(field: Field) -> None:
    da = field() + 1
    plain = Crops([[da]], FACTOR, (1, 16, 16), augmentation=STILL)
    scaled = Crops([[da]], FACTOR, (1, 16, 16), augmentation=Augmentation(turn=False, rescale=0.5))
    # The first crop's place comes from the same random numbers in both.
    ratios = torch.stack([scaled.draw(1, k).fine / plain.draw(1, k).fine for k in range(200)]).flatten(1)
    torch.testing.assert_close(ratios, ratios[:, :1].expand_as(ratios), rtol=1e-5, atol=0)
    logs = ratios[:, 0].log()
    assert abs(float(logs.mean())) < 0.1 and abs(float(logs.std()) - 0.5) < 0.08
    batch = scaled.draw(1, 0)
    fine, coarse, area = batch.fine, batch.coarse, batch.area
    means = (fine[0, 0, 0] * area[0]).reshape(4, 4, 4, 4).sum((1, 3)) / area[0].reshape(4, 4, 4, 4).sum((1, 3))
    torch.testing.assert_close(coarse[0, 0, 0], means, rtol=1e-5, atol=0)


def test_what_cannot_be_cropped_is_told(field: Field, wet_east: xr.DataArray) -> None:
    with pytest.raises(InputError, match=r"not divisible by the factor 1x4"):
        Crops([[field()]], FACTOR, (1, 18, 16))
    with pytest.raises(InputError, match=r"\(3, 40, 56\) cells .* smaller than the training crop \(1, 64, 64\)"):
        Crops([[field()]], FACTOR, (1, 64, 64))
    with pytest.raises(InputError, match=r"smaller than the training crop"):
        Crops([[field()]], FACTOR, (4, 16, 16))
    with pytest.raises(
        InputError, match=r"more than 5 in 0\.1 of its cells, but in 0 at most: lower data\.min_wet or data\.wet"
    ):
        Crops([[wet_east]], FACTOR, (1, 16, 16), Criteria(min_wet=0.1, wet=5))


def test_the_criterion_that_no_crop_fulfils_is_named(wet_east: xr.DataArray) -> None:
    """Not min_wet, where too few cells are known."""
    gaps = wet_east
    gaps[..., ::2] = np.nan
    with pytest.raises(InputError, match=r"known in 0\.95 of its cells, but in 0\.5 at most: lower data\.min_valid"):
        Crops([[gaps]], FACTOR, (1, 16, 16), Criteria(min_wet=0.1, wet=0.1))
