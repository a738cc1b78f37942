"""Prediction in independent windows leaves no seams, and the whole model keeps a distribution that is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn

from finescale.data.synthetic import gaussian_field
from finescale.downscaler import Downscaler
from finescale.inference import cutting
from finescale.latents import LinearLatentSpace
from finescale.model import sampling
from finescale.model.batch import Inputs, Members
from finescale.verbs import downscale

FACTOR, WINDOW = 4, 8
"""Fine cells a coarse cell, and coarse cells a window."""


@pytest.fixture(scope="module")
def coarse() -> xr.DataArray:
    values = np.exp(gaussian_field((1, 48, 64), seed=1, outer_km=10.0))
    coords = {"time": [np.datetime64("2020-06-01", "ns")], "y": np.arange(48) * 4e3, "x": np.arange(64) * 4e3}
    return xr.DataArray(values, dims=("time", "y", "x"), coords=coords, name="rain", attrs={"units": "mm h-1"})


def members(model: Downscaler, coarse: xr.DataArray, window: int, **settings: object) -> NDArray[np.float32]:
    """(M, H, W), with the logarithm that makes light and heavy rain count alike."""
    rain = downscale(model, coarse, members=4, window=(1, window, window), **settings)["rain"]
    return np.log1p(rain.values[:, 0] / 0.1)


def steps_at_borders(x: NDArray[np.float32], axis: int) -> float:
    """Mean |x[i+1] − x[i]| across windows' borders over that across the other borders of coarse cells."""
    steps = np.abs(np.diff(np.moveaxis(x, axis, 0), axis=0)).reshape(x.shape[axis] - 1, -1).mean(1)
    place = np.arange(1, x.shape[axis])
    across = place % (FACTOR * WINDOW) == 0
    return float(steps[across].mean() / steps[(place % FACTOR == 0) & ~across].mean())


@pytest.mark.parametrize(
    ("latent", "edge"),
    # A long filter wraps around the canvas, so the outermost cells of the domain see what lies at a window's far end.
    [("pixel", 0), ({"kind": "wavelet", "levels": 2}, 0), ({"kind": "wavelet", "levels": 2, "family": "db2"}, 16)],
    ids=["pixel", "haar", "db2"],
)
@pytest.mark.parametrize("constraint", ["multiplicative", "none"])
def test_windows_leave_no_seams(
    built: Callable[..., Downscaler], coarse: xr.DataArray, latent: object, edge: int, constraint: str
) -> None:
    """Noise belongs to places and networks are local, so that the model's own halo is enough."""
    model = built(latent=latent, constraint=constraint)
    inner = np.s_[:, edge : 192 - edge, edge : 256 - edge]
    whole, windows = (members(model, coarse, size)[inner] for size in (64, WINDOW))
    spread = whole.std(0).mean()
    assert np.sqrt(np.square(windows - whole).mean()) < 0.02 * spread
    for axis in (-2, -1):
        if edge == 0:
            assert steps_at_borders(windows, axis) == pytest.approx(1, abs=0.1)
    # Without a halo the same measure sees the difference.
    bare = members(model, coarse, WINDOW, halo=(0, 0, 0))[inner]
    assert np.sqrt(np.square(bare - whole).mean()) > 0.05 * spread


def test_spread_does_not_depend_on_the_distance_to_a_border(
    built: Callable[..., Downscaler], coarse: xr.DataArray
) -> None:
    """Finished windows that are averaged would lose variance where they overlap."""
    model = built(latent={"kind": "wavelet", "levels": 1})
    spread = members(model, coarse, WINDOW).std(0)
    place = [np.arange(n) % (FACTOR * WINDOW) for n in spread.shape]
    near = [(p < FACTOR) | (p >= FACTOR * (WINDOW - 1)) for p in place]
    border = near[0][:, None] | near[1]
    assert spread[border].mean() == pytest.approx(spread[~border].mean(), rel=0.1)


class Gaussian(nn.Module):
    """The exact denoiser of independent latents N(mean, variance), one of each a channel."""

    def __init__(self, mean: Tensor, variance: Tensor) -> None:
        super().__init__()
        self.backbone = nn.Identity()
        self.mean, self.variance = mean[:, None, None, None], variance[:, None, None, None]

    def forward(self, z: Tensor, sigma: Tensor, cond: Tensor, scalars: Tensor | None = None) -> Tensor:
        noise = sigma.reshape(-1, 1, 1, 1, 1).square()
        return self.mean + self.variance / (self.variance + noise) * (z - self.mean)


