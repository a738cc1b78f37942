"""The assembled model: members depend on seed, member and place alone, and conserve whatever the network says."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
import xarray as xr

from finescale.downscaler import Downscaler
from finescale.errors import InputError
from finescale.model.batch import Inputs, Members
from finescale.operators.coarsen import Coarsen

COARSE = torch.rand(2, 1, 1, 9, 14, generator=torch.Generator().manual_seed(1)) * 4


@pytest.mark.parametrize(
    "latent", ["pixel", {"kind": "wavelet", "levels": 1}, {"kind": "wavelet", "levels": 2, "family": "db2"}]
)
@pytest.mark.parametrize("constraint", ["multiplicative", "additive"])
def test_conservation_at_any_size(built: Callable[..., Downscaler], latent: object, constraint: str) -> None:
    """9 × 14 coarse cells are no multiple of any stride."""
    model = built(latent=latent, constraint=constraint)
    area = torch.rand(36, 56) + 0.5
    x = model.sample(Inputs(COARSE, area=area), Members(range(3))).fields
    assert x.shape == (2, 3, 1, 1, 36, 56) and model.constraint is not None
    for item in range(2):
        wanted = COARSE[item].expand(3, 1, 1, 9, 14)
        violation = model.constraint.violation(x[item], wanted, Coarsen(model.factor, area)) * wanted.max()
        # Float32 keeps seven digits of the larger of the two; an untrained network's field is far larger than c.
        assert violation <= 1e-6 * max(wanted.max(), x[item].abs().max())


def test_same_seed_same_bits_whatever_the_batch_or_the_number_of_members(built: Callable[..., Downscaler]) -> None:
    """The same bits from the same call; from batches of another size, whose sums go in another order, to rounding."""
    model, coarse = built().double(), COARSE.double()
    members = model.sample(Inputs(coarse), Members(range(5), seed=3)).fields
    assert members.dtype == torch.float64 and torch.equal(
        model.sample(Inputs(coarse), Members(range(5), seed=3)).fields, members
    )
    # Some 1e4 roundings one after the other at most, and as much again for what the exponential makes of them.
    close = {"rtol": 0, "atol": 1e5 * torch.finfo(torch.float64).eps * float(members.abs().max())}
    for batch in (1, 3):
        model.batch = batch
        torch.testing.assert_close(model.sample(Inputs(coarse), Members(range(5), seed=3)).fields, members, **close)
    torch.testing.assert_close(
        model.sample(Inputs(coarse[1:]), Members(range(3, 5), seed=3)).fields, members[1:, 3:], **close
    )
    assert not torch.allclose(model.sample(Inputs(coarse), Members(range(5), seed=4)).fields, members, atol=0.01)


@pytest.mark.parametrize("native", [False, True], ids=["float32", "bfloat16"], indirect=True)
def test_same_seed_same_members_in_the_number_type_of_the_processor(
    built: Callable[..., Downscaler], native: bool
) -> None:
    """Batches of another size differ by rounding alone, against the differences between seeds.

    Root mean squares: of some 100 layers and steps, each off by a unit in the last place ε, 10 ε. In float32 ten times
    that, for the exponential at the end.
    """
    model = built(precision="auto")
    assert torch.is_autocast_enabled("cpu") is False and model.autocast(COARSE.device).__class__ is (
        torch.autocast if native else contextlib.nullcontext
    )
    members = model.sample(Inputs(COARSE), Members(range(5), seed=3)).fields
    assert torch.equal(model.sample(Inputs(COARSE), Members(range(5), seed=3)).fields, members)
    other = (model.sample(Inputs(COARSE), Members(range(5), seed=4)).fields - members).square().mean().sqrt()
    bound = 10 * torch.finfo(torch.bfloat16).eps if native else 100 * torch.finfo(torch.float32).eps
    for batch in (1, 3):
        model.batch = batch
        assert (
            model.sample(Inputs(COARSE), Members(range(5), seed=3)).fields - members
        ).square().mean().sqrt() < bound * other
    later = model.sample(Inputs(COARSE[1:]), Members(range(3, 5), seed=3)).fields
    assert (later - members[1:, 3:]).square().mean().sqrt() < bound * other


def test_members_do_not_depend_on_windows_when_the_halo_covers_the_reach(built: Callable[..., Downscaler]) -> None:
    """Tiles of the canvas, evaluated at every step with a halo of the network's reach, equal the whole canvas."""
    model = built()
    coarse = torch.rand(1, 1, 1, 40, 52, generator=torch.Generator().manual_seed(2)) * 4
    whole = model.sample(Inputs(coarse), Members(range(2))).fields
    model.tile, model.tile_halo = 32, model.denoiser.backbone.reach  # type: ignore[union-attr]
    torch.testing.assert_close(model.sample(Inputs(coarse), Members(range(2))).fields, whole, rtol=1e-3, atol=1e-4)


def test_a_window_elsewhere_gets_the_noise_of_its_place(built: Callable[..., Downscaler]) -> None:
    """Independent windows: far from its border a window has the values of the whole domain."""
    model = built(process={"schedule": {"kind": "edm", "sigma_max": 10}, "sampler": "euler", "steps": 1})
    coarse = torch.rand(1, 1, 1, 64, 64, generator=torch.Generator().manual_seed(2)) * 4
    whole = model.sample(Inputs(coarse), Members()).fields
    part = model.sample(Inputs(coarse[..., 16:, 24:], origin=(0, 16, 24)), Members()).fields
    inner = 2 * model.denoiser.backbone.reach + 16  # type: ignore[union-attr]
    torch.testing.assert_close(part[..., inner:, inner:], whole[..., 64 + inner :, 96 + inner :], rtol=1e-3, atol=1e-4)
    with pytest.raises(InputError, match="multiples"):
        built(latent={"kind": "wavelet", "levels": 2}).sample(Inputs(coarse, origin=(0, 1, 0)), Members())


