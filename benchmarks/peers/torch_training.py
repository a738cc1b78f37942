"""What users of a torch library write themselves: the transform of rain, what networks are given, and the loop.

The settings of training are those of finescale where a library has none of its own: Adam, a cosine from 1e-3, clipped
gradients, averaged weights, bfloat16.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy

import harness
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

BATCH, WARMUP, FOLD = 8, 100, 4
CHANNELS = FOLD**2
"""Of a folded field."""
SAMPLE = 512
"""Crops from which mean and spread are taken."""


class Rain:
    """y = spread (log(1 + R / 0.1) − mean) / std, folded to channels, and back, where less than 0.05 mm/h is none.

    Squares of 4 × 4 cells become 16 channels, as in finescale's networks: a step of training at full resolution takes
    four times as long.
    """

    def __init__(self, fine: harness.Array, spread: float = 1.0) -> None:
        y = np.log1p(fine[:SAMPLE] / 0.1)
        self.mean, self.scale = float(y.mean()), spread / float(y.std())

    def forward(self, rain: Tensor) -> Tensor:
        """Rain (n, 1, H, W) as channels (n, 16, H / 4, W / 4)."""
        return F.pixel_unshuffle((torch.log1p(rain / 0.1) - self.mean) * self.scale, FOLD)

    def inverse(self, y: Tensor) -> Tensor:
        """Channels as rain (n, H, W)."""
        rain = 0.1 * torch.expm1((F.pixel_shuffle(y.float(), FOLD)[:, 0] / self.scale + self.mean).clamp(0, 12))
        return torch.where(rain < 0.05, 0.0, rain)

    def condition(self, coarse: harness.Array) -> Tensor:
        """The coarse field (n, h, w) as channels (n, 32, H / 4, W / 4): linear between cells, and constant in them."""
        rain = torch.from_numpy(np.array(coarse))[:, None]
        linear = F.interpolate(rain, scale_factor=harness.FACTOR, mode="bilinear")
        return torch.cat([self.forward(linear), self.forward(F.interpolate(rain, scale_factor=harness.FACTOR))], 1)


def fit(
    network: nn.Module,
    loss: Callable[[nn.Module, Tensor, Tensor], Tensor],
    given: harness.Training,
    rain: Rain,
    share: float = 1.0,
    rate: float = 1e-3,
) -> nn.Module:
    """Minimise loss(network, fine, condition) for a share of the time; the network with averaged weights."""
    clock, rng = harness.Clock(given.seconds * share), np.random.default_rng(given.seed)
    network = network.to(memory_format=torch.channels_last).train()
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.99))
    optimizer = torch.optim.Adam(network.parameters(), lr=rate, betas=(0.9, 0.99))
    step = 0
    while (spent := clock.spent) < 1:
        optimizer.param_groups[0]["lr"] = rate * min(1, (step + 1) / WARMUP) * (1 + math.cos(math.pi * spent)) / 2
        crops = np.sort(rng.choice(len(given.fine), BATCH, replace=False))
        fine = rain.forward(torch.from_numpy(given.fine[crops])[:, None])
        condition = rain.condition(given.coarse[crops])
        with torch.autocast("cpu", torch.bfloat16):
            value = loss(network, fine, condition)
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.update_parameters(network)
        step += 1
        if step % 50 == 0:
            print(f"step {step}, {spent:.2f} of the time, loss {value.item():.4f}", flush=True)
    given.steps.append(step)
    # In the mode of training, which without dropout differs in nothing but that physicsnemo's normalisation is quicker.
    return deepcopy(average.module).requires_grad_(False)


def size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
