"""
Conservation in a network of your own
=====================================

A network that makes fine fields of coarse ones seldom keeps their means. With one layer
more it does, exactly, before, during and after training: a *constraint*. It is a
``torch.nn.Module`` that works on plain tensors. Nothing else of finescale is needed.
"""

# %%
# Relative humidity, between 0 and 1, stands for your data: smooth random fields of 32 ×
# 32 cells, and their means over 4 × 4 cells.

import torch
from torch import Tensor, nn

from finescale.data.synthetic import gaussian_field

FACTOR = 4
fields = gaussian_field((256, 32, 32), seed=0, outer_km=30, cadence_minutes=60)
fine = torch.special.ndtr(torch.from_numpy(fields))[:, None]
coarse = nn.functional.avg_pool2d(fine, FACTOR)
print("fine", tuple(fine.shape), "coarse", tuple(coarse.shape))

# %%
# A small network of two convolutions that makes 4 × 4 cells of each one. Its twin has a
# constraint behind it. ``Bounded`` is for values between two limits; rain would take
# ``Multiplicative``, temperature ``Additive``.

from finescale import Factor
from finescale.constraints import Bounded


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(1, 32, 5, padding=2, padding_mode="reflect"),
        nn.ReLU(),
        nn.Conv2d(32, FACTOR**2, 3, padding=1),
    ]
    return nn.Sequential(*layers, nn.PixelShuffle(FACTOR), nn.Sigmoid())


class Conserving(nn.Module):
    """Any network, and a constraint on what it returns."""

    def __init__(self, network: nn.Module, constraint: nn.Module) -> None:
        super().__init__()
        self.network, self.constraint = network, constraint

    def forward(self, coarse: Tensor) -> Tensor:
        return self.constraint(self.network(coarse), coarse)


constraint = Bounded(Factor(space=FACTOR), low=0.0, high=1.0)
models = {"without": network(), "with": Conserving(network(), constraint)}

# %%
# Both are trained alike on the first 240 fields. Gradients go through the constraint.

STEPS = 200


def train(model: nn.Module) -> list[float]:
    """Root mean square error of each step."""
    torch.manual_seed(1)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    errors = []
    for _ in range(STEPS):
        chosen = torch.randint(240, (16,))
        loss = (model(coarse[chosen]) - fine[chosen]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        errors.append(loss.item() ** 0.5)
    return errors


errors = {name: train(model) for name, model in models.items()}

# %%
# The other 16 fields: ``violation`` is the largest error of a block mean, over the
# largest coarse value.

with torch.no_grad():
    made = {name: model(coarse[240:]) for name, model in models.items()}
for name, x in made.items():
    error = float((x - fine[240:]).square().mean().sqrt())
    violation = float(constraint.violation(x, coarse[240:]))
    print(f"{name:8} error {error:.4f}, violation {violation:.1e}")

# %%
# The network that conserves begins where the other one has to learn to get: at the
# right means.

import matplotlib
from matplotlib.figure import Figure

from finescale.plots import COLOURS, STYLE

matplotlib.rcParams.update(STYLE)
figure = Figure(figsize=(7, 3.6), layout="constrained")
ax = figure.subplots()
for name, colour in (("without", COLOURS[1]), ("with", COLOURS[0])):
    ax.plot(errors[name], color=colour, label=f"{name} the constraint")
ax.set(xlabel="step", ylabel="root mean square error (1)", ylim=(0, None))
ax.set_title("Training on relative humidity")
ax.grid(color="#e3e6ea")
ax.set_axisbelow(True)
ax.legend()
figure

# %%
# One field, and how far the block means of the first network are from the coarse field.
# Those of the other differ from it by rounding alone.

from finescale.plots import Region, overview

fields = {
    "Coarse": coarse[-1, 0],
    "Without": made["without"][-1, 0],
    "With": made["with"][-1, 0],
    "Truth": fine[-1, 0],
}
means = nn.functional.avg_pool2d(made["without"], FACTOR)
wrong = "Without: means less coarse"
fields[wrong] = means[-1, 0] - coarse[-1, 0]
place = Region((0, 32, 0, 32), "x (km)", "y (km)")
figure = overview(fields, place, units="1", label="relative humidity", errors=(wrong,))
figure.suptitle("A field not trained on", fontweight="bold")
figure

# %%
# All constraints, with cell areas, masks, an axis of time and several variables, are in
# the guide to conservation, which also says what they gain for seven networks.
