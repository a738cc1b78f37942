"""The cosine schedule, its spacings, and the prediction of noise, against diffusers and by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from finescale.config.build import build_model
from finescale.config.read import read_config
from finescale.diffusion import VP, Denoiser, EpsilonDenoiser, ScheduleNoise, VPCosine
from finescale.errors import InputError
from finescale.model.batch import Inputs, Members
from finescale.samplers import DDIM


def test_the_schedule_is_the_papers() -> None:
    import diffusers

    schedule = VPCosine()
    reference = diffusers.DDIMScheduler(1000, beta_schedule="squaredcos_cap_v2")
    alphas = reference.alphas_cumprod.double()
    # diffusers sums in float32; before the clip ᾱ_t is f(t)/f(0).
    torch.testing.assert_close(schedule.alphas[:-2], alphas[:-2], rtol=1e-3, atol=0)
    t = np.arange(1, 1000) / 1000
    f = np.cos(np.pi / 2 * (t + 0.008) / 1.008) ** 2 / np.cos(np.pi / 2 * 0.008 / 1.008) ** 2
    np.testing.assert_allclose(schedule.alphas[:-1].numpy(), f, rtol=1e-10)
    assert float(schedule.alphas[-1]) == pytest.approx(1e-3 * f[-1], rel=1e-9)


def test_noise_levels_are_exact_at_both_ends() -> None:
    """sigma² = 1/ᾱ − 1: tiny at the first step, huge at the last one; by hand from the formula."""
    levels = VPCosine().levels
    assert bool((levels.diff() > 0).all()) and levels.dtype == torch.float64
    a, b = (math.pi / 2 * (t + 0.008) / 1.008 for t in (0.0, 0.001))
    # cos²a/cos²b − 1 = sin(b − a) sin(b + a)/cos²b
    assert float(levels[0]) == pytest.approx(math.sqrt(math.sin(b - a) * math.sin(b + a)) / math.cos(b), rel=1e-9)
    assert float(levels[-1]) == pytest.approx(20_290, rel=1e-2)
    assert float(levels[-2]) == pytest.approx(641.5, rel=1e-3) and VPCosine().sigma_max == float(levels[-1])
    assert VPCosine(clip=0.5).sigma_max < 1000


@pytest.mark.parametrize("steps", [1, 7, 100, 1000])
@pytest.mark.parametrize("spacing", ["trailing", "leading"])
def test_spacings_are_those_of_diffusers(spacing: Any, steps: int) -> None:
    import diffusers

    reference = diffusers.DDIMScheduler(1000, beta_end=0.02, timestep_spacing=spacing)
    reference.set_timesteps(steps)
    for schedule in (VP(0.02, spacing=spacing), VPCosine(spacing=spacing)):
        sigmas = schedule.sigmas(steps)
        assert sigmas.shape == (steps + 1,) and sigmas[-1] == 0
        assert torch.equal(sigmas[:-1], schedule.levels[reference.timesteps])


def test_schedules_that_make_no_sense() -> None:
    for arguments in ({"s": -0.1}, {"clip": 1.0}, {"T": 0}):
        with pytest.raises(ValueError, match="the cosine schedule needs"):
            VPCosine(**arguments)
    with pytest.raises(InputError, match="steps must be 1 to 50"):
        VPCosine(T=50).sigmas(51)


class Told(nn.Module):
    """F = what it is told, and a record of its input."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, z: Tensor, embedding: Tensor, cond: Tensor) -> Tensor:
        self.seen = z
        return self.answer


def test_a_noise_prediction_that_is_right_gives_the_clean_latent_and_one_that_errs_its_square() -> None:
    generator = torch.Generator().manual_seed(0)
    clean, noise, wrong, cond = (torch.randn(5, 2, 1, 4, 4, generator=generator) for _ in range(4))
    sigma = torch.tensor([0.006, 0.3, 1.0, 5.0, 70.0])
    wide = sigma.reshape(-1, 1, 1, 1, 1)
    z = clean + wide * noise
    right = EpsilonDenoiser(Told(noise), 8)
    # sigma · noise is added and taken off again in float32: four roundings, by half an eps of what is added.
    rounding = 4 * torch.finfo(torch.float32).eps / 2 * ((wide * noise).abs() + clean.abs())
    assert ((right(z, sigma, cond) - clean).abs() <= rounding).all()
    torch.testing.assert_close(right.backbone.seen, z / (1 + wide**2).sqrt())
    assert float(right.loss(clean, sigma, noise, cond)) < 1e-8
    other = EpsilonDenoiser(Told(noise + 0.1 * wrong), 8)
    expected = (0.1 * wrong).square().mean()
    torch.testing.assert_close(other.loss(clean, sigma, noise, cond), expected, rtol=1e-3, atol=1e-6)
    error = other(z, sigma, cond) - clean
    assert ((error + wide * 0.1 * wrong).abs() <= rounding + 4 * torch.finfo(torch.float32).eps * error.abs()).all()


CONFIG: dict[str, Any] = {
    "factor": "1x4",
    "transform": ["standardize"],
    "latent": "pixel",
    "denoiser": {"prediction": "epsilon", "backbone": {"kind": "vit", "width": 16, "depth": 2, "window": 4}},
    "process": {
        "schedule": {"kind": "vp_cosine", "spacing": "leading"},
        "noise": "schedule",
        "sampler": {"kind": "ddim", "eta": 0.5},
        "steps": 4,
    },
    "precision": "float32",
}


def test_a_configuration_names_them() -> None:
    model = build_model(read_config(CONFIG))
    assert isinstance(model.denoiser, EpsilonDenoiser) and isinstance(model.process.sampler, DDIM)
    assert isinstance(model.process.noise, ScheduleNoise) and model.process.sampler.eta == 0.5
    assert torch.equal(model.process.noise.levels, VPCosine().levels.float())
    assert model.sample(Inputs(torch.rand(1, 1, 1, 3, 5)), Members(range(2))).fields.shape == (1, 2, 1, 1, 12, 20)
    plain = build_model(CONFIG | {"denoiser": {"backbone": CONFIG["denoiser"]["backbone"]}})
    assert type(plain.denoiser) is Denoiser
    with pytest.raises(InputError, match=r"denoiser\.prediction is 'noise'"):
        build_model(CONFIG | {"denoiser": CONFIG["denoiser"] | {"prediction": "noise"}})
    with pytest.raises(InputError, match=r"process\.sampler\.eta is 2\.0"):
        build_model(read_config(CONFIG, {"process.sampler.eta": 2.0}))
