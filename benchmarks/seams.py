"""Do windows leave seams? A trained model on a large domain, in windows of several sizes against one piece.

    python benchmarks/seams.py DATA MODEL --seed 0

DATA is a folder with mrms_west.nc, MODEL a trained model folder. For each window and halo: the root mean square
difference of members from those sampled in one piece, as a share of the ensemble's spread; and the mean absolute step
between neighbouring cells across window borders, divided by that across all other borders of coarse cells, beside the
same ratio of the run in one piece (equal: no seam). Nothing is trained: the budget is that of the model. Writes
seams.json, seams.md and seams.png.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from rain_maps import CELL

from finescale.config.load import load
from finescale.data.coarsen import coarsen
from finescale.data.files import open_field
from finescale.data.region import region
from finescale.grids.coordinates import increasing
from finescale.plots import Region, overview
from finescale.plots.maps import png

FRAME = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--size", type=int, default=640, help="fine cells a side of the domain")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    model = load(args.model)
    model.tile = None
    coarse = wettest(args, model.factor)
    run = {"members": args.members, "seed": args.seed}
    shape = tuple(coarse.sizes[dim] for dim in coarse["precipitation_rate"].dims)
    whole = values(model.downscale(coarse, window=shape, **run))
    spread = float(whole.std(0, ddof=1).mean())
    rows = []
    for cells in (128, 256):
        for halo in (0, 16, 32, 64):
            window = (1, *(m * max(1, cells // (m * model.factor.y)) for m in model.multiple[1:]))
            margin = (0, *(m * -(-halo // (m * model.factor.y)) for m in model.multiple[1:]))
            tiled = values(model.downscale(coarse, window=window, halo=margin, **run))
            borders = np.arange(window[1], shape[1], window[1]) * model.factor.y
            rows.append(
                {
                    "window": window[1] * model.factor.y,
                    "halo": margin[1] * model.factor.y,
                    "default": margin == model.halo and window == model.window,
                    "rms_share_of_spread": float(np.sqrt(np.mean((tiled - whole) ** 2))) / spread,
                    "step_ratio": step_ratio(tiled, borders, model.factor.y),
                    "step_ratio_whole": step_ratio(whole, borders, model.factor.y),
                }
            )
            print(rows[-1], flush=True)
            if rows[-1]["default"] or (cells, halo) == (128, 32):
                picture(tiled[0, 0], borders, args.results / "seams.png")
    settings = {"factor": str(model.factor), "size": args.size, "members": args.members, "seed": args.seed}
    settings |= {"model": str(model.config.get("latent")), "mean spread (mm/h)": round(spread, 4)}
    write(args.results, settings, rows)


def wettest(args: argparse.Namespace, factor: Any) -> xr.Dataset:
    """The coarse field of the wettest fully known square of the test region, one frame."""
    field = increasing(region(open_field(args.data / "mrms_west.nc"), {"lon": [-90, None]}).isel(time=[FRAME])).load()
    size = args.size - args.size % (factor.y * 16)
    best, place = -1.0, (0, 0)
    for y in range(0, field.sizes["lat"] - size + 1, 64):
        for x in range(0, field.sizes["lon"] - size + 1, 64):
            block = field.values[0, y : y + size, x : x + size]
            if np.isfinite(block).mean() > 0.99 and np.nanmean(block) > best:
                best, place = float(np.nanmean(block)), (y, x)
    (y, x) = place
    return coarsen(field.isel(lat=slice(y, y + size), lon=slice(x, x + size)), factor)


def values(ds: xr.Dataset) -> NDArray[np.float64]:
    return np.nan_to_num(ds["precipitation_rate"].values.astype(np.float64))


def step_ratio(x: NDArray[np.float64], borders: NDArray[np.int64], factor: int) -> float:
    """Mean |x[i] − x[i−1]| across window borders over that across all other coarse-cell borders."""
    across_y, across_x = np.abs(np.diff(x, axis=-2)), np.abs(np.diff(x, axis=-1))
    others = np.setdiff1d(np.arange(factor, x.shape[-1], factor), borders)
    at = np.concatenate([across_y[..., borders - 1, :].ravel(), across_x[..., borders - 1].ravel()])
    elsewhere = np.concatenate([across_y[..., others - 1, :].ravel(), across_x[..., others - 1].ravel()])
    return float(at.mean() / elsewhere.mean())


def picture(member: NDArray[np.float64], borders: NDArray[np.int64], path: Path) -> None:
    height, width = member.shape
    region = Region((0.0, width, 0.0, height), f"x ({CELL})", f"y ({CELL})")
    title = "One member, sampled in independent windows (borders at the orange marks)"
    figure = overview({title: member}, region, rain=True, columns=1, units="mm/h", label="rain rate")
    figure.set_size_inches(7.4, 8.2)
    ax = figure.axes[0]
    for b in borders:  # marked outside the picture only, so that a seam would show
        ax.plot([b, b], [-12, -3], color="tab:orange", linewidth=2.5, clip_on=False)
        ax.plot([-12, -3], [b, b], color="tab:orange", linewidth=2.5, clip_on=False)
    ax.set(xlim=(0, width), ylim=(0, height))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(figure, limit=200_000))


def write(folder: Path, settings: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "seams.json").write_text(json.dumps({"settings": settings, "rows": rows}, indent=1))
    lines = ["# Windows and seams", "", *(f"- {key}: {value}" for key, value in settings.items()), ""]
    lines += [
        "| window | halo | RMS difference / spread | step ratio at borders | the same places, one piece |",
        "|---" * 5 + "|",
    ]
    for row in rows:
        mark = " (default)" if row["default"] else ""
        lines.append(
            f"| {row['window']}{mark} | {row['halo']} | {row['rms_share_of_spread']:.4f} "
            f"| {row['step_ratio']:.3f} | {row['step_ratio_whole']:.3f} |"
        )
    (folder / "seams.md").write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
