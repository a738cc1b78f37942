"""From files to scores.json, overview.png and one self-contained report.html."""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from finescale.data import open as stores
from finescale.errors import InputError
from finescale.verify.align import Case, align
from finescale.verify.baselines import BASELINES, NAMES
from finescale.verify.dataset import NOT_SCORES
from finescale.verify.entries import ENTRIES
from finescale.verify.evaluate import evaluate, refine, settings_for, wavenumbers
from finescale.verify.scorecard import confidence, table, title, verdict
from finescale.verify.settings import Settings

FILES = ("scores.json", "report.html", "overview.png")
_PROBABILISTIC = (
    *("spread_skill", "rank_departure", "rank_histogram", "energy_score"),
    *("pit_histogram", "mace", "coverage", "coverage_expected", "brier_fair"),
)


def verify(
    ensemble_path: str | Path,
    truth_path: str | Path,
    out_dir: str | Path,
    coarse: str | Path | None = None,
    baselines: Sequence[str] = ("nearest", "bicubic", "rainfarm"),
    *,
    against: Mapping[str, str | Path] | None = None,
    variable: str | None = None,
    thresholds: Sequence[float] | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: Callable[[float], None] | None = None,
) -> dict[str, Any]:
    """Score an ensemble file against a truth file and write scores.json, overview.png and report.html into ``out_dir``.

    Args:
        ensemble_path: NetCDF, Zarr, GRIB or GeoTIFF with ([realization,] time, y, x).
        truth_path: the truth on the same cells, for some or all of the times.
        out_dir: a folder, made if missing.
        coarse: the coarse input; without it the truth's block means stand in if the ensemble's file has
            ``finescale_factor``.
        baselines: names of `BASELINES`.
        against: name -> file of another ensemble to show beside it.
        variable: the variable, where a file has several.
        thresholds: events ≥ threshold for CSI and FSS.
        seed: of random ties and random baselines.
        overwrite: whether to replace results that exist.
        progress: called with the share done.

    Returns:
        What scores.json holds.

    Raises:
        InputError: for files that cannot be read, are not on the same cells or share no time; data without a valid
            cell; an unknown baseline; results that exist.
    """
    folder = _folder(Path(out_dir), overwrite)
    for name in baselines:
        if name not in NAMES:
            raise InputError(f"there is no baseline {name!r}; allowed: {', '.join(NAMES)}")
    fields = {name: stores.open_store(path) for name, path in (against or {}).items()}
    low = None if coarse is None else stores.open_store(coarse)
    case = align(
        stores.open_store(ensemble_path), stores.open_store(truth_path), low, against=fields, variable=variable
    )
    settings = settings_for(case, thresholds, seed)
    used = _usable(case, settings, baselines)
    sums = evaluate(case, settings, used, progress)
    results = {name: one.scores() for name, one in sums.items()}
    summary = summarise(case, settings, results)
    summary |= {"files": {"ensemble": Path(ensemble_path).name, "truth": Path(truth_path).name}}
    if coarse is not None:
        summary["files"]["coarse"] = Path(coarse).name
    pictures = figures(case, settings, results, used)
    page = render(summary, pictures).encode()
    text = json.dumps(_plain(summary), indent=1, ensure_ascii=False, allow_nan=False).encode()
    _publish(folder, {"scores.json": text, "overview.png": pictures["maps"], "report.html": page})
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


