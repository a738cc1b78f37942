"""Whether detail moves with the noise it is made of: members of uniform rain, of noise moved by whole cells.

    python benchmarks/moved_noise.py [--model rain] [--factors 1x8 1x10 1x25]

Of noise w(p) and w(p − k), k cells along x, a filter that is the same everywhere makes fields y and y(p − k). What a
generator makes differs from that where its amplitudes depend on where a cell lies in its block and its coarse cell. Of
uniform rain of 5 and .7 mm/h, before the constraint and in the transform's space: the correlation of the field of moved
noise with the field moved. Writes moved_noise.json and moved_noise.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from protocol import rounded

import finescale
from finescale.downscaler import Downscaler
from finescale.grids.factor import Factor
from finescale.model import sampling
from finescale.model.batch import Inputs

AMOUNTS, SHIFTS = (5.0, 0.7), (1, 2, 3, 4, 8)
"""mm/h, and cells."""
SIDE, EDGE = 216, 32
"""Fine cells of a field at least, and those at its edges that are not compared."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="rain", help="a name or a folder of a generator")
    parser.add_argument("--factors", nargs="+", default=["1x8", "1x10", "1x25"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    model, rows = finescale.load(args.model), []
    for factor in args.factors:
        served = model if model.factors.single is not None else model.at(Factor.parse(factor))
        rows += [{"factor": factor, "mm/h": amount, **alike(served, amount)} for amount in AMOUNTS]
    write(rows, args)


@torch.no_grad()
def alike(model: Downscaler, amount: float) -> dict[str, float]:
    """Correlations of fields of moved noise with fields moved, by cells."""
    assert model.generator is not None
    factor, most = model.factor, max(SHIFTS)
    given = Inputs(coarse=torch.full((1, 1, 1, -(-SIDE // factor.y), -(-SIDE // factor.x)), amount))
    cond = sampling.conditions(model, given)
    mu = sampling.mean(model, given, cond)
    scalars = model.scalars(factor, 1)
    shared = model.generator.trunk(sampling.folded(model, cond, mu), scalars)
    height, width = mu.shape[-2:]
    noise = torch.randn(1, 1, 1, height, width + most)

    def field(shift: int) -> np.ndarray[Any, Any]:
        w = model.latent.analysis(noise[..., most - shift : most - shift + width])
        z = model.generator.head(shared, w[:, None], model.scale(factor))[:, 0]
        return (mu + model.decode(z, factor))[0, 0, 0].numpy()

    still = field(0)[EDGE:-EDGE, EDGE : -EDGE - most].ravel()
    moved = {k: field(k)[EDGE:-EDGE, EDGE + k : width - EDGE - most + k].ravel() for k in SHIFTS}
    return {f"{k} cells": float(np.corrcoef(still, other)[0, 1]) for k, other in moved.items()}


def write(rows: list[dict[str, Any]], args: argparse.Namespace) -> None:
    command = f"python benchmarks/moved_noise.py --model {Path(args.model).name}"
    found = {"model": Path(args.model).name, "seed": args.seed, "command": command, "rows": rows}
    args.results.mkdir(parents=True, exist_ok=True)
    (args.results / "moved_noise.json").write_text(json.dumps(rounded(found), indent=1) + "\n")
    lines = [
        "# Noise that moves, and the detail it makes",
        "",
        f"Correlation of a field of moved noise with the field moved, uniform rain; `{command}`.",
        "",
        f"| {' | '.join(rows[0])} |",
        "|---" * len(rows[0]) + "|",
        *[f"| {' | '.join(v if isinstance(v, str) else f'{v:.2f}' for v in row.values())} |" for row in rows],
        "",
    ]
    (args.results / "moved_noise.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
