"""Make any network conserve: a constraint as its last layer, two lines on plain tensors.

A small network sharpens pictures of 8 x 8 cells fourfold. With the layer its block means equal the input exactly,
before, during and after training; nothing else of finescale is used.

    python examples/conserve_any_network.py
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from finescale.constraints import Bounded
from finescale.grids.factor import Factor

FACTOR = Factor(space=4)


class Conserving(nn.Module):
    """Any network, and a constraint on what it returns."""

    def __init__(self, network: nn.Module, constraint: nn.Module) -> None:
        super().__init__()
        self.network, self.constraint = network, constraint

    def forward(self, coarse: Tensor) -> Tensor:
        x: Tensor = self.constraint(self.network(coarse), coarse)
        return x


def pictures(count: int) -> Tensor:
    """Discs of random place, size and brightness, (count, 1, 32, 32) in [0, 1]."""
    axis = torch.linspace(0, 1, 32)
    y, x, radius, value = torch.rand(4, count, 1, 1)
    distance = ((axis[:, None] - y) ** 2 + (axis - x) ** 2).sqrt()
    return torch.where(distance < 0.1 + 0.3 * radius, value, 0.1)[:, None]


def train(model: nn.Module, steps: int = 150) -> float:
    """Mean squared error on new pictures after training."""
    torch.manual_seed(0)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(steps + 1):
        fine = pictures(16)
        loss = (model(nn.functional.avg_pool2d(fine, 4)) - fine).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return loss.item()


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.PixelShuffle(4)]
    return nn.Sequential(*layers, nn.Sigmoid())


if __name__ == "__main__":
    constraint = Bounded(FACTOR, low=0.0, high=1.0)
    free, strict = network(), Conserving(network(), constraint)
    fine = pictures(16)
    coarse = nn.functional.avg_pool2d(fine, 4)
    for name, model in (("none", free), ("bounded", strict)):
        loss = train(model)
        with torch.no_grad():
            x = model(coarse)
        print(f"{name:8} loss {loss:.5f}  violation {float(constraint.violation(x, coarse)):.1e}", end="  ")
        print(f"range {float(x.min()):.3f} to {float(x.max()):.3f}")
