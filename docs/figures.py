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
from finescale.constraints import Additive, Multiplicative
from finescale.data.synthetic import synthetic_rain
from finescale.grid import Factor

IMAGES = Path(__file__).parent / "images"


def conservation() -> None:
    """A profile through five coarse cells before and after each constraint."""
    factor = Factor(space=8)
    truth = torch.from_numpy(synthetic_rain((1, 64, 64), seed=8).values[None, None])
    coarse = Coarsen(factor)(truth)
    row = int((truth[0, 0, 0] > 0.1).sum(1).argmax())
    generator = torch.Generator().manual_seed(1)
    raw = (truth * (1.6 + 0.3 * torch.randn(truth.shape, generator=generator)) + 0.3).clamp_min(0)
    block = row // 8
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    fields = {
        "raw network output": raw,
        "additive": Additive(factor)(raw, coarse),
        "multiplicative": Multiplicative(factor)(raw, coarse),
    }
    for ax, (title, x) in zip(axes, fields.items(), strict=True):
        means = Coarsen(factor)(x)[0, 0, 0, block]
        cells = np.arange(64)
        ax.plot(cells, x[0, 0, 0, row], color="tab:blue", lw=1, label="fine, one row")
        ax.step(cells, np.repeat(means, 8), where="mid", color="tab:orange", lw=1.6, label="its block means")
        ax.step(
            cells, np.repeat(coarse[0, 0, 0, block], 8), where="mid", color="k", lw=1, ls="--", label="coarse input"
        )
        ax.axhline(0, color="0.7", lw=0.6)
        worst = float((means - coarse[0, 0, 0, block]).abs().max())
        ax.set_title(f"{title}\nworst block off by {worst:.1g} mm/h", fontsize=10)
        ax.set_xlabel("fine cell")
    axes[0].set_ylabel("rain rate (mm/h)")
    axes[-1].legend(frameon=False)
    figure.savefig(IMAGES / "conservation.png", dpi=90)


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
    conservation()
    if len(sys.argv) > 1:
        training(Path(sys.argv[1]))
