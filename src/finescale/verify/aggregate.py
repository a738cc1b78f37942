"""Scores of whole data sets, added up over times.

Every score is a formula on sums over cells and times (`finescale.verify.scores`), so a series scored in parts gives the
scores of the whole: `Sums` holds the sums, `Sums.add` takes the next times, `Sums.scores` applies the formulas.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from finescale.errors import InputError
from finescale.grid import Factor
from finescale.verify import conservation
from finescale.verify import scores as s
from finescale.verify.align import Case, align, cell_size, is_rain
from finescale.verify.baselines import baseline
from finescale.verify.spectra import power_spectrum, spectral_distance, spectrum_terms
from finescale.verify.temporal import border_formula, correlation_formula, member_mean, pair_terms

Array = NDArray[np.float64]

CHUNK_BYTES = 256 * 2**20
"""Most memory that one system's times may take, in float64, while they are read."""


@dataclass(frozen=True)
class Settings:
    """What is scored: values of one study, the same for all systems.

    Attributes:
        thresholds: events ≥ threshold for CSI and FSS, in units of the field.
        scales: widths in cells of FSS windows.
        dry: values below count as equal in the rank histogram; None for a field that is not rain, which has no scores
            of log-rain and no wet fraction.
        seed: of the rank histogram's random ties.
        area: cell areas (H, W), up to a constant; None for equal ones.
        cell: (dy, dx), cell size for spectra, in metres or any unit.
        factor: from coarse to fine, for the conservation residual and the border ratio.
    """

    thresholds: tuple[float, ...] = s.THRESHOLDS
    scales: tuple[int, ...] = s.SCALES
    dry: float | None = 0.05
    seed: int = 0
    area: Array | None = None
    cell: tuple[float, float] = (1.0, 1.0)
    factor: Factor | None = None

    @property
    def rain(self) -> bool:
        return self.dry is not None


