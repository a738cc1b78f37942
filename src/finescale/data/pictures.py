"""Photographs and other pictures (PNG, JPEG): red, green, blue and their luminance, from 0 to 255.

    luminance = 0.299 R + 0.587 G + 0.114 B        (ITU-R BT.601)

A grey picture has its luminance alone. Rows run from the top down; there are no coordinates. Transparency is left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from finescale.data.named import Entry

WEIGHTS = {"red": 0.299, "green": 0.587, "blue": 0.114}
_GREY = ("1", "L", "LA", "I;16", "I", "F")


def opened(entry: Entry, chunks: Any) -> xr.Dataset:
    """The picture's variables (y, x), float32."""
    from PIL import Image

    with Image.open(entry.file) as picture:
        if picture.mode in _GREY:
            grey = picture.convert("L") if picture.mode in ("1", "LA") else picture
            planes = {"luminance": np.asarray(grey, dtype=np.float32)}
        else:
            values = np.asarray(picture.convert("RGB"), dtype=np.float32)
            planes = {name: values[..., n] for n, name in enumerate(WEIGHTS)}
            planes["luminance"] = np.asarray(values @ np.array(list(WEIGHTS.values())), dtype=np.float32)
    attrs = {name: {"units": "1", "long_name": f"{name} from 0 to 255"} for name in planes}
    ds = xr.Dataset({name: (("y", "x"), plane, attrs[name]) for name, plane in planes.items()})
    return ds if chunks is None else ds.chunk(chunks)
