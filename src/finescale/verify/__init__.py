"""Scores of any downscaled ensemble, from arrays, datasets or files, next to simple baselines."""

from finescale.scores.bootstrap import compare, intervals, paired_bootstrap
from finescale.scores.settings import Settings
from finescale.scores.sums import Sums
from finescale.scores.temporal import border_ratio, lag_autocorrelation
from finescale.verify.baselines import BASELINES
from finescale.verify.dataset import score
from finescale.verify.evaluate import score_arrays
from finescale.verify.report import verify

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
