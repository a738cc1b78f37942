"""Mean, standard deviation and quantiles of the fine field without members: against laws and Monte Carlo."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from finescale.config.build import build_model
from finescale.downscaler import Downscaler
from finescale.errors import InputError
from finescale.model import sampling
from finescale.model.batch import Inputs, Members
from finescale.model.covariance import Decoder, diagonal
from finescale.model.uncertainty import LEVELS, gaussian, transformed
from finescale.operators.coarsen import Coarsen
from finescale.transforms import Chain, Log1p, Standardize

LINEAR = {"transform": ["standardize"], "constraint": "additive"}
COARSE = torch.rand(2, 1, 1, 5, 6, generator=torch.Generator().manual_seed(1)) * 4


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


def test_a_spread_of_the_members_is_that_of_the_members(built: Callable[..., Downscaler]) -> None:
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
def test_a_head_agrees_with_monte_carlo(built: Callable[..., Downscaler], head: dict[str, Any], latent: object) -> None:
    model = built(**LINEAR, latent=latent, variance=head)
    found = model.marginals(Inputs(COARSE), Members(range(64)))
    assert found.source == "head" and found.std.shape == COARSE.shape[:3] + (20, 24)
    cond = sampling.conditions(model, Inputs(COARSE))
    mu = sampling.mean(model, Inputs(COARSE), cond)
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


def test_the_denoiser_gives_the_prior(tiny: dict[str, Any]) -> None:
    """A denoiser of white latents, D = c_skip z: at sigma = 5 the posterior variance is 25/26."""
    model = build_model(tiny | LINEAR).eval()
    found = model.marginals(Inputs(COARSE), Members(range(64)), "denoiser")
    decoder = Decoder(model.latent, (1, 20, 24))  # type: ignore[arg-type]
    white = torch.full((1, model.latent.channels, 1, 10, 12), 25 / 26)
    expected = diagonal(decoder, white, Coarsen(model.factor)).sqrt()
    torch.testing.assert_close(found.std, expected.expand_as(found.std), rtol=1e-4, atol=1e-5)


def test_log_rain_has_quantiles_and_dry_blocks_have_no_spread(
    built: Callable[..., Downscaler], head: dict[str, Any]
) -> None:
    model = built(variance=head)
    coarse = COARSE.clone()
    coarse[0, 0, 0, 1, 2] = 0
    found = model.marginals(Inputs(coarse), Members(range(64)))
    dry = found.std[0, 0, 0, 4:8, 8:12]
    assert (dry == 0).all() and (found.quantiles[0, :, 0, 0, 4:8, 8:12] == 0).all() and (found.std >= 0).all()
    assert (found.quantiles.diff(dim=1) >= 0).all()
    cond = sampling.conditions(model, Inputs(coarse))
    mu = sampling.mean(model, Inputs(coarse), cond)
    variance = model.variance(sampling.folded(model, cond, mu)).exp()  # type: ignore[misc]
    s = diagonal(Decoder(model.latent, (1, 20, 24)), variance).sqrt()  # type: ignore[arg-type]
    upper = model.transform.inverse(mu[..., :20, :24] + 1.6448536 * s)
    torch.testing.assert_close(found.quantiles[1, 4], upper[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(Coarsen(model.factor)(found.mean), coarse, rtol=1e-4, atol=1e-5)
    assert (model.marginals(Inputs(torch.zeros(1, 1, 1, 4, 4)), Members(range(64))).std == 0).all()


def test_a_deterministic_model_varies_about_its_constrained_mean(
    built: Callable[..., Downscaler], head: dict[str, Any]
) -> None:
    model = built(**LINEAR, denoiser="none", variance=head)
    found = model.marginals(Inputs(COARSE), Members(range(64)))
    torch.testing.assert_close(found.mean, model.sample(Inputs(COARSE), Members()).fields[:, 0], rtol=1e-4, atol=1e-5)
    assert (found.std > 0).all()


@pytest.mark.parametrize(
    ("changes", "source", "message"),
    [
        ({"denoiser": "none"}, "auto", "deterministic and has no variance head.*--set variance.loss=nll"),
        ({}, "head", "no variance head.*--variance members"),
        ({"denoiser": "none", "variance": {"loss": "nll"}}, "members", "no denoiser"),
        ({}, "psychic", "must be one of head, members, denoiser"),
    ],
)
def test_sources_that_a_model_has_not(
    built: Callable[..., Downscaler], changes: dict[str, Any], source: str, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        built(**changes).marginals(Inputs(COARSE), Members(range(64)), source)
    assert "\n" not in str(caught.value)


def test_patches_and_a_transformer(built: Callable[..., Downscaler]) -> None:
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


def test_what_a_file_says_of_its_standard_deviation(built: Callable[..., Downscaler], head: dict[str, Any]) -> None:
    start = "variance from the variance head, coefficients independent, no sampling; propagated in closed form through"
    settings = {"linear": LINEAR | {"constraint": "none"}, "curved": {"constraint": "none"}, "both": LINEAR}
    said = {name: built(variance=head, **changes).variance_comment("head", 64) for name, changes in settings.items()}
    assert said == {
        "linear": f"{start} the decoder",
        "curved": f"{start} the decoder; through the transform by quantiles and quadrature",
        "both": f"{start} the decoder and the additive constraint",
    }
