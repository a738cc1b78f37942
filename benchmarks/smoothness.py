"""Does a coarse field say how smooth fine ones are? The exponent of the structure function on both, network by network.

    python benchmarks/smoothness.py DATA [--crops 40]

A model that is told the smoothness of fine fields (`data.smoothing`, `finescale calibrate`) works with that of its
training data where nobody has measured it. Could it be read off the coarse field instead? Of crops of 192² cells of
each network: the exponent of log-rain, that of its block means over 2, 4 and 8 cells, and how the two go together
(Pearson's r over the crops).

Writes smoothness.json and smoothness.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from protocol import WET, rounded
from texture import PLACES
from torch import Tensor

from finescale.data.files import open_field
from finescale.data.region import region
from finescale.data.units import convert_units
from finescale.errors import InputError
from finescale.grids.coordinates import increasing
from finescale.grids.factor import Factor
from finescale.operators.coarsen import Coarsen
from finescale.operators.structure import exponent
from finescale.training.crops import Crops

FACTORS = (2, 4, 8)
AMOUNT = 0.1
"""mm/h, of log(1 + rain / AMOUNT)."""
SIDE, FRAMES = 192, 6
NETWORKS = PLACES | {
    "MCH 2017": ("mch_20170131.nc", None),
    "DWD RY": ("dwd_radolan_ry_20210823.nc", None),
    "SAF, 3 km": ("saf_crr_20180601.nc", None),
}
LEAST = 8
"""Crops below which no correlation is told."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--crops", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    found: dict[str, Any] = {}
    for network, (name, ranges) in NETWORKS.items():
        whole = region(convert_units(increasing(open_field(args.data / name)), "mm h-1"), ranges or {})
        step = max(whole.sizes["time"] // FRAMES, 1)
        some = whole.isel(time=slice(0, FRAMES * step, step)).load()
        try:
            fine = Crops([[some]], Factor(), (1, SIDE, SIDE), WET).apart(args.crops, seed=args.seed).fine
        except InputError as error:
            found[network] = {"failed": str(error)}
            continue
        found[network] = {"crops": len(fine), "fine": float(smooth(fine).nanmedian())}
        for factor in FACTORS:
            told = smooth(Coarsen(Factor(space=factor))(fine.nan_to_num()))
            found[network][f"×{factor}"] = {"coarse": float(told.nanmedian()), "r": together(smooth(fine), told)}
        write(found, args)


def smooth(rain: Tensor) -> Tensor:
    """The exponent of log-rain of every crop (N, 1, 1, H, W)."""
    known = rain.isfinite()
    return exponent(torch.log1p(rain.nan_to_num().clamp_min(0) / AMOUNT), known)


def together(one: Tensor, other: Tensor) -> float | None:
    known = one.isfinite() & other.isfinite()
    if int(known.sum()) < LEAST:
        return None
    return float(np.corrcoef(one[known].numpy(), other[known].numpy())[0, 1])


def write(found: dict[str, Any], args: argparse.Namespace) -> None:
    args.results.mkdir(parents=True, exist_ok=True)
    (args.results / "smoothness.json").write_text(json.dumps(rounded(found), indent=1) + "\n")
    lines = [
        "# Smoothness of fine and of coarse fields",
        "",
        f"Crops of {SIDE}² cells; `benchmarks/smoothness.py`.",
        "",
    ]
    lines += [f"| network | crops | fine | {' | '.join(f'×{n} | r' for n in FACTORS)} |", "|---" * 9 + "|"]
    for network, row in found.items():
        if "failed" in row:
            continue
        cells = [
            f"{row[f'×{n}']['coarse']:.2f} | {'' if row[f'×{n}']['r'] is None else format(row[f'×{n}']['r'], '.2f')}"
            for n in FACTORS
        ]
        lines.append(f"| {network} | {row['crops']} | {row['fine']:.2f} | {' | '.join(cells)} |")
    (args.results / "smoothness.md").write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
