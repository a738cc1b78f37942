"""Variance without sampling: closed forms against dense matrices, Monte Carlo and other libraries."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scoringrules
import torch
import xarray as xr
from scipy import stats
from tests.config.test_build import TINY
from tests.test_downscaler import built
from tests.training.test_fit import config, data  # noqa: F401  (a fixture)
from torch import Tensor

from finescale.cli.commands import commands, runner
from finescale.config.build import build_model, load
from finescale.config.read import read_config
from finescale.data.files import open_store, write
from finescale.diffusion.tweedie import posterior
from finescale.downscaler import Downscaler
from finescale.errors import InputError
from finescale.grids.factor import Factor
from finescale.latents import LinearLatentSpace, PatchPOD, Pixel, Wavelet
from finescale.model import losses, sampling
from finescale.model.batch import Batch, Inputs, Members
from finescale.model.covariance import Decoder, Moments, diagonal, independent, low_rank
from finescale.model.uncertainty import LEVELS, comment, gaussian, transformed
from finescale.model.variance import LIMIT, VarianceHead, gaussian_crps, gaussian_nll
from finescale.operators.coarsen import Coarsen
from finescale.training.fit import fit
from finescale.training.stages import stages
from finescale.transforms import Chain, Log1p, Standardize

HEAD = {"loss": "nll", "backbone": {"kind": "unet", "width": 8, "multipliers": [1, 1], "blocks": 1}}
LINEAR = {"transform": ["standardize"], "constraint": "additive"}
COARSE = torch.rand(2, 1, 1, 5, 6, generator=torch.Generator().manual_seed(1)) * 4


def pod(**settings: Any) -> PatchPOD:
    """A truncated basis of patches of 4 × 4 cells."""
    latent = PatchPOD(patch=4, modes=5, **settings).double()
    latent.fit([torch.randn(6, 1, 1, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)])
    return latent


# (latent, factor, coarse cells): blocks that are a multiple of the patch, that are not, and overlapping supports.
CASES: list[tuple[LinearLatentSpace, Factor, tuple[int, int, int]]] = [
    (Pixel(), Factor(1, y=2, x=3), (1, 4, 4)),
    (Pixel(), Factor(2, 2), (2, 3, 4)),
    (Wavelet(1), Factor(1, 4), (1, 3, 4)),
    (Wavelet(1), Factor(1, y=3, x=5), (1, 4, 4)),
    (Wavelet(2), Factor(1, 3), (1, 5, 6)),
    (Wavelet(1, "db2"), Factor(1, y=4, x=2), (1, 4, 9)),
    (Wavelet(1, frames=2), Factor(3, 2), (2, 4, 3)),
    (pod(), Factor(1, 8), (1, 2, 3)),
    (pod(overlap=True), Factor(1, y=4, x=3), (1, 5, 6)),
]
IDS = [f"{type(latent).__name__}-{i}-{factor}" for i, (latent, factor, _) in enumerate(CASES)]


def dense(decoder: Decoder, shape: tuple[int, ...], operators: Coarsen | None) -> Tensor:
    """(cells, coefficients): the matrix N L, column by column."""
    columns = decoder(torch.eye(math.prod(shape), dtype=torch.float64).reshape(-1, *shape))
    columns = columns if operators is None else columns - operators.replicate(operators(columns))
    return columns.flatten(1).T


def case(latent: LinearLatentSpace, factor: Factor, cells: tuple[int, int, int]) -> tuple[Decoder, Coarsen, Tensor]:
    """A decoder with uneven scales, operators of uneven areas, and a variance (2, K, T', H', W')."""
    generator = torch.Generator().manual_seed(5)
    latent = latent.double()
    latent.scale.copy_(0.5 + torch.rand(latent.scale.shape, generator=generator))
    t, height, width = (n * f for n, f in zip(cells, factor, strict=True))
    inner = [-(-n // s) for n, s in zip((t, height, width), latent.stride, strict=True)]
    variance = torch.rand(2, latent.channels, *inner, generator=generator, dtype=torch.float64)
    area = 0.5 + torch.rand(2, 1, 1, height, width, generator=generator, dtype=torch.float64)
    return Decoder(latent, (t, height, width)), Coarsen(factor, area), variance


@pytest.mark.parametrize(("latent", "factor", "cells"), CASES, ids=IDS)
def test_diagonal_through_decoder_and_constraint_is_the_dense_matrix(
    latent: LinearLatentSpace, factor: Factor, cells: tuple[int, int, int]
) -> None:
    decoder, operators, variance = case(latent, factor, cells)
    for item in range(2):
        one = Coarsen(factor, operators.area[item])  # type: ignore[index]
        for constraint in (None, one):
            expected = dense(decoder, tuple(variance.shape[1:]), constraint).square() @ variance[item].flatten()
            found = diagonal(decoder, variance[item : item + 1], constraint)
            torch.testing.assert_close(found.flatten(), expected, rtol=1e-9, atol=1e-12)
    both = diagonal(decoder, variance, operators)
    one = Coarsen(factor, operators.area[1])  # type: ignore[index]
    torch.testing.assert_close(both[1:], diagonal(decoder, variance[1:], one), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("latent", "factor", "cells"), CASES[2:6], ids=IDS[2:6])
def test_low_rank_keeps_what_cells_have_in_common(
    latent: LinearLatentSpace, factor: Factor, cells: tuple[int, int, int]
) -> None:
    decoder, operators, variance = case(latent, factor, cells)
    one = Coarsen(factor, operators.area[0])  # type: ignore[index]
    z = torch.randn(7, *variance.shape[1:], generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    moments = Moments.of_members(z[None])
    fields = decoder(z)
    closed = fields - one.replicate(one(fields))
    torch.testing.assert_close(moments.field_variance(decoder, one)[0], closed.var(0), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(moments.field_variance(decoder, None)[0], fields.var(0), rtol=1e-9, atol=1e-12)
    full = (z - z.mean(0)).flatten(1)
    matrix = dense(decoder, tuple(variance.shape[1:]), one)
    expected = torch.einsum("ik,kl,il->i", matrix, full.T @ full / 6, matrix)
    assert moments.factor is not None
    torch.testing.assert_close(low_rank(decoder, moments.factor, one).flatten(), expected, rtol=1e-9, atol=1e-12)


def test_independent_cells_through_the_constraint() -> None:
    decoder, operators, variance = case(Pixel(), Factor(1, y=2, x=3), (1, 4, 4))
    decoder.latent.scale.fill_(1)
    torch.testing.assert_close(independent(variance, operators), diagonal(decoder, variance, operators))


def test_what_a_truncated_latent_leaves_out_is_added() -> None:
    """Of N V Nᵀ with V the diagonal of what the modes do not hold, which counts as independent between cells."""
    decoder, operators, variance = case(pod(), Factor(1, 8), (1, 2, 3))
    one = Coarsen(Factor(1, 8), operators.area[0])  # type: ignore[index]
    left_out = decoder.latent.truncated((1, 16, 24))
    assert float(left_out.min()) > 0.2
    n = torch.eye(16 * 24, dtype=torch.float64).reshape(-1, 1, 1, 16, 24)
    n = (n - one.replicate(one(n))).flatten(1).T
    for constraint, matrix in ((None, torch.eye(16 * 24, dtype=torch.float64)), (one, n)):
        found = Moments(variance=variance[:1]).field_variance(decoder, constraint)
        expected = diagonal(decoder, variance[:1], constraint).flatten() + matrix.square() @ left_out.flatten()
        torch.testing.assert_close(found.flatten(), expected, rtol=1e-9, atol=1e-12)


def test_the_adjoint_is_that_of_the_decoder() -> None:
    decoder, _, variance = case(Wavelet(2, "db2"), Factor(1, 3), (1, 5, 6))
    z, w = torch.randn_like(variance), torch.randn(2, 1, *decoder.size, dtype=torch.float64)
    torch.testing.assert_close((decoder(z) * w).sum(), (z * decoder.adjoint(w, z)).sum())


def test_crps_and_likelihood_are_those_of_other_libraries(rng: np.random.Generator) -> None:
    error, log_variance = rng.normal(size=500) * 2, rng.normal(size=500)
    std = np.exp(log_variance / 2)
    ours = gaussian_crps(torch.from_numpy(error), torch.from_numpy(log_variance))
    np.testing.assert_allclose(ours, scoringrules.crps_normal(error, 0.0, std), rtol=1e-9)
    likelihood = gaussian_nll(torch.from_numpy(error), torch.from_numpy(log_variance)) + 0.5 * math.log(2 * math.pi)
    np.testing.assert_allclose(likelihood, -stats.norm(0, std).logpdf(error), rtol=1e-9)


@pytest.mark.parametrize("loss", ["nll", "crps"])
def test_a_head_learns_a_known_variance(loss: Any) -> None:
    """z = exp(s/2)·noise with s = 10 tanh(2 cond / 10): the least loss is at weight 2 and bias 0, everywhere.

    Instead of random noise the 1024 midpoint quantiles of the normal law, and the loss is minimised to the end: what is
    left is that their variance is 1 − 0.0013 (the mean |x| is even nearer), a log-variance of 0.0013.
    """
    head = VarianceHead(torch.nn.Conv3d(1, 1, 1), loss).double()
    torch.nn.init.zeros_(head.backbone.weight)
    torch.nn.init.zeros_(head.backbone.bias)
    head.backbone.forward, conv = lambda x, _: conv(x), head.backbone.forward
    cond = torch.linspace(-1, 1, 16, dtype=torch.float64).reshape(1, 1, 1, 1, 16).expand(64, 1, 1, 16, 16)
    weight = (cond < 0.8).double()
    assert torch.equal(head(cond), torch.zeros_like(cond))
    noise = torch.from_numpy(stats.norm.ppf((np.arange(1024) + 0.5) / 1024)).reshape(64, 1, 1, 16, 1)
    assert abs(float(noise.square().mean()) - 1) < 0.0015
    wanted = LIMIT * torch.tanh(2 * cond / LIMIT)
    z = torch.where(weight > 0, (0.5 * wanted).exp() * noise, 1e3)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def value() -> Tensor:
        optimizer.zero_grad()
        found = head.loss(z, cond, weight)
        found.backward()
        return found

    optimizer.step(value)
    torch.testing.assert_close(head(cond).double(), wanted, atol=2e-3, rtol=0)


def test_tweedie_on_gaussian_data_is_the_posterior() -> None:
    """D(z) = S(S + sigma²)⁻¹ z: the covariance of x given z is S sigma²/(S + sigma²), here diagonal."""
    s = torch.rand(1, 3, 1, 4, 4, dtype=torch.float64) * 2
    sigma = torch.tensor(1.7, dtype=torch.float64)
    z, signs = torch.randn(5, 3, 1, 4, 4, dtype=torch.float64), torch.randn(5, 3, 1, 4, 4, dtype=torch.float64).sign()
    clean, variance = posterior(lambda z, sigma: s / (s + sigma**2) * z, z, sigma, signs)
    torch.testing.assert_close(clean, s / (s + sigma**2) * z)
    torch.testing.assert_close(variance, (s * sigma**2 / (s + sigma**2)).expand(5, -1, -1, -1, -1))
    # Coupled coefficients: right on average over signs, here over all 2³ of them.
    root = torch.randn(3, 3, dtype=torch.float64)
    covariance = root @ root.T
    gain = covariance @ torch.linalg.inv(covariance + sigma**2 * torch.eye(3))
    every = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 3).reshape(8, 3, 1, 1, 1)
    _, found = posterior(lambda z, _: torch.einsum("kl,bl...->bk...", gain, z), torch.zeros_like(every), sigma, every)
    torch.testing.assert_close(found.mean(0).flatten(), (sigma**2 * gain).diagonal())


def test_quantiles_mean_and_std_of_a_log_normal() -> None:
    transform = Chain(Log1p(scale=0.5))
    mean, std = torch.tensor([0.7, 2.0]).reshape(2, 1, 1, 1, 1), torch.tensor([0.4, 1.1]).reshape(2, 1, 1, 1, 1)
    found = transformed(mean.double(), std.double(), transform.inverse, "head")
    for item in range(2):
        law = stats.lognorm(s=float(std[item]), scale=math.exp(float(mean[item])))
        expected = 0.5 * (law.ppf(LEVELS) - 1)
        np.testing.assert_allclose(found.quantiles[item].flatten(), np.clip(expected, 0, None), rtol=1e-6)
    sure = transformed(mean.double() + 5, std.double(), transform.inverse, "head")
    for item in range(2):
        law = stats.lognorm(s=float(std[item]), scale=math.exp(float(mean[item]) + 5))
        np.testing.assert_allclose(float(sure.mean[item]), 0.5 * (law.mean() - 1), rtol=1e-4)
        np.testing.assert_allclose(float(sure.std[item]), 0.5 * law.std(), rtol=1e-3)


def test_a_linear_transform_scales() -> None:
    transform = Standardize()
    transform.mean.fill_(7)
    transform.std.fill_(3)
    std = torch.rand(1, 1, 1, 2, 2)
    found = gaussian(torch.ones_like(std), std, transform.inverse, "head")
    torch.testing.assert_close(found.std, 3 * std)
    torch.testing.assert_close(found.quantiles[:, 4], 1 + 1.6448536 * 3 * std)


# --- the assembled model


def test_a_spread_of_the_members_is_that_of_the_members() -> None:
    """A linear transform with the additive constraint: exactly the standard deviation and mean of the ensemble."""
    model = built(**LINEAR)
    area = torch.rand(20, 24) + 0.5
    coarse = COARSE.clone()
    coarse[0, 0, 0, 1, 2] = torch.nan
    members = model.sample(Inputs(coarse, area=area), Members(range(6), seed=3)).fields
    found = model.marginals(Inputs(coarse, area=area), Members(range(6), seed=3), "members")
    torch.testing.assert_close(found.std, members.std(1), rtol=1e-3, atol=1e-4, equal_nan=True)
    torch.testing.assert_close(found.mean, members.mean(1), rtol=1e-3, atol=1e-4, equal_nan=True)
    assert found.std[0].isnan().sum() == 16 and not found.std[1].isnan().any()


@pytest.mark.parametrize("latent", ["pixel", {"kind": "wavelet", "levels": 1}])
def test_a_head_agrees_with_monte_carlo(latent: object) -> None:
    model = built(**LINEAR, latent=latent, variance=HEAD)
    found = model.marginals(Inputs(COARSE), Members(range(64)))
    assert found.source == "head" and found.std.shape == COARSE.shape[:3] + (20, 24)
    cond = sampling.conditions(model, Inputs(COARSE))
    mu = sampling.mean(model, cond)
    std = (0.5 * model.variance(sampling.folded(model, cond, mu))).exp()  # type: ignore[misc]
    assert std.max() > 1.1 * std.min()
    z = std[:, None] * torch.randn(2, 4000, *std.shape[1:])
    y = mu[:, None] + model.decode(z.flatten(0, 1), model.factor).unflatten(0, (2, 4000))
    members = model.finish(y, Inputs(COARSE)).fields
    assert 0.99 < float((found.std / members.std(1)).mean().detach()) < 1.01
    torch.testing.assert_close(found.std, members.std(1), rtol=0.08, atol=0)
    torch.testing.assert_close(found.mean, members.mean(1), rtol=0, atol=0.1 * float(found.std.max()))
    means = Coarsen(model.factor)(found.mean)
    torch.testing.assert_close(means, COARSE, rtol=1e-4, atol=1e-4)


def test_the_denoiser_gives_the_prior() -> None:
    """A denoiser of white latents, D = c_skip z: at sigma = 5 the posterior variance is 25/26."""
    model = build_model(TINY | LINEAR).eval()
    found = model.marginals(Inputs(COARSE), Members(range(64)), "denoiser")
    decoder = Decoder(model.latent, (1, 20, 24))  # type: ignore[arg-type]
    white = torch.full((1, model.latent.channels, 1, 10, 12), 25 / 26)
    expected = diagonal(decoder, white, Coarsen(model.factor)).sqrt()
    torch.testing.assert_close(found.std, expected.expand_as(found.std), rtol=1e-4, atol=1e-5)


def test_log_rain_has_quantiles_and_dry_blocks_have_no_spread() -> None:
    model = built(variance=HEAD)
    coarse = COARSE.clone()
    coarse[0, 0, 0, 1, 2] = 0
    found = model.marginals(Inputs(coarse), Members(range(64)))
    dry = found.std[0, 0, 0, 4:8, 8:12]
    assert (dry == 0).all() and (found.quantiles[0, :, 0, 0, 4:8, 8:12] == 0).all() and (found.std >= 0).all()
    assert (found.quantiles.diff(dim=1) >= 0).all()
    cond = sampling.conditions(model, Inputs(coarse))
    mu = sampling.mean(model, cond)
    variance = model.variance(sampling.folded(model, cond, mu)).exp()  # type: ignore[misc]
    s = diagonal(Decoder(model.latent, (1, 20, 24)), variance).sqrt()  # type: ignore[arg-type]
    upper = model.transform.inverse(mu[..., :20, :24] + 1.6448536 * s)
    torch.testing.assert_close(found.quantiles[1, 4], upper[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(Coarsen(model.factor)(found.mean), coarse, rtol=1e-4, atol=1e-5)
    assert (model.marginals(Inputs(torch.zeros(1, 1, 1, 4, 4)), Members(range(64))).std == 0).all()


def test_a_deterministic_model_varies_about_its_constrained_mean() -> None:
    model = built(**LINEAR, denoiser="none", variance=HEAD)
    found = model.marginals(Inputs(COARSE), Members(range(64)))
    torch.testing.assert_close(found.mean, model.sample(Inputs(COARSE), Members()).fields[:, 0], rtol=1e-4, atol=1e-5)
    assert (found.std > 0).all()


@pytest.mark.parametrize(
    ("changes", "source", "message"),
    [
        ({"denoiser": "none"}, "auto", "deterministic and has no variance head.*--set variance.loss=nll"),
        ({}, "head", "no variance head.*--variance members"),
        ({"denoiser": "none", "variance": HEAD}, "members", "no denoiser"),
        ({}, "psychic", "must be one of head, members, denoiser"),
    ],
)
def test_sources_that_a_model_has_not(changes: dict[str, Any], source: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        built(**changes).marginals(Inputs(COARSE), Members(range(64)), source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variance": {"loss": "mse"}}, r"variance\.loss is 'mse'"),
        ({"variance": {"los": "nll"}}, r"variance\.los.*did you mean 'loss'"),
        ({"variance": "unet"}, "must hold settings"),
        ({"variance": {"backbone": "edsr"}}, "take unet"),
        ({"variance": HEAD, "mean": "none"}, "needs a mean"),
    ],
)
def test_settings_that_are_wrong(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_model(read_config(TINY | changes))


# --- training


def test_the_loss_of_the_head_is_the_likelihood_of_the_residual() -> None:
    model = built(variance=HEAD)
    fine = torch.rand(3, 1, 1, 16, 16) * 5
    crops = Batch(Coarsen(model.factor)(fine), torch.ones(3, 16, 16), fine=fine)
    with torch.no_grad():
        model.latent.fit([losses.residual(model, crops)])
    found = model.loss("variance", crops, torch.Generator())
    found.backward()
    trained = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert trained == {"variance"}
    assert model.variance is not None
    conditions = model.conditions(model.transform(crops.coarse), model.factor)
    mu = model.mean(conditions)
    residual = model.transform(fine) - mu
    torch.testing.assert_close(losses.residual(model, crops), residual)
    folded = model.latent.fold(torch.cat([conditions, mu], 1))
    std = (0.5 * model.variance(folded)).exp().detach()
    z = (model.latent.encode(residual) - model.latent.encode(torch.zeros_like(residual))).detach()
    expected = -torch.distributions.Normal(0.0, std).log_prob(z).mean() - 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(found.detach(), expected, rtol=1e-4, atol=1e-5)


def test_patches_and_a_transformer() -> None:
    """A truncated latent with a Vision Transformer for head and denoiser: all three sources, same seed same result."""
    vit = {"kind": "vit", "width": 24, "depth": 1, "window": 2}
    changes = {"latent": {"kind": "patch_pod", "patch": 4, "modes": 6}, "denoiser": {"backbone": vit}}
    model = built(**LINEAR, **changes, variance={"backbone": vit, "loss": "crps"})
    with torch.no_grad():
        model.latent.fit([torch.randn(8, 1, 1, 16, 16)])
    for source in ("head", "members", "denoiser"):
        found = model.marginals(Inputs(COARSE), Members(range(4)), source)
        assert found.source == source and found.std.isfinite().all() and (found.std > 0).all()
        assert torch.equal(model.marginals(Inputs(COARSE), Members(range(4)), source).std, found.std)


def test_stages_and_their_shares(data: Path) -> None:  # noqa: F811
    from finescale.training.fit import read_data
    from finescale.training.sections import Training

    settings = config(data) | {"variance": HEAD}
    patches, *_ = read_data(settings)

    def shares(**changes: Any) -> dict[str, float]:
        training = Training(steps=8, mean_share=0.25, variance_share=0.2, **changes.pop("training", {}))
        model = build_model(settings | changes)
        return {stage.name: round(stage.share, 6) for stage in stages(model, patches, training)}

    assert shares() == {"mean": 0.2, "denoiser": 0.6, "variance": 0.2}
    assert shares(training={"joint": True}) == {"mean": 0.2, "joint": 0.6, "variance": 0.2}
    assert shares(denoiser="none") == {"mean": 0.8, "variance": 0.2}
    assert shares(denoiser="none", mean="interpolation") == {"variance": 1.0}
    assert shares(variance=None) == {"mean": 0.25, "denoiser": 0.75}


@pytest.fixture
def trained(data: Path, tmp_path: Path) -> Path:  # noqa: F811
    """A deterministic model with a head, of a linear transform."""
    settings = config(data, steps=10, variance_share=0.4) | LINEAR | {"denoiser": "none", "variance": HEAD}
    fit(settings, tmp_path / "model")
    return tmp_path / "model"


def coarse_file(folder: Path) -> Path:
    values = np.random.default_rng(0).gamma(0.5, 2.0, (2, 6, 8)).astype(np.float32)
    values[1, 2, 3] = np.nan
    ds = xr.Dataset(
        {"rain": (("time", "lat", "lon"), values, {"units": "mm h-1", "cell_methods": "area: mean"})},
        coords={
            "time": ("time", np.datetime64("2020-01-01", "ns") + np.arange(2) * np.timedelta64(1, "h")),
            "lat": ("lat", np.arange(60.0, 57.0, -0.5), {"units": "degrees_north"}),
            "lon": ("lon", np.arange(8) * 0.5, {"units": "degrees_east"}),
        },
    )
    write(ds, folder / "coarse.nc", overwrite=True)
    return folder / "coarse.nc"


def run(*words: object) -> int:
    return commands.main([str(word) for word in words])


def read(path: Path) -> xr.Dataset:
    with open_store(path, chunks=None) as ds:
        return ds.load()


def test_from_training_to_a_file(trained: Path, tmp_path: Path) -> None:
    """fit, then downscale --members 0 --variance: the file has what Python has, whatever the windows."""
    model = load(trained)
    assert set(model.parameters_by_part) == {"mean", "variance"} and float(model.latent.scale.min()) != 1
    coarse = coarse_file(tmp_path)
    for suffix in (".nc", ".zarr"):
        out = tmp_path / f"o{suffix}"
        assert run("downscale", trained, coarse, "-o", out, "--members", 0, "--variance", "--window", "1x4") == 0
        ds = read(out)
        assert ds["rain"].dims == ds["rain_std"].dims == ("time", "lat", "lon") and "realization" not in ds.dims
        assert "rain_quantile" not in ds and ds["rain"].attrs["ancillary_variables"] == "rain_std"
        std = ds["rain_std"]
        assert std.attrs["units"] == "mm h-1" and "variance head" in std.attrs["comment"]
        assert std.attrs["cell_methods"] == "area: mean realization: standard_deviation"
        assert "additive constraint" in std.attrs["comment"] and "--variance head" in ds.attrs["history"]
        assert 0 <= ds.attrs["finescale_conservation_residual"] < 1e-5
        python = model.downscale(read(coarse), members=0, variance=True)
        for name in ("rain", "rain_std"):
            np.testing.assert_allclose(ds[name], python[name], rtol=1e-3, atol=1e-4)
        assert (np.isnan(std.values) == np.isnan(ds["rain"].values)).all() and np.isnan(std.values).sum() == 16
    # What has a mean and its standard deviation has one gridded variable to every other command.
    assert run("info", tmp_path / "o.nc") == 0
    tensor = torch.from_numpy(np.flip(read(coarse)["rain"].values, 1).copy())[:, None, None]
    direct = model.marginals(Inputs(tensor), Members(range(64))).std[:, 0, 0].flip(1)
    np.testing.assert_allclose(python["rain_std"], direct, rtol=0.02, atol=1e-3)  # but for the area of cells


def test_members_and_quantiles_beside_them(tmp_path: Path) -> None:
    model = built(variance=HEAD)
    model.save(tmp_path / "model")
    coarse, out = coarse_file(tmp_path), tmp_path / "o.zarr"
    words = ("downscale", tmp_path / "model", coarse, "-o", out, "--members", 2)
    assert run(*words, "--variance") == 0
    ds = read(out)
    assert ds["rain"].shape == (2, 2, 24, 32) and ds["rain_quantile"].shape == (5, 2, 24, 32)
    np.testing.assert_allclose(ds["quantile"], LEVELS)
    alone = model.downscale(read(coarse), members=2)
    np.testing.assert_allclose(ds["rain"], alone["rain"], rtol=1e-3, atol=1e-4)
    assert (ds["rain_quantile"].diff("quantile").fillna(0) >= 0).all()
    assert "constraint acts on the mean alone" in ds["rain_std"].attrs["comment"]
    assert run(*words, "--variance", "members", "--overwrite") == 0
    again = read(out)
    assert "2 sampled latents" in again["rain_std"].attrs["comment"]
    np.testing.assert_allclose(again["rain"], alone["rain"], rtol=1e-3, atol=1e-4)
    assert again.attrs["finescale_conservation_residual_before"] > 0
    assert not np.allclose(read(out)["rain_std"], ds["rain_std"], equal_nan=True)


def test_an_interrupted_spread_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from finescale.data import store
    from finescale.verbs import downscale

    model, coarse = built(**LINEAR, variance=HEAD), coarse_file(tmp_path)
    settings: dict[str, Any] = {"members": 2, "variance": True, "window": (1, 4, 4), "progress": False}
    downscale(model, coarse, tmp_path / "whole.zarr", **settings)
    original = store.ZarrStore.write

    def stop(self: Any, task: int, *rest: Any) -> None:
        if task == 3:
            raise KeyboardInterrupt
        original(self, task, *rest)

    monkeypatch.setattr(store.ZarrStore, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        downscale(model, coarse, tmp_path / "o.zarr", **settings)
    monkeypatch.undo()
    with pytest.raises(InputError, match="variance head is now None"):
        downscale(model, coarse, tmp_path / "o.zarr", **(settings | {"variance": False}), resume=True)
    downscale(model, coarse, tmp_path / "o.zarr", **settings, resume=True)
    xr.testing.assert_equal(read(tmp_path / "o.zarr"), read(tmp_path / "whole.zarr"))


def test_the_command_line_says_what_is_missing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    built(denoiser="none").save(tmp_path / "plain")
    coarse = coarse_file(tmp_path)
    for words, said in (
        (("--variance",), "has no variance head"),
        (("--members", "0"), "--variance"),
        (("--variance=psychic",), "--variance"),
    ):
        assert run("downscale", tmp_path / "plain", coarse, "-o", tmp_path / "o.nc", *words) == 2
        err = capfd.readouterr().err.splitlines()
        assert len(err) == 1 and said in err[0], err
    assert not (tmp_path / "o.nc").exists()


def test_a_distilled_denoiser_says_no_variance(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    process = {
        "schedule": {"kind": "edm", "sigma_max": 10},
        "sampler": {"kind": "consistency", "levels": 8},
        "steps": 2,
    }
    model = built(process=process)
    model.save(tmp_path / "model")
    words = ("downscale", tmp_path / "model", coarse_file(tmp_path), "-o", tmp_path / "o.nc", "--variance", "denoiser")
    assert run(*words) == 2 and not (tmp_path / "o.nc").exists()
    err = capfd.readouterr().err.splitlines()
    assert len(err) == 1 and "this model is distilled" in err[0] and "--variance members" in err[0]
    assert model.spread_source("auto") == "members"


def test_what_a_file_says_of_its_standard_deviation() -> None:
    head = "variance from the variance head, coefficients independent, no sampling; propagated in closed form through"
    assert comment("head", 64, linear=True, constrained=False, additive=False) == f"{head} the decoder"
    assert comment("head", 64, linear=False, constrained=False, additive=False) == (
        f"{head} the decoder; through the transform by quantiles and quadrature"
    )
    assert built(variance=HEAD, **LINEAR | {"constraint": "none"}).spread_comment("head", 64) == f"{head} the decoder"
    both = built(variance=HEAD, **LINEAR).spread_comment("head", 64)
    assert both == f"{head} the decoder and the additive constraint"


def test_a_bare_flag_takes_no_other_word() -> None:
    assert runner.bare_variance(["--variance", "m", "c"]) == ["--variance=auto", "m", "c"]
    assert runner.bare_variance(["m", "--variance"]) == ["m", "--variance=auto"]
    assert runner.bare_variance(["--variance", "head"]) == ["--variance", "head"]


def test_the_model_is_a_downscaler_with_or_without_a_head() -> None:
    model = built()
    assert isinstance(model, Downscaler) and not any(name.startswith("variance") for name in model.state_dict())
