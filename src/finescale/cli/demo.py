"""Rain from truth to a scored ensemble: synthetic, with a model trained on the way, in a few minutes on two cores; or
radar, with a model of the package, in less than one.

Each step is one of the other commands, printed so that it can be repeated on other data.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import xarray as xr
import yaml

from finescale.data.atomic import explained
from finescale.data.coarsen import coarsen
from finescale.data.samples import radar
from finescale.data.synthetic import synthetic_rain
from finescale.data.writing import write
from finescale.errors import InputError
from finescale.grids.factor import Factor

FACTOR = Factor(time=1, space=8)
MEMBERS = 8
REAL_MODEL = "rain"
YOUR_OWN = (
    "Next, with your own fine data (NetCDF, Zarr, GRIB or GeoTIFF):",
    "  finescale fit wavelet -o mymodel --set data.path=FINE.nc --set factor=1x8 --set train.minutes=30",
    "  finescale downscale mymodel COARSE.nc -o ensemble.nc",
)
MADE_YOURS = (
    "Next, with rain of yours (NetCDF, Zarr, GRIB or GeoTIFF), and made more like it by a few fine fields:",
    f"  finescale downscale {REAL_MODEL} COARSE.nc -o ensemble.nc --factor 1x8",
    f"  finescale calibrate {REAL_MODEL} FINE.nc -o mine --factor 1x8",
    f"  finescale fit --start {REAL_MODEL} -o mine --set data.path=FINE.nc --set train.minutes=10",
)
MARK = "finescale-demo.txt"
"""What tells a folder of an earlier demo from any other."""
TRAINING_SEEDS = (1, 2, 3)
CONFIG: dict[str, Any] = {
    "preset": "wavelet",
    "factor": str(FACTOR),
    "mean": {"backbone": {"width": 32}},
    "denoiser": {"backbone": {"width": 48}},
    "data": {"crop": 64},
    "train": {"minutes": 2, "batch": 24},
}


def run(out: str | Path = "demo-output", overwrite: bool = True, real: bool = False) -> dict[str, Any]:
    """Make data, coarsen, fit, downscale, verify; returns what scores.json holds.

    Args:
        out: folder for everything made.
        overwrite: replace the results of an earlier demo.
        real: take radar and a model that comes with the package, and train none.

    Raises:
        InputError: if ``out`` holds something other than an earlier demo, or the ensemble does not beat the baselines.
    """
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; name a folder for the demo with -o")
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).is_file():
        raise InputError(f"{folder} holds other files than an earlier demo's ({MARK}); name another folder with -o")
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARK).write_text("Made by `finescale demo`, which may replace everything here.\n", encoding="utf-8")
    started = time.monotonic()
    model = _real(folder) if real else _trained(folder, started, overwrite)
    from finescale.verbs import downscale
    from finescale.verify.report import verify

    words = f"finescale downscale {model} {folder}/coarse.nc -o {folder}/ensemble.nc --members {MEMBERS}"
    _step(started, words + (f" --factor {FACTOR}" if real else ""))
    factor = str(FACTOR) if real else None
    downscale(model, folder / "coarse.nc", folder / "ensemble.nc", members=MEMBERS, factor=factor, overwrite=overwrite)
    _step(
        started,
        f"finescale verify {folder}/ensemble.nc {folder}/truth.nc -o {folder}/scores --coarse {folder}/coarse.nc",
    )
    scores = verify(
        folder / "ensemble.nc", folder / "truth.nc", folder / "scores", folder / "coarse.nc", overwrite=overwrite
    )
    print(f"\n{scorecard(scores)}\n\n{_next_steps(folder, model)}\n\nDone in {time.monotonic() - started:.0f} s.")
    return scores


def scorecard(scores: dict[str, Any]) -> str:
    """The systems and their main scores as a table, the best marked with a star, and the verdict in four lines."""
    from finescale.verify.scorecard import text

    lines = [f"{line['head']}. {line['says']}" for line in scores["verdict"].values()]
    return "\n".join([text(scores), "* best", "", *lines])


def _trained(folder: Path, started: float, overwrite: bool) -> str:
    """Synthetic rain, and the folder of a model trained on other synthetic rain."""
    config = _make_data(folder)
    _step(started, f"finescale fit {folder}/config.yaml -o {folder}/model")
    from finescale.training.fit import fit

    fit(config, folder / "model", overwrite=overwrite)
    return f"{folder}/model"


def _real(folder: Path) -> str:
    """Radar, and the name of a model."""
    truth = radar()
    write(truth, folder / "truth.nc", overwrite=True)
    _coarsened(truth["precipitation_rate"], folder)
    return REAL_MODEL


def _coarsened(truth: xr.DataArray, folder: Path) -> None:
    _step(time.monotonic(), f"finescale coarsen {folder}/truth.nc -o {folder}/coarse.nc --factor {FACTOR}")
    write(coarsen(truth, FACTOR), folder / "coarse.nc", overwrite=True)


def _make_data(folder: Path) -> Path:
    """Training files, truth and its coarse block means, and the configuration; returns the latter's path."""
    train = []
    for seed in TRAINING_SEEDS:
        train.append(str(folder / f"train{seed}.nc"))
        write(
            synthetic_rain((12, 256, 256), seed=seed, start=f"2024-06-0{seed}").to_dataset(), train[-1], overwrite=True
        )
    truth = synthetic_rain((6, 160, 208), seed=99)  # on another day
    write(truth.to_dataset(), folder / "truth.nc", overwrite=True)
    _coarsened(truth, folder)
    config = CONFIG | {"data": CONFIG["data"] | {"path": train}, "train": CONFIG["train"]}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


def _next_steps(folder: Path, model: str) -> str:
    return "\n".join(
        [
            f"Report:   {folder}/scores/report.html   (open it in a browser)",
            f"Picture:  {folder}/scores/overview.png",
            f"Ensemble: {folder}/ensemble.nc, model: {model}, all scores: {folder}/scores/scores.json",
            "",
            *(MADE_YOURS if model == REAL_MODEL else YOUR_OWN),
        ]
    )


def _step(started: float, command: str) -> None:
    print(f"[{time.monotonic() - started:4.0f} s] $ {command}", flush=True)
