"""From files to scores.json, scores.csv, figures and self-contained pages of one variable, or of several."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import xarray as xr

from finescale.data import files, named
from finescale.data.place import Remote, local, place
from finescale.errors import InputError, Notice
from finescale.scores.settings import Settings
from finescale.verify import figures, figures_places, publish, variables
from finescale.verify.align import Aligned, align
from finescale.verify.baselines import NAMES
from finescale.verify.evaluate import evaluate, refine, settings_for
from finescale.verify.joint import joint
from finescale.verify.summary import kept, released, summarise, totals, uncertainty
from finescale.verify.verdict import lines, made_by

DEFAULT = ("nearest", "bicubic", "noise", "rainfarm", "climatology")
"""Baselines that are shown unless others are asked for."""
FIGURE_VALUES = 150_000_000
"""Values that take about as long to score as the figures to draw, for the progress."""
CLIMATE = 12
"""Coarse intervals from which the truth's other times are weather enough for climatology, unless it is asked for."""
TOGETHER = 0.2
"""The share of the progress that scores of several variables together have."""
Stores = Mapping[str, xr.Dataset]
Progress = Callable[[float], None]


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
    report: bool = True,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Score an ensemble file against a truth file; write scores, figures and report.html into ``out_dir``.

    Where both files have several variables all that they have in common are scored, each in a folder of its own there,
    and together (`finescale.scores.across`).

    Args:
        ensemble_path: NetCDF, Zarr, GRIB or GeoTIFF with ([realization,] time, y, x).
        truth_path: the truth on the same cells, for some or all of the times.
        out_dir: a folder, made if missing.
        coarse: the coarse input; else the truth's block means if the ensemble's file has ``finescale_factor``.
        baselines: names of `NAMES`; by default `DEFAULT`, those of them that suit the data (`CLIMATE`).
        against: name -> file of another ensemble to show beside it.
        variable: the one variable to score, where files have several.
        thresholds: events ≥ threshold for CSI and FSS, of one variable.
        seed: of random ties, random baselines and the bootstrap.
        block: times in a block of the bootstrap; by default T^⅓.
        regrid: bring a truth or other ensemble on other cells to the ensemble's, by area-weighted means.
        report: False for scores.json and scores.csv alone: figures take most of the time of small fields.
        overwrite: whether to replace results that exist.
        progress: called with the share done, of scores and figures.

    Returns:
        What scores.json holds.

    Raises:
        InputError: for files that cannot be read, have no variable in common, are not on the same cells, share no time
            or have no valid cell; an unknown baseline; a block longer than the series; results that exist.

    Example:
        >>> import finescale
        >>> from finescale.data.synthetic import synthetic_rain
        >>> truth = synthetic_rain((2, 64, 64), seed=3).to_dataset()
        >>> truth.to_netcdf("truth.nc", engine="netcdf4")
        >>> coarse = finescale.coarsen(truth, "1x8")
        >>> finescale.downscale("rain", coarse, "ensemble.nc", members=3, factor="1x8", progress=False)
        >>> scores = finescale.verify("ensemble.nc", "truth.nc", "scores", baselines=["nearest"])
        >>> sorted(scores["systems"])
        ['ensemble', 'nearest']
    """
    folder = publish.folder(local(out_dir, "a report"), overwrite)
    paths = {"ensemble": ensemble_path, "truth": truth_path} | ({} if coarse is None else {"coarse": coarse})
    others = {name: files.open_store(path) for name, path in (against or {}).items()}
    stores = {name: files.open_store(path) for name, path in paths.items()}
    told: dict[str, Any] = {
        "files": {name: named.names(path)[0] for name, path in paths.items()},
        "constraint": _stated(stores, others),
    }
    attrs = stores["ensemble"].attrs
    names = [] if variable else variables.in_common(stores["ensemble"], stores["truth"])
    lost = variables.left_out(stores["ensemble"], stores["truth"], names) if names else []
    bar = progress or (lambda share: None)
    if len(names) > 1:
        if thresholds is not None:
            raise InputError(f"thresholds are in units of one variable, not of {', '.join(names)}: give --variable too")
        told |= {"notes": lost}
        summary, contents = _several(names, stores, others, baselines, block, seed, regrid, told, report, bar)
    else:
        if names:
            stores, others = ({n: variables.alone(ds, names[0]) for n, ds in some.items()} for some in (stores, others))
        one = align(
            stores["ensemble"], stores["truth"], stores.get("coarse"), against=others, variable=variable, regrid=regrid
        )
        one.notes.extend(lost)
        _check(one, baselines, block)
        settings = settings_for(one, thresholds, seed)
        summary, pictures = _results(one, settings, baselines, block, attrs, report, bar)[:2]
        summary |= told
        contents = publish.one(summary, pictures)
    publish.write(folder, contents)
    for part in summary.get("variables", {"": summary}).values():
        for one_seen in part["trained_on"].values():
            warnings.warn(one_seen["says"], Notice, stacklevel=2)
    return summary


def _several(
    names: Sequence[str],
    stores: Stores,
    others: Stores,
    baselines: Sequence[str] | None,
    block: int | None,
    seed: int,
    regrid: bool,
    told: Mapping[str, Any],
    report: bool,
    progress: Progress,
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What scores.json holds of several variables, and all files."""
    aligned: dict[str, Aligned] = {}
    attrs = stores["ensemble"].attrs
    for name in names:
        own, notes = variables.given({f"the {what} file": ds for what, ds in stores.items()}, name)
        rivals, more = variables.given(others, name)
        ensemble, truth, coarse = (own.get(f"the {what} file") for what in ("ensemble", "truth", "coarse"))
        assert ensemble is not None and truth is not None
        with _said_of(name):
            aligned[name] = align(ensemble, truth, coarse, against=rivals, regrid=regrid)
            aligned[name].notes.extend(notes + more)
            _check(aligned[name], baselines, block)
    settings = {name: settings_for(one, None, seed) for name, one in aligned.items()}
    parts, pictures, used = {}, {}, {}
    for k, (name, one) in enumerate(aligned.items()):

        def done(share: float, k: int = k) -> None:
            progress((1 - TOGETHER) * (k + share) / len(names))

        with _said_of(name):
            parts[name], pictures[name], used[name] = _results(
                one, settings[name], baselines, block, attrs, report, done
            )
        parts[name] |= {key: told[key] for key in ("files", "constraint")}
    together = joint(aligned, settings, used, block, lambda share: progress(1 - TOGETHER + TOGETHER * share))
    progress(1.0)
    summary = {
        "finescale": released(),
        "variables": parts,
        "joint": together,
        "files": told["files"],
        "made_by": made_by(attrs, any("ensemble" in one.seen for one in aligned.values())),
        "folders": variables.folders(names),
        "notes": told["notes"],
    }
    return summary, publish.several(summary, pictures)


