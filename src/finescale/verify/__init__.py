"""Scores of any downscaled ensemble, from arrays, datasets or files, next to simple baselines."""

import sys
from types import ModuleType
from typing import Any

from finescale.scores.bootstrap import compare, intervals, paired_bootstrap
from finescale.scores.settings import Settings
from finescale.scores.sums import Sums
from finescale.scores.temporal import border_ratio, lag_autocorrelation
from finescale.verify.baselines import BASELINES
from finescale.verify.dataset import score
from finescale.verify.evaluate import score_arrays
from finescale.verify.quantile_mapping import quantile_mapping
from finescale.verify.report import verify


class _Verb(ModuleType):
    """This module, called: `finescale.verify.verify`, so that ``finescale.verify(...)`` is the verb of the command."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return verify(*args, **kwargs)


sys.modules[__name__].__class__ = _Verb

__all__ = [
    "BASELINES",
    "Settings",
    "Sums",
    "border_ratio",
    "compare",
    "intervals",
    "lag_autocorrelation",
    "paired_bootstrap",
    "quantile_mapping",
    "score",
    "score_arrays",
    "verify",
]