def test_dry_items_of_a_batch_need_no_network(
    built: Callable[..., Downscaler], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are as they are alone, each with its own place and areas."""
    model = built().double()
    coarse = torch.cat([COARSE[:1], torch.zeros(1, 1, 1, 9, 14), COARSE[1:]]).double()
    area, origin = torch.rand(3, 36, 56, dtype=torch.float64) + 0.5, [(0, 0, 0), (1, 0, 0), (2, 0, 0)]
    seen: list[int] = []
    finish = model.finish
    monkeypatch.setattr(model, "finish", lambda y, given: (seen.append(len(y)), finish(y, given))[1])
    x = model.sample(Inputs(coarse, area=area, origin=origin), Members(range(2))).fields
    assert seen == [2] and not x[1].any()
    for item in (0, 2):
        alone = model.sample(
            Inputs(coarse[item : item + 1], area=area[item], origin=origin[item]), Members(range(2))
        ).fields
        # Another batch: some 1e5 roundings at most.
        close = 1e5 * torch.finfo(torch.float64).eps * float(x.abs().max())
        torch.testing.assert_close(x[item], alone[0], rtol=0, atol=close)


def test_dry_and_unknown_cells(built: Callable[..., Downscaler]) -> None:
    model = built()
    assert (model.sample(Inputs(torch.zeros(1, 1, 1, 4, 4)), Members(range(2))).fields == 0).all()
    coarse = COARSE.clone()
    coarse[0, 0, 0, 2, 3] = torch.nan
    x = model.sample(Inputs(coarse), Members(range(2))).fields
    lost = x.isnan()
    assert lost[0, :, 0, 0, 8:12, 12:16].all() and lost.sum() == 2 * 16


def test_deterministic_model_without_denoiser(built: Callable[..., Downscaler]) -> None:
    model = built(denoiser="none")
    x = model.sample(Inputs(COARSE), Members(range(3))).fields
    assert x.shape[1] == 3 and torch.equal(x[:, 0], x[:, 2])


def test_dataset_in_dataset_out(built: Callable[..., Downscaler]) -> None:
    """Descending latitude, attributes, coordinates and bounds; the block means of every member are the input."""
    lat = np.arange(60.0, 57.0, -0.5)
    values = np.random.default_rng(0).gamma(0.5, 2.0, (2, 6, 8)).astype(np.float32)
    ds = xr.Dataset(
        {"rain": (("time", "lat", "lon"), values, {"units": "mm h-1", "long_name": "rain"})},
        coords={
            "time": np.datetime64("2020-01-01") + np.arange(2) * np.timedelta64(1, "h"),
            "lat": ("lat", lat, {"units": "degrees_north"}),
            "lon": ("lon", np.arange(8) * 0.5, {"units": "degrees_east"}),
        },
        attrs={"title": "test"},
    )
    out = built().downscale(ds, members=2, seed=1)
    assert out["rain"].dims == ("realization", "time", "lat", "lon") and out["rain"].shape == (2, 2, 24, 32)
    assert (
        out["rain"].attrs["units"] == "mm h-1"
        and out.attrs["input_title"] == "test"
        and out["lat"].values[0] > out["lat"].values[-1]
    )
    weight = np.cos(np.deg2rad(out["lat"].values))[:, None] * np.ones(32)
    fine = out["rain"].values.astype(np.float64).reshape(2, 2, 6, 4, 8, 4)
    blocks = weight.reshape(6, 4, 8, 4)
    means = (fine * blocks).sum((3, 5)) / blocks.sum((1, 3))
    np.testing.assert_allclose(means, np.broadcast_to(values, means.shape), rtol=1e-4, atol=1e-6)


def test_the_constraint_at_every_step(built: Callable[..., Downscaler]) -> None:
    """Every clean estimate that the sampler sees has the wanted block means, and so has the result."""
    model = built(transform=["standardize"], constraint="additive", precision="float32")
    coarse = torch.rand(2, 1, 1, 4, 6)
    at_end = model.draw(Inputs(coarse), Members(range(2)))
    model.process = dataclasses.replace(model.process, constrain="steps")
    drawn = model.draw(Inputs(coarse), Members(range(2)))
    t, height, width = (n * f for n, f in zip(coarse.shape[-3:], model.factor, strict=True))
    fields = model.physical(drawn)[..., :t, :height, :width]
    means = Coarsen(model.factor)(fields)
    torch.testing.assert_close(means, coarse[:, None].expand_as(means), atol=1e-4, rtol=0)
    gap = Coarsen(model.factor)(model.physical(at_end)[..., :t, :height, :width]) - coarse[:, None]
    assert gap.abs().max() > 1e-2
    assert model.finish(at_end, Inputs(coarse)).gap == pytest.approx((float(gap.abs().max()),))


def test_compiled_networks_give_the_same_members(built: Callable[..., Downscaler]) -> None:
    """Whole graphs, without a break; what the compiler makes of them is its own affair."""
    model = built(precision="float32")
    members, names = model.sample(Inputs(COARSE), Members(range(2), seed=3)).fields, list(model.state_dict())
    assert model.compile_networks(backend="aot_eager", fullgraph=True) is model
    torch.testing.assert_close(
        model.sample(Inputs(COARSE), Members(range(2), seed=3)).fields, members, rtol=1e-4, atol=1e-5
    )
    assert list(model.state_dict()) == names
    torch.compiler.reset()
