"""Names, best values and meanings of the scores."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """How a score is shown.

    Attributes:
        key: its name in scores.json.
        name: its name for people.
        best: "low", "high", a number, or "truth" (the truth's own, ``<key>_truth``).
        in_units: whether it is in the field's units.
        meaning: what it says, in a sentence or two.
        table: whether the report's table has it; scores.json has all.
    """

    key: str
    name: str
    best: str | float
    in_units: bool
    meaning: str
    table: bool = True


ENTRIES = (
    Entry(
        "crps",
        "CRPS",
        "low",
        True,
        "Fair continuous ranked probability score: distance of the whole ensemble from the truth, mean |member − "
        "truth| less half the mean distance between members, unbiased in the number of members; for one member the "
        "absolute error.",
    ),
    Entry(
        "mae",
        "MAE of the mean",
        "low",
        True,
        "Mean absolute error of the ensemble mean.",
    ),
    Entry(
        "rmse",
        "RMSE of the mean",
        "low",
        True,
        "Root mean square error of the ensemble mean.",
    ),
    Entry(
        "bias",
        "Bias",
        0.0,
        True,
        "Mean of ensemble mean less truth.",
    ),
    Entry(
        "energy_score",
        "Energy score",
        "low",
        True,
        "The CRPS of whole fields: distances between fields are root mean squares over cells; mean over times.",
    ),
    Entry(
        "spread_skill",
        "Spread–skill",
        1.0,
        False,
        "√((M+1)/M) × mean ensemble standard deviation / RMSE of the mean. Above 1 the ensemble is too wide, below "
        "1 too sure of itself.",
    ),
    Entry(
        "rank_departure",
        "Rank departure",
        "low",
        False,
        "Σ |f − 1/(M+1)| over the rank histogram: 0 when the truth is equally likely to fall between any two "
        "members. Ties, and all values below the dry threshold, are ranked at random.",
    ),
    Entry(
        "csi",
        "CSI",
        "high",
        False,
        "Critical success index: hits / (hits + misses + false alarms) of cells at or above the threshold; each "
        "member, then averaged.",
    ),
    Entry(
        "fss",
        "FSS",
        "high",
        False,
        "Fractions skill score: agreement of the fraction of cells at or above the threshold in square windows that"
        " lie inside the field; each member, then averaged.",
    ),
    Entry(
        "psnr",
        "PSNR (dB)",
        "high",
        False,
        "Peak signal-to-noise ratio of the ensemble mean in log-rain, log10(1 + R/0.1), with a range of 3.",
    ),
    Entry(
        "ssim",
        "SSIM",
        "high",
        False,
        "Structural similarity of the ensemble mean in log-rain, Gaussian windows of 1.5 cells.",
    ),
    Entry(
        "p999_bias",
        "99.9th percentile",
        0.0,
        False,
        "Relative error of the 99.9th percentile of all members' cells: are extremes strong enough?",
    ),
    Entry(
        "wet_fraction",
        "Wet fraction",
        "truth",
        False,
        "Share of the area with at least 0.1 mm/h; best is that of the truth.",
    ),
    Entry(
        "log_spectral_distance",
        "Spectral distance",
        "low",
        False,
        "Root mean square difference of log10 power between the members' and the truth's radial spectra, in dex: is"
        " there the right amount of detail at each scale?",
    ),
    Entry(
        "log_spectral_distance_log_rain",
        "Spectral distance, log-rain",
        "low",
        False,
        "The same of log10(1 + R/0.1), in which weak rain counts too.",
    ),
    Entry(
        "autocorrelation",
        "Autocorrelation in time",
        "truth",
        False,
        "Correlation of each member with itself one frame later, over all cells and frames; best is that of the truth. "
        "Lower: the members flicker; higher: they are too steady.",
    ),
    Entry(
        "border_ratio",
        "Border ratio",
        "truth",
        False,
        "Mean absolute change between two frames across the border of coarse frames, over that inside a coarse frame; "
        "best is that of the truth. Higher: coarse frames are refined apart from each other, and jump.",
    ),
    Entry(
        "conservation_residual",
        "Conservation",
        "low",
        False,
        "max |block mean − coarse value| / max |coarse value|: 0 when the coarse totals are kept.",
    ),
    Entry(
        "correlation", "Correlation", "high", False, "Pearson's, of ensemble mean and truth over all cells and times."
    ),
    Entry(
        "threshold_weighted_crps",
        "CRPS above",
        "low",
        True,
        "Fair CRPS of max(value, threshold): only what lies above the threshold counts.",
    ),
    Entry(
        "variogram_score",
        "Variogram score",
        "low",
        True,
        "Mean square error of the ensemble mean of √|difference| between cells 1, 3 and 9 apart, along both axes: do "
        "cells vary together as in the truth?",
    ),
    Entry(
        "mace",
        "Calibration error",
        "low",
        False,
        "Mean absolute difference between the levels 5, 10 … 95 % and how often the truth's PIT lies below them.",
    ),
    Entry(
        "coverage",
        "Coverage",
        "expected",
        False,
        "Share of cells in the members' central 50, 70, 90 and 95 % intervals; best is coverage_expected, which is "
        "less than the level where there are few members.",
    ),
    Entry(
        "pod",
        "POD",
        "high",
        False,
        "Probability of detection: hits / (hits + misses); each member, then averaged.",
    ),
    Entry(
        "far",
        "FAR",
        "low",
        False,
        "False alarm ratio: false alarms / (hits + false alarms); each member, then averaged.",
    ),
    Entry(
        "brier",
        "Brier score",
        "low",
        False,
        "Mean square error of the share of members at or above the threshold as a probability.",
        table=False,
    ),
    Entry(
        "brier_fair",
        "Fair Brier score",
        "low",
        False,
        "Brier score less what the number of members adds to it.",
    ),
    Entry(
        "roc_area",
        "ROC area",
        "high",
        False,
        "Area below hit rate against false alarm rate: 1 if events are told apart from non-events, ½ by chance.",
    ),
    Entry(
        "sal_structure_error",
        "SAL structure",
        "low",
        False,
        "Mean |S|: are rain objects as large and as peaked as in the truth (sal_structure above 0: too large or flat)?",
    ),
    Entry(
        "sal_amplitude_error",
        "SAL amplitude",
        "low",
        False,
        "Mean |A|, the relative error of the domain's mean rain.",
    ),
    Entry(
        "sal_location",
        "SAL location",
        "low",
        False,
        "L: displacement of the centre of rain, and of the objects about it, over the domain's diagonal.",
    ),
    Entry("p99_bias", "99th percentile", 0.0, False, "As for the 99.9th percentile."),
    Entry("p9999_bias", "99.99th percentile", 0.0, False, "As for the 99.9th percentile."),
    Entry("maximum", "Maximum", "truth", True, "Largest value of a member, averaged; best is the truth's."),
)

BEST: dict[str, str | float] = {e.key: e.best for e in ENTRIES if e.best != "expected"}
"""Score -> its best value, for `finescale.scores.bootstrap.compare`."""

GROUPS: dict[str, tuple[str, ...]] = {
    "Cell by cell": ("crps", "threshold_weighted_crps", "mae", "rmse", "bias", "correlation"),
    "Spread and calibration": ("spread_skill", "rank_departure", "mace", "coverage"),
    "Events": ("csi", "pod", "far", "brier", "brier_fair", "roc_area"),
    "Fields": (
        *("energy_score", "variogram_score", "fss", "psnr", "ssim"),
        *("log_spectral_distance", "log_spectral_distance_log_rain"),
        *("sal_structure_error", "sal_amplitude_error", "sal_location"),
    ),
    "Distribution": ("wet_fraction", "p99_bias", "p999_bias", "p9999_bias", "maximum"),
    "Time": ("autocorrelation", "border_ratio"),
    "Conservation": ("conservation_residual",),
}
"""Heading in the report -> scores in their order there."""

FIRST = (
    *("crps", "rmse", "energy_score", "spread_skill", "mace"),
    *("fss", "log_spectral_distance", "p999_bias", "conservation_residual"),
)
"""Scores of the short table on top of the report."""
