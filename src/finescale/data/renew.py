"""What a Zarr store holds from its beginning, written again: metadata and coordinates, whatever became of them."""

from __future__ import annotations

from typing import Any

import xarray as xr

from finescale.data.atomic import explained
from finescale.data.place import Place, Remote


def renew(folder: Place, empty: xr.Dataset) -> None:
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
            file = folder / key
            if isinstance(file, Remote):
                file.put(value.to_bytes())
            else:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(value.to_bytes())