@contextmanager
def _said_of(variable: str) -> Iterator[None]:
    """Put the variable's name before what is said of it."""
    try:
        yield
    except InputError as error:
        raise InputError(f"variable {variable}: {error}") from error


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
    attrs: Mapping[Any, Any],
    report: bool,
    progress: Progress,
) -> tuple[dict[str, Any], list[figures.Picture], list[str]]:
    """What scores.json holds but the files, the figures, and the baselines.

    Args:
        aligned: aligned data.
        settings: what to score.
        baselines: those asked for.
        block: times in a block of the bootstrap.
        attrs: global attributes of the ensemble's file.
        report: whether there shall be figures.
        progress: counts scores and figures.
    """
    used = _usable(aligned, settings, baselines)
    # Scores take as long as there are values; figures about as long as `FIGURE_VALUES` do.
    values = aligned.truth.size * (sum(len(da) for da in aligned.systems.values()) + 4 * len(used))
    share = values / (values + FIGURE_VALUES) if report else 1.0
    sums = evaluate(aligned, settings, used, lambda done: progress(share * done))
    results = {name: one.scores() for name, one in sums.items()}
    pictures: list[figures.Picture] = []
    events = [settings.thresholds[k] for k in figures.chosen_thresholds(settings, results)]
    maps = figures_places.pictures(aligned, settings, sums, used, events)
    for picture in chain(maps, figures.curves(aligned, settings, results)) if report else ():
        pictures.append(picture)
        progress(share + (1 - share) * min(len(pictures) / len(figures.NAMES), 0.99))
    residuals = sums["ensemble"].residuals
    summary = summarise(aligned, settings, results, uncertainty(sums, block, settings.seed))
    summary |= totals(aligned, residuals, summary["shown"]["units"]) | {
        "made_by": made_by(attrs, "ensemble" in aligned.seen)
    }
    known = None if residuals.cells is None else kept(residuals)
    summary = {"verdict": lines(summary, known, aligned.coarse is not None)} | summary
    progress(1.0)
    return summary, pictures, used


def names_of(paths: Sequence[str | Path]) -> dict[str, str | Path]:
    """A name for each file of another system: its own, with its folder's where two would be alike."""
    taken: dict[str, str | Path] = {}
    for path in paths:
        where = place(path)
        folder = where.folder if isinstance(where, Remote) else where.absolute().parent
        free = (n for n in (where.stem, f"{Path(folder).name}/{where.stem}") if n not in (*taken, "ensemble", *NAMES))
        taken[next(free, f"{where.stem} ({len(taken) + 1})")] = path
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


def _stated(stores: Stores, others: Stores) -> dict[str, dict[str, float]]:
    """The conservation residuals that the ensembles' files themselves state: {after, before} the constraint."""
    told = {name: _told(ds.attrs) for name, ds in {"ensemble": stores["ensemble"], **others}.items()}
    return {name: one for name, one in told.items() if one}


def _told(attrs: Mapping[Any, Any]) -> dict[str, float]:
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
