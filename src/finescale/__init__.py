"""finescale: coarse gridded fields in, conserved fine ensembles out.

import finescale
model = finescale.load("model")
ensemble = model.downscale(dataset, members=16)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finescale.config.recipe import recipe
from finescale.errors import InputError
from finescale.grids.factor import Factor, Factors
from finescale.grids.grid import Grid

if TYPE_CHECKING:
    from finescale.config.build import load
    from finescale.downscaler import Downscaler
    from finescale.training.fit import fit

__all__ = ["Downscaler", "Factor", "Factors", "Grid", "InputError", "fit", "load", "recipe"]
__version__ = "0.1.0"

# torch takes seconds to import; `finescale --help` and `import finescale` need none of it.
_LAZY = {"load": "finescale.config.build", "Downscaler": "finescale.downscaler", "fit": "finescale.training.fit"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'finescale' has no attribute {name!r}")