@dataclass
class Sums:
    """Statistics of one system summed over the times added so far.

    ``Sums(settings)``, then ``add`` once per part in the order of time, then ``scores``. State: ``totals`` (name ->
    array to be added), ``largest`` (name -> array of which the greater counts), ``crps_by_time``, ``members``, and
    ``previous``: the last time's members, truth and weights, which make a pair with the first of the next part.
    """

    settings: Settings = Settings()
    totals: dict[str, Array] = field(default_factory=dict)
    largest: dict[str, Array] = field(default_factory=dict)
    crps_by_time: list[float] = field(default_factory=list)
    members: int = 0
    previous: tuple[Array, Array, Array] | None = None

    def add(
        self, members: ArrayLike, truth: ArrayLike, coarse: ArrayLike | None = None, follows: ArrayLike = True
    ) -> None:
        """Add times: members (M, T, H, W), truth (T, H, W), coarse (t, h, w) or None.

        ``follows`` (T,), or one value for all, says which times follow the one before them. Where one does not (a gap,
        another crop) no change is taken; what lies between must be whole coarse intervals.

        Raises:
            InputError: for shapes that do not fit, or another number of members than before.
        """
        members, truth = np.asarray(members), np.asarray(truth)
        if self.members not in (0, members.shape[0]):
            raise InputError(f"a part has {members.shape[0]} members, but the parts before had {self.members}")
        self.members = members.shape[0]
        after = np.broadcast_to(np.asarray(follows, dtype=bool), truth.shape[:1])
        for t in range(truth.shape[0]):
            if not after[t]:
                self.previous = None
            self._add_time(*s.joint(members[:, t : t + 1], truth[t : t + 1], self.settings.area))
        if coarse is not None and self.settings.factor is not None:
            worst = conservation.residual_terms(members, coarse, self.settings.factor, self.settings.area)
            self.largest["residual"] = np.maximum(self.largest.get("residual", 0.0), worst)

    def _add_time(self, x: Array, y: Array, w: Array) -> None:
        set_ = self.settings
        crps = np.array([(w * s.crps_cells(x, y)).sum(), w.sum()])
        generator = np.random.default_rng([set_.seed, len(self.crps_by_time)])
        self.crps_by_time.append(float(s.ratio(crps[0], crps[1])))
        parts = {
            "crps": crps,
            "mean": s.mean_terms(x, y, w),
            "csi": s.csi_terms(x, y, w, set_.thresholds),
            "fss": s.fss_terms(x, y, w, set_.thresholds, set_.scales),
            "rank": s.rank_terms(x, y, w, generator, set_.dry),
            "values": s.value_terms(x, w[None]),
            "truth_values": s.value_terms(y, w),
            "energy": s.energy_terms(x, y, w),
            "spectrum": spectrum_terms(x, y, w, set_.cell, centre=not set_.rain),
            "cells": np.array((w > 0).sum(), dtype=np.float64),
        }
        if self.previous is not None:
            parts["pairs"] = self._pair(x, y, w)
        self.previous = x, y, w
        if set_.rain:
            parts["image"] = s.image_terms(x, y, w)
            parts["wet"] = s.wet_terms(x, y, w)
            parts["log_spectrum"] = spectrum_terms(x, y, w, set_.cell, rain=True)
        for name, value in parts.items():
            if name in self.totals:
                self.totals[name] += value
            else:
                self.totals[name] = value

    def _pair(self, x: Array, y: Array, w: Array) -> Array:
        """`pair_terms` (2, M + 1, 7) of a step in time, of the members and the truth; [1] if it crosses a border."""
        assert self.previous is not None
        old_x, old_y, old_w = self.previous
        both = np.where(old_w > 0, w, 0.0)
        terms = np.concatenate([pair_terms(old_x, x, both)[:, 0], pair_terms(old_y, y, both)])
        # The time's index: crps_by_time already counts it.
        factor, index = self.settings.factor, len(self.crps_by_time) - 1
        crosses = factor is not None and index % factor.time == 0
        return np.stack([np.zeros_like(terms), terms] if crosses else [terms, np.zeros_like(terms)])

    def _temporal(self) -> dict[str, float]:
        """autocorrelation and, where time is refined, border_ratio, each with the truth's own; none without pairs."""
        if "pairs" not in self.totals:
            return {}
        inside, across = self.totals["pairs"]
        found = {"autocorrelation": correlation_formula(inside + across)}
        if self.settings.factor is not None and self.settings.factor.time > 1:
            found["border_ratio"] = border_formula(across, inside)
        result: dict[str, float] = {}
        for name, values in found.items():
            result |= {name: member_mean(values[:-1]), f"{name}_truth": float(values[-1])}
        return result

    def scores(self) -> dict[str, Any]:
        """All scores so far: floats, and lists for those by threshold, scale, wavenumber, rank or time; NaN where
        undefined.

        Raises:
            InputError: if no valid cell has been added.
        """
        if not self.totals or self.totals["cells"] == 0:
            raise InputError("there is nothing to score: no cell is valid in both the ensemble and the truth")
        sums, set_, many = self.totals, self.settings, self.members > 1
        rank = s.ratio(sums["rank"], sums["rank"].sum()).tolist() if many else []
        result: dict[str, Any] = {"crps": float(s.ratio(*sums["crps"])), "crps_by_time": list(self.crps_by_time)}
        result |= s.mean_errors(sums["mean"], self.members)
        result["energy_score"] = float(s.ratio(*sums["energy"]))
        result |= {"rank_histogram": rank, "rank_departure": s.rank_departure(rank) if many else float("nan")}
        result |= {"thresholds": list(set_.thresholds), "scales": list(set_.scales)}
        result |= {"csi": s.csi_formula(sums["csi"]), "fss": s.fss_formula(sums["fss"])}
        ours, true = (s.quantile_formula(sums[name], 0.999) for name in ("values", "truth_values"))
        result |= {"p999": ours, "p999_truth": true, "p999_bias": float(s.ratio(ours - true, true))}
        result["log_spectral_distance"] = spectral_distance(*sums["spectrum"])
        if set_.rain:
            result |= s.image_scores(sums["image"])
            wet = s.ratio(sums["wet"][:2], sums["wet"][2])
            result |= {"wet_fraction": float(wet[0]), "wet_fraction_truth": float(wet[1])}
            result["log_spectral_distance_log_rain"] = spectral_distance(*sums["log_spectrum"])
        result |= self._temporal()
        if "residual" in self.largest:
            result["conservation_residual"] = conservation.residual_formula(self.largest["residual"])
        times = len(self.crps_by_time)
        result |= {
            "spectrum": (sums["spectrum"][0] / times).tolist(),
            "spectrum_truth": (sums["spectrum"][1] / times).tolist(),
        }
        return result | {"members": self.members, "times": times, "cells": int(sums["cells"])}


