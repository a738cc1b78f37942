"""Scores of any downscaled ensemble, from arrays, datasets or files, next to simple baselines."""

from finescale.verify.baselines import BASELINES
from finescale.verify.dataset import score
from finescale.verify.evaluate import score_arrays
from finescale.verify.report import verify
from finescale.verify.settings import Settings
from finescale.verify.significance import compare, intervals, paired_bootstrap
from finescale.verify.sums import Sums
from finescale.verify.temporal import border_ratio, lag_autocorrelation

__all__ = [
    "BASELINES",
    "Settings",
    "Sums",
    "border_ratio",
    "compare",
    "intervals",
    "lag_autocorrelation",
    "paired_bootstrap",
    "score",
    "score_arrays",
    "verify",
]
