"""Scores of any downscaled ensemble, from arrays, datasets or files, next to simple baselines."""

from finescale.verify.aggregate import Settings, Sums, paired_bootstrap, score, score_arrays
from finescale.verify.baselines import BASELINES
from finescale.verify.report import verify
from finescale.verify.temporal import border_ratio, lag_autocorrelation

__all__ = [
    "BASELINES",
    "Settings",
    "Sums",
    "border_ratio",
    "lag_autocorrelation",
    "paired_bootstrap",
    "score",
    "score_arrays",
    "verify",
]
