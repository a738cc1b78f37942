"""Plain EDM of physicsnemo: its preconditioner, noise schedule, loss and 18 steps of Heun's method."""

from __future__ import annotations

from typing import NamedTuple

import harness
import physicsnemo_cpu
import torch
from physicsnemo.core import Module
from physicsnemo.diffusion.metrics import MSEDSMLoss
from physicsnemo.diffusion.noise_schedulers import EDMNoiseScheduler
from physicsnemo.diffusion.preconditioners import EDMPreconditioner
from physicsnemo.diffusion.samplers import sample
from physicsnemo.models.diffusion_unets import SongUNet
from torch import Tensor, nn
from torch_training import CHANNELS, FOLD, Rain, fit, size

STEPS, TOGETHER = 18, 8
SCHEDULE = EDMNoiseScheduler()


class Conditioned(Module):
    """SongUNet that sees the coarse field as further channels."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.network = physicsnemo_cpu.single(
            SongUNet(
                side, 3 * CHANNELS, CHANNELS, model_channels=64, channel_mult=[1, 2, 2], num_blocks=1,
                attn_resolutions=[], dropout=0.0, amp_mode=True,
            )
        )  # fmt: skip

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        return self.network(torch.cat([x, condition], 1), t.flatten(), None)


class Model(NamedTuple):
    rain: Rain
    denoiser: nn.Module
    seed: int


def train(given: harness.Training) -> Model:
    torch.manual_seed(given.seed)
    rain = Rain(given.fine, spread=0.5)  # the spread that the schedule is made for
    denoiser = EDMPreconditioner(Conditioned(given.fine.shape[-1] // FOLD))
    denoiser = fit(denoiser, lambda net, y, c: MSEDSMLoss(net, SCHEDULE)(y, condition=c), given, rain)
    return Model(rain, denoiser, given.seed)


def refine(model: Model, coarse: harness.Array, count: int) -> harness.Array:
    torch.manual_seed(model.seed)
    made = []
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        for condition in model.rain.condition(coarse).repeat_interleave(count, 0).split(TOGETHER):
            first = SCHEDULE.timesteps(STEPS)[0].expand(len(condition))
            noise = SCHEDULE.init_latents((CHANNELS, *condition.shape[2:]), first)
            denoiser = SCHEDULE.get_denoiser(x0_predictor=lambda x, t, c=condition: model.denoiser(x, t, condition=c))
            made.append(model.rain.inverse(sample(denoiser, noise, SCHEDULE, STEPS)))
    return torch.cat(made).unflatten(0, (-1, count)).transpose(0, 1).numpy()


if __name__ == "__main__":
    harness.main(train, refine, lambda model: {"denoiser": size(model.denoiser)})
