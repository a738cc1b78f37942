"""Conditional diffusion with the U-Net and the schedulers of diffusers: trained as DDPM, sampled by DPM-Solver++."""

from __future__ import annotations

from typing import NamedTuple

import harness
import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, UNet2DModel
from torch import Tensor, nn
from torch_training import CHANNELS, FOLD, Rain, fit, size

STEPS, TOGETHER = 20, 8
WIDTHS = (64, 128, 128)
NOISE = DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", clip_sample=False)


class Model(NamedTuple):
    rain: Rain
    network: nn.Module
    seed: int


def loss(network: nn.Module, fine: Tensor, condition: Tensor) -> Tensor:
    noise = torch.randn_like(fine)
    times = torch.randint(NOISE.config.num_train_timesteps, (len(fine),))
    noisy, wanted = NOISE.add_noise(fine, noise, times), NOISE.get_velocity(fine, noise, times)
    return (network(torch.cat([noisy, condition], 1), times).sample.float() - wanted).square().mean()


def train(given: harness.Training) -> Model:
    torch.manual_seed(given.seed)
    rain = Rain(given.fine)
    network = UNet2DModel(
        sample_size=given.fine.shape[-1] // FOLD, in_channels=3 * CHANNELS, out_channels=CHANNELS, layers_per_block=1,
        block_out_channels=WIDTHS,
        down_block_types=["DownBlock2D"] * len(WIDTHS), up_block_types=["UpBlock2D"] * len(WIDTHS),
        norm_num_groups=8, add_attention=False,
    )  # fmt: skip
    return Model(rain, fit(network, loss, given, rain), given.seed)


def refine(model: Model, coarse: harness.Array, count: int) -> harness.Array:
    torch.manual_seed(model.seed)
    made = []
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        for condition in model.rain.condition(coarse).repeat_interleave(count, 0).split(TOGETHER):
            sampler = DPMSolverMultistepScheduler.from_config(NOISE.config, algorithm_type="dpmsolver++")
            sampler.set_timesteps(STEPS)
            x = torch.randn(len(condition), CHANNELS, *condition.shape[2:])
            for time in sampler.timesteps:
                x = sampler.step(model.network(torch.cat([x, condition], 1), time).sample.float(), time, x).prev_sample
            made.append(model.rain.inverse(x))
    return torch.cat(made).unflatten(0, (-1, count)).transpose(0, 1).numpy()


if __name__ == "__main__":
    harness.main(train, refine, lambda model: {"network": size(model.network)})
