"""finescale: coarse gridded fields in, conserved fine ensembles out.

Six verbs, as on the command line::

    import finescale

    finescale.coarsen("radar.nc", "1x8", "coarse.nc")
    finescale.fit("wavelet", "model", {"data.path": "radar.nc", "train.minutes": 12})
    finescale.calibrate("model", "radar_elsewhere.nc")
    finescale.downscale("model", "coarse.nc", "ensemble.nc", members=16)
    finescale.verify("ensemble.nc", "radar.nc", "scores")
    print(finescale.recipe("1x8"))

and a model in memory::

    model = finescale.load("model")
    ensemble = model.downscale(dataset, members=16)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from finescale.errors import InputError
from finescale.grids.factor import Factor, Factors
from finescale.grids.grid import Grid
from finescale.version import __version__ as __version__

if TYPE_CHECKING:
    from finescale import constraints, plots, verify
    from finescale.config.load import load
    from finescale.config.recipe import recipe
    from finescale.downscaler import Downscaler
    from finescale.training.calibrate import calibrate
    from finescale.training.fit import fit
    from finescale.verbs import coarsen, downscale

__all__ = [
    "Downscaler",
    "Factor",
    "Factors",
    "Grid",
    "InputError",
    "calibrate",
    "coarsen",
    "constraints",
    "downscale",
    "fit",
    "load",
    "plots",
    "recipe",
    "verify",
]

# torch takes seconds to import; `finescale --help` and `import finescale` need none of it.
_LAZY = {
    "Downscaler": "finescale.downscaler",
    "calibrate": "finescale.training.calibrate",
    "coarsen": "finescale.verbs",
    "downscale": "finescale.verbs",
    "fit": "finescale.training.fit",
    "load": "finescale.config.load",
    "recipe": "finescale.config.recipe",
}
_ROOMS = ("constraints", "plots", "verify")


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in _ROOMS:
        return importlib.import_module(f"finescale.{name}")
    raise AttributeError(f"module 'finescale' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
