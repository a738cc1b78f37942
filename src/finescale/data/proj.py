"""pyproj and eccodes in one process: which of them may be loaded.

eccodes puts its libraries, a PROJ among them, into the global scope (RTLD_GLOBAL, by findlibs). A pyproj loaded after
it takes its symbols from that PROJ in place of its own, another version: projections fail, and objects that both define
are destroyed twice at exit, "double free or corruption". One loaded before is bound (RTLD_NOW). xarray loads cfgrib,
and so eccodes, whenever it looks for the engine of any file.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

ECCODES = "gribapi"


def bind_proj() -> None:
    """Load pyproj, where it is installed beside eccodes, before that: GeoTIFF and maps may need it later."""
    if ECCODES not in sys.modules and importlib.util.find_spec(ECCODES):
        projections()


def projections() -> ModuleType | None:
    """pyproj; None where it is not installed, or eccodes was loaded before it, by the user's own code."""
    late = ECCODES in sys.modules and "pyproj" not in sys.modules
    return None if late or not importlib.util.find_spec("pyproj") else importlib.import_module("pyproj")
