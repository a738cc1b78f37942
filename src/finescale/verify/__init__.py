"""Scores of any downscaled ensemble, from arrays, datasets or files, next to simple baselines."""

from finescale.verify.aggregate import Settings, Sums, paired_bootstrap, score, score_arrays
from finescale.verify.baselines import BASELINES
from finescale.verify.report import verify

__all__ = ["BASELINES", "Settings", "Sums", "paired_bootstrap", "score", "score_arrays", "verify"]
