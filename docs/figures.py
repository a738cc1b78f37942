"""Draw the figures of the docs pages that no benchmark draws.

    python docs/figures.py [MODEL]

MODEL is a trained model folder, whose log.jsonl gives the training curves.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from finescale.coarsen import Coarsen
from finescale.constraints import Additive, Bounded, Constraint, Multiplicative, Softmax, Tapered
from finescale.grid import Factor

IMAGES = Path(__file__).parent / "images"


def constraints() -> None:
    """One row of blocks before and after each constraint: too heavy, too light, dry, and all zero in the raw field."""
    factor = Factor(time=1, y=1, x=8)
    cells = np.arange(32)
    shape = torch.tensor([0.1, 0.3, 0.9, 2.0, 1.2, 0.5, 0.2, 0.0])
    raw = torch.cat([1.6 * shape, 0.9 * shape.flip(0) + 0.15, 0.4 * shape, 0 * shape])[None, None]
    coarse = torch.tensor([[[0.5, 1.1, 0.0, 0.4]]])
    layers: dict[str, tuple[Constraint, torch.Tensor]] = {
        "additive": (Additive(factor), raw),
        "multiplicative": (Multiplicative(factor), raw),
        "softmax (raw field as logits)": (Softmax(factor), raw),
        "bounded on [0, 3]": (Bounded(factor, low=0.0, high=3.0), raw),
        "tapered, p = 1/2, tau = 0.4": (Tapered(factor, power=0.5, tau=0.4), raw),
    }
    fields = {"raw network output": raw} | {name: layer(y, coarse) for name, (layer, y) in layers.items()}
    figure = Figure(figsize=(9, 5), layout="constrained")
    for ax, (name, x) in zip(figure.subplots(2, 3, sharex=True, sharey=True).flat, fields.items(), strict=True):
        means = Coarsen(factor)(x)[0, 0]
        ax.bar(cells, x[0, 0], width=1, color="tab:blue", alpha=0.55, label="fine")
        ax.stairs(coarse[0, 0], np.arange(5) * 8 - 0.5, color="k", lw=2, baseline=None, label="coarse input")
        ax.stairs(means, np.arange(5) * 8 - 0.5, color="tab:orange", lw=2, ls="--", baseline=None, label="block means")
        for edge in (7.5, 15.5, 23.5):
            ax.axvline(edge, color="0.8", lw=0.6, zorder=0)
        ax.axhline(0, color="0.5", lw=0.6)
        ax.set_title(f"{name}\nleast {float(x.min()):.2f}, largest {float(x.max()):.2f}", fontsize=10)
        ax.set_xticks([3.5, 11.5, 19.5, 27.5], ["too heavy", "too light", "dry in c", "zero in y"], fontsize=8)
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(IMAGES / "constraints.png", dpi=80)


def training(model: Path) -> None:
    """Training and validation losses of both stages."""
    rows = [json.loads(line) for line in (model / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    stages = list(dict.fromkeys(row["stage"] for row in rows))
    figure = Figure(figsize=(4 * len(stages) + 1, 3.2), layout="constrained")
    for ax, stage in zip(np.atleast_1d(figure.subplots(1, len(stages))), stages, strict=True):
        part = [row for row in rows if row["stage"] == stage]
        steps = [row["step"] for row in part]
        ax.plot(steps, [row["loss"] for row in part], label="training", color="0.5")
        ax.plot(steps, [row["valid"] for row in part], label="validation, averaged weights", color="tab:blue")
        ax.set(title=stage, xlabel="step", ylabel="loss")
        ax.legend(frameon=False)
    figure.savefig(IMAGES / "training.png", dpi=90)


if __name__ == "__main__":
    constraints()
    if len(sys.argv) > 1:
        training(Path(sys.argv[1]))
