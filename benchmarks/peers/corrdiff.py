"""CorrDiff of physicsnemo: a regression network, then EDM of what it leaves, conditioned on it."""

from __future__ import annotations

from typing import NamedTuple

import harness
import physicsnemo_cpu
import torch
from physicsnemo.diffusion.generate import diffusion_step, regression_step
from physicsnemo.diffusion.metrics import RegressionLoss, ResidualLoss
from physicsnemo.diffusion.preconditioners import EDMPrecondSuperResolution
from physicsnemo.diffusion.samplers import stochastic_sampler
from physicsnemo.models.diffusion_unets import CorrDiffRegressionUNet
from torch import nn
from torch_training import CHANNELS, FOLD, Rain, fit, size

NETWORK = {
    "num_blocks": 1, "attn_resolutions": [], "dropout": 0.0,
    "amp_mode": True,
}  # fmt: skip
REGRESSION_SHARE = 0.25
PLACES = 4
"""Channels that say where in the field a cell is: the loss of the residual takes no network without them."""


class Model(NamedTuple):
    rain: Rain
    regression: nn.Module
    diffusion: nn.Module
    seed: int


def train(given: harness.Training) -> Model:
    torch.manual_seed(given.seed)
    rain = Rain(given.fine)
    side = given.fine.shape[-1] // FOLD
    regression = CorrDiffRegressionUNet(
        side, 2 * CHANNELS, CHANNELS, model_type="SongUNet", model_channels=32, channel_mult=[1, 2, 2], **NETWORK
    )
    diffusion = EDMPrecondSuperResolution(
        side, 3 * CHANNELS + PLACES, CHANNELS, model_channels=64, channel_mult=[1, 1, 2], **NETWORK
    )
    for network in (regression, diffusion):
        physicsnemo_cpu.single(network.model)
    of_mean = RegressionLoss()
    regression = fit(regression, lambda net, y, c: of_mean(net, y, c).mean(), given, rain, REGRESSION_SHARE)
    of_rest = ResidualLoss(regression, hr_mean_conditioning=True)
    diffusion = fit(diffusion, lambda net, y, c: of_rest(net, y, c).mean(), given, rain, 1 - REGRESSION_SHARE)
    return Model(rain, regression, diffusion, given.seed)


def refine(model: Model, coarse: harness.Array, count: int) -> harness.Array:
    made = []
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        for crop, condition in enumerate(model.rain.condition(coarse).split(1)):
            shape = (count, CHANNELS, *condition.shape[2:])
            mean = regression_step(model.regression, condition, shape).float()
            seeds = [torch.arange(count) + count * (crop + 1000 * model.seed)]
            rest = diffusion_step(
                model.diffusion, stochastic_sampler, shape[2:], CHANNELS, seeds, condition.expand(count, -1, -1, -1),
                1, torch.device("cpu"), mean[:1],
            )  # fmt: skip
            made.append(model.rain.inverse(mean + rest))
    return torch.stack(made, 1).numpy()


if __name__ == "__main__":
    harness.main(
        train, refine, lambda model: {"regression": size(model.regression), "diffusion": size(model.diffusion)}
    )