def summarise(case: Case, settings: Settings, results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Everything of scores.json but the file names: verdict, sizes, scores of all systems, definitions, notes."""
    units = str(case.truth.attrs.get("units", ""))
    alone = results["ensemble"]["members"] == 1
    out = list(_PROBABILISTIC) if alone else []
    notes = list(case.notes)
    if alone:
        notes.append(
            "The ensemble has one member: spread–skill, rank and PIT histograms, coverage, fair Brier "
            "score and energy score are left out, and its "
            "CRPS is the absolute error."
        )
    systems = {name: {k: v for k, v in r.items() if k not in (*out, *NOT_SCORES[:4])} for name, r in results.items()}
    if not alone:
        systems = {
            n: {k: v for k, v in r.items() if r["members"] > 1 or k not in _PROBABILISTIC} for n, r in systems.items()
        }
    return {
        "finescale": _version(),
        "verdict": verdict(results, units),
        "confidence": confidence(results, units),
        "variable": str(case.systems["ensemble"].name or case.truth.name or "field"),
        "units": units,
        "members": results["ensemble"]["members"],
        "times": results["ensemble"]["times"],
        "grid": [int(n) for n in case.truth.shape[1:]],
        "cells": results["ensemble"]["cells"],
        "factor": None if case.factor is None else str(case.factor),
        "seed": settings.seed,
        "dry_threshold": settings.dry,
        "thresholds": list(settings.thresholds),
        "fss_scales_cells": list(settings.scales),
        "coverage_levels": results["ensemble"]["coverage_levels"],
        "quantile_levels": results["ensemble"]["quantile_levels"],
        "wavenumber": wavenumbers(case.truth.shape, settings.cell),
        "systems": systems,
        "left_out": out,
        "notes": notes,
        "definitions": {
            e.key: {
                "name": e.name,
                "best": e.best,
                "units": units if e.in_units else "dB" if e.key == "psnr" else "1",
                "meaning": e.meaning,
            }
            for e in ENTRIES
            if e.key in results["ensemble"] and e.key not in out
        },
    }


def figures(
    case: Case, settings: Settings, results: Mapping[str, Mapping[str, Any]], used: Sequence[str]
) -> dict[str, bytes]:
    """PNG files maps (wide), maps_narrow (two columns), spectra, and ranks of several members; the text "when"."""
    from finescale.plots import diagnostics, maps
    from finescale.plots.frame import frame_of, tame

    fields, when = _map_fields(case, settings, used)
    units, rain = str(case.truth.attrs.get("units", "")), settings.rain
    frame, length = frame_of(case.truth)
    apart = () if rain else ("Spread",)
    what = str(case.truth.attrs.get("long_name") or case.truth.name or "")
    options: dict[str, Any] = {"units": units, "rain": rain, "apart": apart, "label": tame(what)}
    pictures = {
        f"maps{end}": maps.png(maps.overview(fields, frame, columns=n, **options))
        for end, n in (("", 3), ("_narrow", 2))
    }
    scale = 1000.0 if length == "km" else 1.0
    k = np.asarray(wavenumbers(case.truth.shape, settings.cell)) * scale
    if k.size > 1:
        power = {title(name): np.asarray(r["spectrum"]) / scale**2 for name, r in results.items()}
        truth = np.asarray(results["ensemble"]["spectrum_truth"]) / scale**2
        pictures["spectra"] = maps.png(diagnostics.spectra(k, power, truth, length=length, units=tame(units)))
    ranks = {title(name): r["rank_histogram"] for name, r in results.items() if r["members"] > 1}
    if results["ensemble"]["members"] > 1:
        pictures["ranks"] = maps.png(diagnostics.rank_histogram(ranks))
    return pictures | {"when": when.encode()}


def render(summary: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """The report as one HTML page; every text from the files is escaped."""
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    template = jinja2.Environment(autoescape=True, loader=loader, trim_blocks=True, lstrip_blocks=True).get_template(
        "report.html.j2"
    )
    images = {
        name: "data:image/png;base64," + base64.b64encode(data).decode()
        for name, data in pictures.items()
        if name != "when"
    }
    entries = [e for e in ENTRIES if e.key in summary["definitions"] and e.key not in summary["left_out"]]
    return template.render(
        s=summary,
        when=pictures["when"].decode(),
        images=images,
        rows=table(summary),
        titles=[title(name) for name in summary["systems"]],
        entries=entries,
    )


def _map_fields(case: Case, settings: Settings, used: Sequence[str]) -> tuple[dict[str, Any], str]:
    """Title -> field (rows from south to north) at one time: the wettest, or the middle one of other fields."""
    step = case.factor.time if case.factor else 1
    if settings.rain:
        means = np.asarray(case.truth.mean(case.truth.dims[1:], skipna=True).values, dtype=np.float64)
        at = int(np.nanargmax(means)) if np.isfinite(means).any() else 0
    else:
        at = case.truth.shape[0] // 2
    truth, members = case.truth[at].values, case.systems["ensemble"][:, at].values
    fields: dict[str, Any] = {}
    start = at // step * step
    coarse = case.coarse_values(slice(start, start + step))
    if coarse is not None:
        fields["Coarse input"] = coarse[0]
    if len(members) > 1:
        fields |= {
            "Member 1": members[0],
            "Truth": truth,
            "Ensemble mean": members.mean(axis=0),
            "Member 2": members[1],
        }
        fields["Spread"] = members.std(axis=0, ddof=1)
    else:
        fields |= {"Prediction": members[0], "Truth": truth}
        if "bicubic" in used:
            fields["Bicubic"] = refine(case, "bicubic", slice(start, start + step))[0, at - start]
    grid = case.grid
    flip_y, flip_x = grid.y[1] < grid.y[0], grid.x[1] < grid.x[0]
    turned = {title: np.asarray(f)[:: -1 if flip_y else 1, :: -1 if flip_x else 1] for title, f in fields.items()}
    time = case.truth.coords.get(case.time)
    return turned, f"time {at + 1} of {case.truth.shape[0]}" if time is None else str(time.values[at]).replace(
        "T", " "
    )[:16]


def _usable(case: Case, settings: Settings, baselines: Sequence[str]) -> list[str]:
    """The baselines that this case can have; why others cannot goes to the notes."""
    used = []
    for name in dict.fromkeys(baselines):
        if name == "climatology":
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


def _version() -> str:
    try:
        return version("finescale")
    except PackageNotFoundError:
        return "unknown"


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: both become null."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
    try:
        with stores.writing(folder, stores.partial_path(folder)):
            folder.mkdir(parents=True, exist_ok=True)
            for temporary, data in zip(waiting.values(), files.values(), strict=True):
                temporary.write_bytes(data)
            for path, temporary in waiting.items():
                os.replace(temporary, path)
    finally:
        for temporary in waiting.values():
            temporary.unlink(missing_ok=True)