def score_arrays(
    members: ArrayLike,
    truth: ArrayLike,
    coarse: ArrayLike | None = None,
    factor: Factor | None = None,
    area: ArrayLike | None = None,
    thresholds: Sequence[float] = s.THRESHOLDS,
    dry: float | None = 0.05,
    seed: int = 0,
    *,
    cell: tuple[float, float] = (1.0, 1.0),
    scales: Sequence[int] = s.SCALES,
    sequence: int | None = None,
) -> dict[str, Any]:
    """Scores of members (M, T, H, W) against truth (T, H, W).

    Times are frames of one sequence, or of several one after another (``sequence``); each may be a case of its own,
    such as a crop, with ``sequence=1``. ``crps_by_time`` has the fair CRPS of each, so that two systems can be compared
    in pairs (`paired_bootstrap`).

    Args:
        members: one system's ensemble; NaN cells are ignored.
        truth: what was seen.
        coarse: coarse field (t, h, w), for the conservation residual.
        factor: from coarse to fine.
        area: cell areas (H, W).
        thresholds: events for CSI and FSS.
        dry: dry threshold in mm/h; None for fields other than rain.
        seed: of random ties.
        cell: cell size (dy, dx) for the wavenumbers.
        scales: FSS windows in cells.
        sequence: frames in each sequence; by default all times are one.

    Returns:
        crps, crps_by_time, mae, rmse, bias, spread_skill, energy_score, rank_histogram, rank_departure, csi, fss, p999,
        p999_truth, p999_bias, log_spectral_distance, spectrum, spectrum_truth, wavenumber, members, times, cells,
        thresholds, scales; for rain psnr, ssim, wet_fraction, wet_fraction_truth, log_spectral_distance_log_rain; with
        coarse and factor conservation_residual; where a time follows another autocorrelation and
        autocorrelation_truth, and with a factor in time border_ratio and border_ratio_truth
        (`finescale.verify.temporal`). NaN where a score is undefined (spread_skill of one member).

    Raises:
        InputError: for shapes that do not fit, times that are no whole sequences, or no valid cell.
    """
    times = np.shape(truth)[0]
    length = sequence or max(times, 1)
    if times % length:
        raise InputError(f"{times} times are no whole number of sequences of {length} frames")
    follows = np.arange(times) % length != 0
    weights = None if area is None else np.asarray(area, dtype=np.float64)
    sums = Sums(Settings(tuple(thresholds), tuple(scales), dry, seed, weights, cell, factor))
    sums.add(members, truth, coarse, follows)
    return sums.scores() | {"wavenumber": wavenumbers(np.shape(truth), cell)}


def wavenumbers(shape: Sequence[int], cell: tuple[float, float]) -> list[float]:
    """The rings' wavenumbers of fields (…, H, W)."""
    return power_spectrum(np.zeros(tuple(shape)[-2:]), cell)[0].tolist()


def paired_bootstrap(a: ArrayLike, b: ArrayLike, n: int = 2000, seed: int = 0) -> tuple[float, float, float]:
    """Mean of a − b over cases and its 95 % interval (difference, lo, hi), by drawing cases with replacement.

    Pairs with a NaN are left out. Where lo and hi have one sign the difference is significant at 5 % (two-sided), if
    cases are independent; neighbouring times are not, and the interval is then too narrow.

    Raises:
        InputError: if the lengths differ or no pair is valid.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape:
        raise InputError(f"paired cases must match in number: {first.size} and {second.size}")
    difference = (first - second)[np.isfinite(first - second)]
    if difference.size == 0:
        raise InputError("there is no pair of cases to compare")
    draws = np.random.default_rng(seed).integers(0, difference.size, (n, difference.size))
    low, high = np.quantile(difference[draws].mean(axis=1), [0.025, 0.975])
    return float(difference.mean()), float(low), float(high)


def evaluate(
    case: Case, settings: Settings, baselines: Sequence[str] = (), progress: Callable[[float], None] | None = None
) -> dict[str, Sums]:
    """Add up all systems of a case, a few times at once: the ensemble, other ensembles, then baselines.

    Args:
        case: aligned data.
        settings: what to score.
        baselines: names of baselines; they need the case's factor, and the block means of the truth stand in for a
            missing coarse field.
        progress: called with the share done.
    """
    sums = {name: Sums(settings) for name in (*case.systems, *baselines)}
    count, step = case.truth.sizes[case.time], case.factor.time if case.factor else 1
    largest = max(da[:, :1].size * 8 for da in case.systems.values())
    step *= max(1, CHUNK_BYTES // (largest * step))
    follows = case.follows
    for start in range(0, count, step):
        cut = slice(start, min(start + step, count))
        truth = case.truth[cut].values
        coarse = case.coarse_values(cut)
        for name, da in case.systems.items():
            sums[name].add(da[:, cut].values, truth, coarse, follows[cut])
        for name in baselines:
            sums[name].add(refine(case, name, cut, settings.seed), truth, coarse, follows[cut])
        if progress is not None:
            progress(cut.stop / count)
    return sums


def refine(case: Case, name: str, cut: slice, seed: int = 0) -> Array:
    """A baseline's members (M, T, H, W) for the fine times ``cut`` (whole coarse intervals).

    Random baselines have as many members as the ensemble, or 8 where it has one.
    """
    if case.factor is None:
        raise InputError("baselines need the coarse field, or the factor: give --coarse")
    ft = case.factor.time
    # One interval more on both sides, so that interpolation in time sees the neighbours of the part.
    low, high = max(cut.start - ft, 0), min(cut.stop + ft, case.truth.sizes[case.time])
    members = next(iter(case.systems.values())).shape[0]
    coarse = case.coarse_values(slice(low, high))
    assert coarse is not None
    fine = baseline(name, coarse, case.factor, members=members if members > 1 else 8, seed=seed, first=low // ft)
    return fine[:, cut.start - low : cut.stop - low]


def score(
    ensemble: xr.Dataset | xr.DataArray,
    truth: xr.Dataset | xr.DataArray,
    coarse: xr.Dataset | xr.DataArray | None = None,
    *,
    thresholds: Sequence[float] | None = None,
    baselines: Sequence[str] = (),
    against: Mapping[str, xr.Dataset | xr.DataArray] | None = None,
    factor: Factor | str | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Score an ensemble, and other systems beside it, against the truth.

    Args:
        ensemble: ([realization,] time, y, x); a Dataset must have one gridded variable.
        truth: (time, y, x) on the same cells, for some or all of the times.
        coarse: the coarse input, for the conservation residual and the baselines.
        thresholds: events ≥ threshold for CSI and FSS; by default 0.1, 1, 5, 10 mm/h for rain and none otherwise.
        baselines: names among nearest, bilinear, bicubic, rainfarm.
        against: name -> another ensemble.
        factor: from coarse to fine; by default from the sizes of ``coarse`` or the attribute ``finescale_factor``.
        seed: of random ties and random baselines.

    Returns:
        One variable a score (units in its attributes) along ``system``: "ensemble", those of ``against``, the
        baselines. Scores by threshold, scale or wavenumber have that dimension too; rank histograms differ in length
        and come as ``rank_histogram`` along ``rank``, padded with NaN.

    Raises:
        InputError: if grids or times do not match, nothing is valid, or a baseline lacks what it needs.
    """
    case = align(ensemble, truth, coarse, against=against, factor=factor)
    settings = settings_for(case, thresholds, seed)
    if baselines and case.factor is None:
        raise InputError("baselines need the coarse field, or the factor: give coarse or factor")
    results = {name: sums.scores() for name, sums in evaluate(case, settings, baselines).items()}
    return _dataset(results, case, settings)


