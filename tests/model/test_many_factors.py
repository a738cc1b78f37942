"""Every factor in time and space, sequences of any length, and one model for many factors."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.ndimage import gaussian_filter

from finescale.config.build import build_model
from finescale.downscaler import Downscaler
from finescale.errors import InputError, Notice
from finescale.grids.factor import Factor, Factors
from finescale.model import losses, sampling
from finescale.model.batch import Inputs, Members
from finescale.model.sizes import coarse_frames
from finescale.operators.coarsen import Coarsen
from finescale.training.crops import Crops
from finescale.training.statistics import whiten
from finescale.training.survey import Criteria

PAIRS = [Factor(t, s) for t, s in product(range(1, 7), range(1, 26))]
SMALL = {"kind": "unet", "width": 8, "multipliers": [1, 1], "heads": 1}


def small(factor, seed: int = 0, **changes) -> Downscaler:
    """An untrained model whose networks are not zero."""
    torch.manual_seed(seed)
    config = {
        "factor": factor,
        "data": {"horizon": 6},
        "transform": [{"kind": "log1p", "scale": 0.1}, "standardize"],
        "mean": {"kind": "network", "fold": 2, "backbone": SMALL},
        "latent": {"kind": "wavelet", "levels": 1},
        "denoiser": {"backbone": SMALL},
        "process": {"steps": 2},
        "constraint": "multiplicative",
        "precision": "float32",
    }
    model = build_model(config | changes).eval()
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.fixture(scope="module")
def many() -> Downscaler:
    return small({"time": [1, 6], "space": [1, 25]})


@pytest.mark.parametrize("factor", PAIRS, ids=str)
def test_every_pair_conserves(many: Downscaler, factor: Factor) -> None:
    rng = np.random.default_rng(factor.cells)
    coarse = torch.from_numpy(rng.gamma(0.5, 2, (1, 1, 2, 2, 3))).float() * (torch.rand(1, 1, 2, 2, 3) > 0.3)
    fine = many.at(factor).sample(Inputs(coarse), Members()).fields
    assert fine.shape == (1, 1, 1, 2 * factor.time, 2 * factor.y, 3 * factor.x)
    assert fine.isfinite().all() and (fine >= 0).all()
    torch.testing.assert_close(Coarsen(factor)(fine.double())[:, 0], coarse.double(), rtol=1e-5, atol=1e-6)
    if factor.cells == 1:
        assert torch.equal(fine[:, 0], coarse)
    elif float(coarse.max()) > 0:
        assert not torch.allclose(fine, Coarsen(factor).replicate(coarse)[:, None])


def test_the_factor_reaches_the_networks(many: Downscaler) -> None:
    scalars = many.scalars(Factor(3, 10), 2)
    assert scalars is not None and scalars.shape == (2, 24)
    u = np.log([3, 10, 10]) / np.log(25)
    wanted = np.cos(np.pi * u[:, None] * [0.5, 1, 2, 4]).ravel()
    np.testing.assert_allclose(scalars[0, :12], wanted, rtol=1e-5)
    z, cond = torch.randn(1, 4, 2, 8, 8), torch.randn(1, 16, 2, 8, 8)
    assert many.denoiser is not None
    first, second = (many.denoiser(z, torch.ones(1), cond, many.scalars(f, 1)) for f in (Factor(3, 10), Factor(1, 2)))
    assert not torch.allclose(first, second)


def test_the_gain_follows_the_factor(many: Downscaler) -> None:
    assert many.gain is not None
    factors = [f for f in PAIRS if f.cells > 1][::3]
    stds = torch.tensor([[0.01 * f.time * f.y**0.5, 0.3 / f.y] for f in factors], dtype=torch.float64)
    gain = type(many.gain)(2)
    gain.fit(factors, stds)
    for factor in (Factor(3, 10), Factor(6, 25), Factor(1, 4)):
        wanted = torch.tensor([0.01 * factor.time * factor.y**0.5, 0.3 / factor.y])
        torch.testing.assert_close(gain(factor).flatten(), wanted, rtol=0.05, atol=0)


def test_what_the_latent_leaves_out_follows_the_factor() -> None:
    """…in members and in closed form: few modes leave out much more at a large factor than at a small one."""
    latent = {"kind": "patch_pod", "patch": 4, "modes": 2, "remainder": True}
    settings = {"latent": latent, "transform": ["standardize"], "mean": "interpolation", "constraint": "none"}
    model = small({"time": [1, 1], "space": [2, 8]}, data={"crop": 32}, **settings)
    rng = np.random.default_rng(0)
    # Smooth on the scale of some cells: the coarse field leaves the more open, the coarser it is.
    smooth = gaussian_filter(rng.normal(size=(40, 64, 64)), (0, 2, 2))
    coords = {"time": np.arange(40), "y": np.arange(64.0), "x": np.arange(64.0)}
    field = xr.DataArray(smooth, dims=("time", "y", "x"), coords=coords, name="smooth")
    patches = Crops([[field]], model.factors, (1, 32, 32), Criteria(0.0))
    crops = [patches.apart(20, 0, Factor(1, s)) for s in range(2, 9)]
    model.transform.fit([batch.fine for batch in crops])
    whiten(model, crops, None, torch.device("cpu"))
    for space, batch in zip(range(2, 9), crops, strict=True):
        at = model.at(Factor(1, space))
        residual = losses.residual(at, batch)
        latents = at.latent.encode(residual)
        left_out = (residual - at.latent.decode(latents)).square().mean()
        given, sixty = Inputs(batch.coarse[:1]), Members(range(60))
        cond = sampling.conditions(at, given)
        mu = sampling.mean(at, given, cond)
        same = torch.zeros(1, 60, *latents.shape[1:])  # members that have only what is left out
        variance = sampling.fields(at, given, mu, same, sixty).var(1)
        torch.testing.assert_close(variance.mean(), left_out, rtol=0.3, atol=0)
        closed = at.marginals(given, sixty, "members").std.square()
        drawn = at.decode(sampling.latents(at, given, cond, mu, sixty)[0], at.factor).var(0)
        scale = at.transform.parts[0].std.square().squeeze()  # from the transform's space to units
        torch.testing.assert_close(closed.mean() / scale, drawn.mean() + left_out, rtol=0.3, atol=0)


def test_factors_that_a_model_serves(many: Downscaler) -> None:
    with pytest.raises(InputError, match=r"serves factors 1-6 in time x 1-25 in space, .*: give a factor, such as 6x"):
        many.sample(Inputs(torch.ones(1, 1, 1, 2, 2)), Members())
    with pytest.raises(InputError, match=r"trained for factors 1-6 in time x 1-25 in space, not 7x2: .*--force"):
        many.at("7x2")
    assert many.at("7x2", force=True).sample(Inputs(torch.ones(1, 1, 1, 1, 1)), Members()).fields.shape[-3:] == (
        7,
        2,
        2,
    )
    with pytest.raises(InputError, match="trained for factors 2x2, not 1x2"):
        small("2x2").at("1x2", force=True)
    other = many.at("3x10")
    assert other.denoiser is many.denoiser, "weights are shared"
    other.constraint = None
    assert many.constraint is not None and many.chosen is None


def test_drawn_factors_cover_the_range_and_leave_out_what_is_to_be_left_out() -> None:
    factors = Factors.parse({"time": [1, 2], "space": [1, 3], "without": ["2x2"]})
    drawn = {factors.draw(np.random.default_rng(n)) for n in range(300)}
    assert drawn == {Factor(1, 2), Factor(1, 3), Factor(2, 1), Factor(2, 3)}
    assert Factor(2, 2) in factors and Factor(3, 1) not in factors
    for wrong, message in (
        ({"time": [3, 1]}, "must rise"),
        ({"time": [0, 1]}, "0 to 1, but must rise, from 1"),
        ({"space": "all"}, "two whole numbers"),
        ({"tme": [1, 2]}, "did you mean 'time'"),
    ):
        with pytest.raises(InputError, match=message):
            Factors.parse(wrong)


def test_the_context_spans_one_stretch_of_time() -> None:
    assert [coarse_frames(Factor(t), None, 12) for t in range(1, 7)] == [12, 6, 4, 3, 2, 2]
    assert coarse_frames(Factor(3), 5, None) == 5 and coarse_frames(Factor(3), None, None) == 1


def sequence(frames: int, gaps: tuple[int, ...] = (), seed: int = 0) -> xr.DataArray:
    """Hourly coarse rain; a day is missing before each frame of ``gaps``."""
    rng = np.random.default_rng(seed)
    hours = np.arange(frames) + 24 * np.array([sum(g <= n for g in gaps) for n in range(frames)])
    return xr.DataArray(
        rng.gamma(0.5, 2, (frames, 4, 4)).astype(np.float32),
        dims=("time", "y", "x"),
        coords={"time": np.datetime64("2020-01-01T00:30", "ns") + hours * np.timedelta64(1, "h")},
        name="rain",
    )


def test_windows_in_time_do_not_change_a_long_sequence_much_more_than_they_must() -> None:
    """With a halo in time of many contexts the members are those of one piece."""
    model, coarse = small("2x2", latent={"kind": "wavelet", "levels": 1, "frames": 2}), sequence(24)
    assert model.context == 3 and model.multiple == (1, 2, 2)
    whole = model.downscale(coarse, members=1, window=(24, 4, 4), halo=(0, 0, 0))["rain"].values
    parts = model.downscale(coarse, members=1, window=(8, 4, 4), halo=(8, 0, 0))["rain"].values
    near = model.downscale(coarse, members=1, window=(8, 4, 4), halo=(0, 0, 0))["rain"].values
    assert np.abs(near - whole).max() > 1e-3, "without a halo the borders show"
    np.testing.assert_allclose(parts, whole, atol=1e-3 * np.abs(whole).max())


def test_a_sequence_is_split_where_time_has_a_gap() -> None:
    model, coarse = small("2x2"), sequence(7, gaps=(4,))
    both = model.downscale(coarse, members=1)
    first = model.downscale(coarse[:4], members=1)
    np.testing.assert_allclose(both["rain"].values[:, :8], first["rain"].values, rtol=1e-5)
    times = both["time"].values
    half_hour = np.timedelta64(30, "m")
    assert times[0] == np.datetime64("2020-01-01T00:15") and times[8] - times[7] == half_hour + np.timedelta64(24, "h")
    assert set(np.diff(times)) == {half_hour, times[8] - times[7]}
    width = np.diff(both["time_bnds"].values, axis=1)
    assert (width == half_hour).all()


def test_times_that_cannot_be_a_sequence() -> None:
    model, coarse = small("2x2"), sequence(5)
    uneven = coarse.assign_coords(time=coarse.time.values + np.array([0, 0, 15, 0, 0]) * np.timedelta64(1, "m"))
    with pytest.raises(InputError, match=r"uneven times .* between frames 1 and 2"):
        model.downscale(uneven, members=1)
    with pytest.warns(Notice, match="a sequence of 2 coarse frames is shorter than the 3 that the model saw") as said:
        model.downscale(coarse[:2], members=2, batch=1)
    assert len([w for w in said if w.category is Notice and "shorter" in str(w.message)]) == 1
