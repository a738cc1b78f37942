"""From files to scores.json, scores.csv, figures and one self-contained report.html."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any

from finescale.data import files
from finescale.data.atomic import atomic, explained
from finescale.data.named import names
from finescale.errors import InputError, Notice
from finescale.scores.settings import Settings
from finescale.verify import figures, figures_maps
from finescale.verify.align import Aligned, align
from finescale.verify.baselines import NAMES
from finescale.verify.evaluate import evaluate, refine, settings_for
from finescale.verify.page import render
from finescale.verify.summary import as_csv, plain, summarise, uncertainty

FILES = ("scores.json", "scores.csv", "report.html", "overview.png")
FIGURES = "figures"
DEFAULT = ("nearest", "bicubic", "rainfarm", "climatology")
"""Baselines that are shown unless others are asked for."""
FIGURE_VALUES = 150_000_000
"""Values that take about as long to score as the figures to draw, for the progress."""
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
        coarse: the coarse input; else the truth's block means if the ensemble's file has ``finescale_factor``.
        baselines: names of `NAMES`; by default `DEFAULT`, those of them that suit the data (`CLIMATE`).
        against: name -> file of another ensemble to show beside it.
        variable: the variable, where a file has several.
        thresholds: events ≥ threshold for CSI and FSS.
        seed: of random ties, random baselines and the bootstrap.
        block: times in a block of the bootstrap; by default T^⅓.
        regrid: bring a truth or other ensemble on other cells to the ensemble's, by area-weighted means.
        overwrite: whether to replace results that exist.
        progress: called with the share done, of scores and figures.

    Returns:
        What scores.json holds.

    Raises:
        InputError: for files that cannot be read, are not on the same cells, share no time or have no valid cell; an
            unknown baseline; a block longer than the series; results that exist.
    """
    folder = _folder(Path(out_dir), overwrite)
    paths = {"ensemble": ensemble_path, "truth": truth_path} | ({} if coarse is None else {"coarse": coarse})
    aligned, stated = _opened(paths, against or {}, variable, regrid)
    _check(aligned, baselines, block)
    settings = settings_for(aligned, thresholds, seed)
    summary, pictures = _results(aligned, settings, baselines, block, progress or (lambda share: None))
    summary |= {"files": {name: names(path)[0] for name, path in paths.items()}, "constraint": stated}
    _publish(folder, _files(summary, pictures))
    for one in summary["trained_on"].values():
        warnings.warn(one["says"], Notice, stacklevel=2)
    return summary


def _opened(
    paths: Mapping[str, str | Path], against: Mapping[str, str | Path], variable: str | None, regrid: bool
) -> tuple[Aligned, dict[str, dict[str, float]]]:
    """The files aligned, and the conservation residuals that they state."""
    others = {name: files.open_store(path) for name, path in against.items()}
    given = {name: files.open_store(path) for name, path in paths.items()}
    fields = given["ensemble"], given["truth"], given.get("coarse")
    stated = {name: _told(ds.attrs) for name, ds in {"ensemble": given["ensemble"], **others}.items()}
    aligned = align(*fields, against=others, variable=variable, regrid=regrid)
    return aligned, {name: told for name, told in stated.items() if told}


def _check(aligned: Aligned, baselines: Sequence[str] | None, block: int | None) -> None:
    for name in baselines or ():
        if name not in NAMES:
            raise InputError(f"there is no baseline {name!r}; allowed: {', '.join(NAMES)}")
    times = aligned.truth.shape[0]
    if block is not None and not 1 <= block <= times:
        raise InputError(f"a bootstrap block has {block} times, but must have 1 to {times}: change --block")


def _results(
    aligned: Aligned,
    settings: Settings,
    baselines: Sequence[str] | None,
    block: int | None,
    progress: Callable[[float], None],
) -> tuple[dict[str, Any], list[figures.Picture]]:
    """What scores.json holds but the files, and the figures; ``progress`` counts both."""
    used = _usable(aligned, settings, baselines)
    # Scores take as long as there are values; figures about as long as `FIGURE_VALUES` do.
    values = aligned.truth.size * (sum(len(da) for da in aligned.systems.values()) + 4 * len(used))
    share = values / (values + FIGURE_VALUES)
    sums = evaluate(aligned, settings, used, lambda done: progress(share * done))
    results = {name: one.scores() for name, one in sums.items()}
    pictures: list[figures.Picture] = []
    drawn = figures_maps.pictures(aligned, settings, sums, used), figures.curves(aligned, settings, results)
    for picture in chain(*drawn):
        pictures.append(picture)
        progress(share + (1 - share) * min(len(pictures) / len(figures.NAMES), 0.99))
    summary = summarise(aligned, settings, results, uncertainty(sums, block, settings.seed))
    progress(1.0)
    return summary, pictures


def _files(summary: Mapping[str, Any], pictures: Sequence[figures.Picture]) -> dict[str, bytes]:
    """All files of the report: name -> bytes."""
    text = json.dumps(plain(summary), indent=1, ensure_ascii=False, allow_nan=False)
    made = {"scores.json": text.encode(), "scores.csv": as_csv(summary).encode()}
    made |= {"overview.png": pictures[0].files["png"], "report.html": render(summary, pictures).encode()}
    return made | {f"{FIGURES}/{p.name}.{end}": data for p in pictures for end, data in p.files.items()}


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


def _usable(aligned: Aligned, settings: Settings, baselines: Sequence[str] | None) -> list[str]:
    """The baselines that these data can have; why others cannot goes to the notes."""
    used = []
    for name in dict.fromkeys(DEFAULT if baselines is None else baselines):
        if name == "climatology":
            intervals = aligned.truth.shape[0] // (aligned.factor.time if aligned.factor else 1)
            if baselines is None and intervals < CLIMATE:
                continue
            try:
                refine(aligned, name, slice(0, aligned.factor.time if aligned.factor else 1))
            except InputError as error:
                aligned.notes.append(f"Climatology is left out: {error}.")
                continue
        elif aligned.factor is None:
            continue
        if name == "rainfarm" and not settings.rain:
            aligned.notes.append("RainFARM is left out: it is for rain.")
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


def _publish(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write all files under temporary names, then give them theirs: a full disk leaves none that is half written."""
    old = {folder / FIGURES / f"{name}.{end}" for name in figures.NAMES for end in ("png", "svg", "gif")}
    with explained(folder), ExitStack() as waiting:
        (folder / FIGURES).mkdir(parents=True, exist_ok=True)
        for name, data in contents.items():
            waiting.enter_context(atomic(folder / name)).write_bytes(data)
    for path in old - {folder / name for name in contents}:  # of an earlier report, of other data
        path.unlink(missing_ok=True)