def settings_for(case: Case, thresholds: Sequence[float] | None = None, seed: int = 0) -> Settings:
    """Settings that suit a case: rain or not, cell areas and sizes."""
    rain = is_rain(case.truth) or is_rain(case.systems["ensemble"])
    chosen = tuple(thresholds) if thresholds is not None else (s.THRESHOLDS if rain else ())
    grid = case.grid
    return Settings(chosen, s.SCALES, 0.05 if rain else None, seed, grid.cell_area, cell_size(grid), case.factor)


_DIMENSIONS = {
    "csi": ("threshold",),
    "fss": ("threshold", "scale"),
    "rank_histogram": ("rank",),
    "crps_by_time": ("time",),
    "spectrum": ("wavenumber",),
    "spectrum_truth": ("wavenumber",),
}
_IN_FIELD_UNITS = ("crps", "crps_by_time", "mae", "rmse", "bias", "energy_score", "p999", "p999_truth")


def _dataset(results: dict[str, dict[str, Any]], case: Case, settings: Settings) -> xr.Dataset:
    names = [k for k in results["ensemble"] if k not in ("thresholds", "scales", "times", "cells")]
    units = str(case.truth.attrs.get("units", "1"))
    data: dict[str, Any] = {}
    for name in names:
        rows = [np.asarray(r.get(name, np.nan), dtype=np.float64) for r in results.values()]
        dims = _DIMENSIONS.get(name, ())
        if name == "rank_histogram":
            longest = max(row.size for row in rows)
            rows = [np.pad(row, (0, longest - row.size), constant_values=np.nan) for row in rows]
        if name == "fss":
            rows = [row.reshape(len(settings.thresholds), len(settings.scales)) for row in rows]
        attrs = {"units": {"psnr": "dB"}.get(name, units if name in _IN_FIELD_UNITS else "1")}
        data[name] = (("system", *dims), np.stack(rows), attrs)
    coords = {
        "system": list(results),
        "threshold": list(settings.thresholds),
        "scale": list(settings.scales),
        "wavenumber": wavenumbers(case.truth.shape, settings.cell),
    }
    if case.time in case.truth.coords:
        coords["time"] = case.truth[case.time].values
    return xr.Dataset(data, coords, {"cells": results["ensemble"]["cells"], "notes": "; ".join(case.notes)})
