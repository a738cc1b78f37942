"""What a Zarr store holds from its beginning, written again: metadata and coordinates, whatever became of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import xarray as xr

from finescale.data.atomic import explained


def renew(folder: Path, empty: xr.Dataset) -> None:
    """Write metadata and coordinates of ``empty`` into a store that was begun with them; regions of values stay.

    Args:
        folder: the store.
        empty: as it was begun, values not computed.

    Raises:
        InputError: where a file cannot be written.
    """
    from zarr.storage import MemoryStore

    begun: dict[str, Any] = {}
    empty.to_zarr(MemoryStore(begun), mode="w", compute=False, consolidated=False)
    with explained(folder, ": give --overwrite without --resume to begin afresh"):
        for key, value in begun.items():
            (folder / key).parent.mkdir(parents=True, exist_ok=True)
            (folder / key).write_bytes(value.to_bytes())
