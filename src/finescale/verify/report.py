"""From files to scores.json, scores.csv, figures and one self-contained report.html."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from finescale.data import open as stores
from finescale.errors import InputError
from finescale.verify import figures, figures_maps
from finescale.verify.align import Case, align
from finescale.verify.baselines import BASELINES, NAMES
from finescale.verify.evaluate import evaluate, refine, settings_for
from finescale.verify.page import render
from finescale.verify.settings import Settings
from finescale.verify.summary import as_csv, plain, summarise, uncertainty

FILES = ("scores.json", "scores.csv", "report.html", "overview.png")
FIGURES = "figures"
DEFAULT = ("nearest", "bicubic", "rainfarm", "climatology")
"""Baselines that are shown unless others are asked for."""
CLIMATE = 12
"""Coarse intervals from which the truth's other times are weather enough for climatology, unless it is asked for."""


def verify(
    ensemble_path: str | Path,
    truth_path: str | Path,
    out_dir: str | Path,
    coarse: str | Path | None = None,
    baselines: Sequence[str] | None = None,
    *,
    against: Mapping[str, str | Path] | None = None,
    variable: str | None = None,
    thresholds: Sequence[float] | None = None,
    seed: int = 0,
    block: int | None = None,
    regrid: bool = False,
    overwrite: bool = False,
    progress: Callable[[float], None] | None = None,
) -> dict[str, Any]:
    """Score an ensemble file against a truth file; write scores, figures and report.html into ``out_dir``.

    Args:
        ensemble_path: NetCDF, Zarr, GRIB or GeoTIFF with ([realization,] time, y, x).
        truth_path: the truth on the same cells, for some or all of the times.
        out_dir: a folder, made if missing.
        coarse: the coarse input; without it the truth's block means stand in if the ensemble's file has
            ``finescale_factor``.
        baselines: names of `NAMES`; by default nearest, bicubic, RainFARM for rain, and climatology where the truth has
            at least `CLIMATE` coarse intervals.
        against: name -> file of another ensemble to show beside it.
        variable: the variable, where a file has several.
        thresholds: events ≥ threshold for CSI and FSS.
        seed: of random ties, random baselines and the bootstrap.
        block: times in a block of the bootstrap; by default T^⅓.
        regrid: bring a truth or other ensemble on other cells to the ensemble's, by area-weighted means.
        overwrite: whether to replace results that exist.
        progress: called with the share done.

    Returns:
        What scores.json holds.

    Raises:
        InputError: for files that cannot be read, are not on the same cells or share no time; data without a valid
            cell; an unknown baseline; a block longer than the series; results that exist.
    """
    folder = _folder(Path(out_dir), overwrite)
    for name in baselines or ():
        if name not in NAMES:
            raise InputError(f"there is no baseline {name!r}; allowed: {', '.join(NAMES)}")
    fields = {name: stores.open_store(path) for name, path in (against or {}).items()}
    low = None if coarse is None else stores.open_store(coarse)
    ensemble = stores.open_store(ensemble_path)
    truth = stores.open_store(truth_path)
    case = align(ensemble, truth, low, against=fields, variable=variable, regrid=regrid)
    times = case.truth.shape[0]
    if block is not None and not 1 <= block <= times:
        raise InputError(f"a bootstrap block has {block} times, but must have 1 to {times}: change --block")
    settings = settings_for(case, thresholds, seed)
    used = _usable(case, settings, baselines)
    sums = evaluate(case, settings, used, progress)
    results = {name: one.scores() for name, one in sums.items()}
    pictures = [*figures_maps.pictures(case, settings, sums, used), *figures.curves(case, settings, results)]
    summary = summarise(case, settings, results, uncertainty(sums, block, seed))
    named = {"ensemble": ensemble_path, "truth": truth_path} | ({} if coarse is None else {"coarse": coarse})
    summary["files"] = {key: Path(path).name for key, path in named.items()}
    summary["constraint"] = {name: r for name, ds in {"ensemble": ensemble, **fields}.items() if (r := _told(ds.attrs))}
    text = json.dumps(plain(summary), indent=1, ensure_ascii=False, allow_nan=False)
    written = {
        "scores.json": text.encode(),
        "scores.csv": as_csv(summary).encode(),
        "overview.png": pictures[0].files["png"],
    }
    written |= {f"{FIGURES}/{p.name}.{end}": data for p in pictures for end, data in p.files.items()}
    _publish(folder, written | {"report.html": render(summary, pictures).encode()})
    return summary


def names_of(paths: Sequence[Path]) -> dict[str, Path]:
    """A name for each file of another system: its own, with its folder's where two would be alike."""
    taken: dict[str, Path] = {}
    for path in paths:
        free = (
            n
            for n in (path.stem, f"{path.absolute().parent.name}/{path.stem}")
            if n not in (*taken, "ensemble", *NAMES)
        )
        taken[next(free, f"{path.stem} ({len(taken) + 1})")] = path
    return taken


def _usable(case: Case, settings: Settings, baselines: Sequence[str] | None) -> list[str]:
    """The baselines that this case can have; why others cannot goes to the notes."""
    used = []
    for name in dict.fromkeys(DEFAULT if baselines is None else baselines):
        if name == "climatology":
            intervals = case.truth.shape[0] // (case.factor.time if case.factor else 1)
            if baselines is None and intervals < CLIMATE:
                continue
            try:
                refine(case, name, slice(0, case.factor.time if case.factor else 1))
            except InputError as error:
                case.notes.append(f"Climatology is left out: {error}.")
                continue
        elif case.factor is None:
            continue
        if name == "rainfarm":
            if not settings.rain:
                case.notes.append("RainFARM is left out: it is for rain.")
                continue
            try:
                BASELINES[name](np.ones((1, 4, 4)), case.factor, members=1)
            except InputError as error:
                case.notes.append(f"RainFARM is left out: {error}.")
                continue
        used.append(name)
    return used


def _told(attrs: Mapping[Any, Any]) -> dict[str, float]:
    """Conservation residuals that the file itself states: {after, before} the constraint."""
    found = {}
    for key, name in (
        ("after", "finescale_conservation_residual"),
        ("before", "finescale_conservation_residual_before"),
    ):
        try:
            value = float(attrs[name])
        except (KeyError, TypeError, ValueError):
            continue
        if math.isfinite(value):
            found[key] = value
    return found


def _folder(folder: Path, overwrite: bool) -> Path:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"the output {folder} is a file, but must be a folder: choose another name")
    there = [name for name in FILES if (folder / name).exists()]
    if there and not overwrite:
        raise InputError(f"{folder} already holds {', '.join(there)}: choose another folder or give --overwrite")
    return folder


def _publish(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write all files under temporary names, then give them theirs: a full disk leaves none that is half written."""
    waiting = {folder / name: stores.partial_path(folder / name) for name in files}
    old = {folder / FIGURES / f"{name}.{end}" for name in figures.NAMES for end in ("png", "svg", "gif")} - set(waiting)
    try:
        with stores.writing(folder, stores.partial_path(folder)):
            (folder / FIGURES).mkdir(parents=True, exist_ok=True)
            for temporary, data in zip(waiting.values(), files.values(), strict=True):
                temporary.write_bytes(data)
            for path, temporary in waiting.items():
                os.replace(temporary, path)
            for path in old:  # of an earlier report, of other data
                path.unlink(missing_ok=True)
    finally:
        for temporary in waiting.values():
            temporary.unlink(missing_ok=True)
