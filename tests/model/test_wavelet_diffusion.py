"""Conditional wavelet diffusion (arXiv 2507.01354): its preset, its loss, and the paper's sanity check."""

from __future__ import annotations

import pytest
import torch

from finescale.config.build import build_model
from finescale.config.read import read_config
from finescale.diffusion import VPSDE, TimeNoise, TotalVariation
from finescale.grids.factor import Factor
from finescale.latents import Wavelet
from finescale.model import losses
from finescale.model.batch import Batch, Inputs, Members
from finescale.operators.coarsen import Coarsen
from finescale.operators.interpolate import upsample
from finescale.samplers import EulerMaruyama

SMALL = {
    "factor": "1x4",
    "denoiser.backbone": {"kind": "unet", "width": 8, "multipliers": [1, 1], "blocks": 1, "window": 2},
}
COARSE = torch.rand(8, 1, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 4


def blocks(fine: torch.Tensor) -> Batch:
    return Batch(COARSE, torch.ones(8, 32, 32), fine=fine)


@pytest.mark.parametrize("levels", [1, 2])
def test_the_preset_is_the_paper(levels: int) -> None:
    model = build_model(read_config("wavelet-wdm", {"latent.levels": levels, "denoiser.backbone.width": 8}))
    assert isinstance(model.latent, Wavelet) and model.latent.haar and model.latent.condition == "analysis"
    assert model.latent.channels == 4**levels and str(model.factor) == "1x10" and not model.mean.trainable
    process = model.process
    assert isinstance(process.schedule, VPSDE) and isinstance(process.noise, TimeNoise)
    assert isinstance(process.sampler, EulerMaruyama) and process.tv is not None and process.tv.strength == 1e-5
    assert not process.tv.reliable
    crop = model.config["data"]["crop"]
    _, y, x = model.sizes.stride
    assert crop % 10 == 0 and crop % y == 0 and crop % x == 0, "training crops are not padded"


def test_the_loss_is_score_matching_and_variation() -> None:
    model = build_model(read_config("wavelet-wdm", SMALL | {"process.tv": 0.5}))
    plain = build_model(read_config("wavelet-wdm", SMALL | {"process.tv": None}))
    plain.load_state_dict(model.state_dict())
    batch = blocks(torch.rand(8, 1, 1, 32, 32) * 4)
    both, alone = (m.loss("denoiser", batch, torch.Generator().manual_seed(0)) for m in (model, plain))
    # An untrained network's output is 0, so that the clean estimate is c_skip z.
    generator = torch.Generator().manual_seed(0)
    clean = model.latent.encode(model.transform(batch.fine))
    sigma = model.process.noise.sample(8, generator)
    wide = sigma.reshape(-1, 1, 1, 1, 1)
    estimate = (clean + wide * torch.randn(clean.shape, generator=generator)) / (1 + wide**2)
    variation = TotalVariation(0.5)(model.latent.details(estimate), sigma)
    torch.testing.assert_close(both - alone, variation, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("levels", [1, 2])
def test_no_detail_is_generated_where_fine_is_the_upsampled_coarse_field(levels: int) -> None:
    """The paper's sanity check, after a few steps of training on such data; detail against the low band's spread."""
    torch.manual_seed(0)
    model = build_model(read_config("wavelet-wdm", SMALL | {"latent.levels": levels, "process.steps": 20}))
    batch = blocks(Coarsen(Factor.parse("1x4")).replicate(COARSE))
    model.transform.fit([batch.fine])
    model.latent.fit([losses.residual(model, batch)])
    generator, optimizer = torch.Generator().manual_seed(0), torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(5):
        optimizer.zero_grad()
        model.loss("denoiser", batch, generator).backward()
        optimizer.step()
    drawn = model.eval().draw(Inputs(COARSE), Members(range(2)))
    coefficients = model.latent.analysis(drawn.flatten(0, 1))  # type: ignore[arg-type]
    assert isinstance(model.latent, Wavelet)
    spread = coefficients[:, :1].std()
    assert spread > 0.1
    for band in model.latent.details(coefficients):
        assert band.abs().max() < 1e-2 * spread


@pytest.mark.parametrize("levels", [1, 2])
def test_a_smooth_field_has_next_to_no_detail(levels: int) -> None:
    """Of the coarse field upsampled by 10: what the denoiser is told of it is nearly all in the low band."""
    latent = Wavelet(levels)  # type: ignore[arg-type]
    c = latent.analysis(upsample(COARSE, Factor.parse("1x20"), "cubic"))
    assert sum(band.square().sum() for band in latent.details(c)) < 0.01 * c.square().sum()


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_ours_adds_no_detail_where_fine_is_the_upsampled_coarse_field(levels: int) -> None:
    """The same check of mean + residual: of a field that the mean foretells nothing is left to make, trained or not."""
    config = {"mean": "interpolation", "constraint": "none", "transform": ["standardize"]}
    small = {"factor": "1x4", "denoiser.backbone": {"kind": "unet", "width": 8, "multipliers": [1], "blocks": 1}}
    latent = {"latent": {"kind": "wavelet", "levels": levels}}
    model = build_model(read_config("wavelet", small | config | latent)).eval()
    smooth = upsample(COARSE, Factor.parse("1x4"), "cubic")
    spread = {}
    for name, fine in (("smooth", smooth), ("rough", smooth + 0.1 * torch.randn(smooth.shape))):
        batch = blocks(fine)
        model.transform.fit([batch.fine])
        model.latent.fit([losses.residual(model, batch)])
        bands = model.latent.details(
            model.latent.analysis((model.sample(Inputs(COARSE), Members()).fields - smooth[:, None]).flatten(0, 1))
        )
        spread[name] = [float(band.std()) for band in bands]
    assert max(spread["smooth"]) < 1e-4
    # Untrained, the denoiser is that of white noise, to which whitening gives the residual's standard deviation.
    assert spread["rough"] == pytest.approx([0.1] * levels, rel=0.2)