@pytest.mark.parametrize("sampler", ["heun", "dpm"])
@pytest.mark.parametrize("latent", ["pixel", {"kind": "wavelet", "levels": 1, "family": "db2"}], ids=["pixel", "db2"])
def test_a_gaussian_model_keeps_mean_and_variance(
    built: Callable[..., Downscaler], latent: object, sampler: str
) -> None:
    """x = std (mu + decode(z)) + mean is affine in z, so both are known in every cell of the field."""
    process = {"schedule": {"kind": "edm", "sigma_max": 80}, "sampler": sampler, "steps": 100}
    model = built(transform=["standardize"], mean="interpolation", latent=latent, constraint="none", process=process)
    standardize, space = model.transform.parts[0], model.latent  # type: ignore[union-attr,index]
    assert isinstance(space, LinearLatentSpace)
    standardize.mean.fill_(280.0), standardize.std.fill_(5.0)  # type: ignore[union-attr,operator]
    k = space.channels
    space.shift.copy_(torch.linspace(-0.2, 0.3, k)[:, None, None, None])
    space.scale.copy_(torch.linspace(0.5, 1.5, k)[:, None, None, None])
    mean, variance = torch.linspace(-1, 1, k), torch.linspace(0.3, 2, k)
    model.denoiser, model.batch = Gaussian(mean, variance), 250  # type: ignore[assignment]

    coarse = torch.rand(1, 1, 1, 4, 6, generator=torch.Generator().manual_seed(1)) * 20 + 270
    x = model.sample(Inputs(coarse), Members(range(1000))).fields[0, :, 0, 0].double()
    shape = (1, k, 1, 16 // space.stride[1], 24 // space.stride[2])
    latents = [value[None, :, None, None, None].expand(shape) for value in (mean, variance)]
    center = standardize.inverse(
        model.conditions(model.transform(coarse), model.factor)[:, :1] + space.decode(latents[0])
    )[0, 0, 0]  # type: ignore[union-attr,operator]
    expected = 25 * space.decode_variance(latents[1])[0, 0, 0]
    standard_error = (expected / 1000).sqrt()
    assert ((x.mean(0) - center) / standard_error).abs().max() < 5
    assert ((x.var(0) / expected) - 1).abs().max() < 5 * (2 / 1000) ** 0.5
    # Over all cells chance averages out and the error of the sampler is left: 0.3 % at these steps.
    assert float((x.var(0) / expected).mean()) == pytest.approx(1, abs=0.01)


@pytest.fixture
def refining(generator: Callable[..., Any]) -> Any:
    """A generator of single coarse frames that refines time, whose constraint looks at the frames about each."""
    torch.manual_seed(0)
    return generator(factor="3x4", **{"data.neighbours": 1, "data.frames": 1})


def sequence(frames: int) -> xr.DataArray:
    """Coarse rain every 15 minutes, wet everywhere: of another amount at each time."""
    values = np.random.default_rng(1).gamma(2.0, 1.0, (frames, 8, 10)).astype(np.float32)
    time = np.datetime64("2024-06-01", "ns") + np.arange(frames) * np.timedelta64(15, "m")
    coords = {"time": time, "y": np.arange(8) * 4e3, "x": np.arange(10) * 4e3}
    attrs = {"units": "mm h-1", "standard_name": "rainfall_rate"}
    found = xr.DataArray(values, dims=("time", "y", "x"), coords=coords, attrs=attrs, name="rain")
    for axis in "yx":
        found[axis].attrs = {"units": "m", "standard_name": f"projection_{axis}_coordinate"}
    return found


def test_a_smooth_constraint_looks_across_coarse_frames(refining: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where time is refined windows are as many frames as fit; then those that fit with frames about them; then one."""
    coarse = sequence(9)

    def made(**settings: Any) -> np.ndarray:
        return np.asarray(refining.downscale(coarse, members=2, **settings)["rain"].values)

    whole = made(window=(9, 8, 10))
    np.testing.assert_array_equal(made(), whole)
    np.testing.assert_allclose(made().reshape(2, 9, 3, 8, 4, 10, 4).mean((2, 4, 6)), [coarse.values] * 2, rtol=1e-4)
    frame, scale = 3 * 32 * 40, whole.std()
    monkeypatch.setattr(cutting, "AT_ONCE", 8 * frame)  # eight coarse frames, two at each end about others
    parts = made()
    assert np.abs(parts - whole).max() > 0 and np.sqrt(np.mean((parts - whole) ** 2)) < 2e-3 * scale
    monkeypatch.setattr(cutting, "AT_ONCE", 7 * frame)
    alone = made()
    np.testing.assert_array_equal(alone, made(window=(1, 8, 10)))
    assert np.sqrt(np.mean((alone - whole) ** 2)) > 0.02 * scale


def test_one_coarse_frame_alone_where_time_is_not_refined(generator: Callable[..., Any]) -> None:
    model = generator(factor="1x4")
    assert model.across == 0
    assert generator(factor="3x4", constraint="multiplicative", **{"data.frames": 1}).across == 0


def test_large_windows_are_made_member_by_member(refining: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    coarse = sequence(3)
    wanted = refining.downscale(coarse, members=3)
    assert [refining.at_once(cells) for cells in (2**12, 2**20, 2**24)] == [64, 8, 4]
    monkeypatch.setattr(sampling, "AT_ONCE", 1)
    found = refining.downscale(coarse, members=3)
    np.testing.assert_allclose(found["rain"].values, wanted["rain"].values, rtol=1e-4, atol=1e-5)
    assert found["rain"].attrs.keys() == wanted["rain"].attrs.keys()
