"""Global attributes of an output: what it is and what made it are ours, what its input was keeps another name."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from finescale.version import __version__

CONVENTIONS = "CF-1.11"
_THEIRS = ("title", "source", "id", "uuid", "doi", "tracking_id")
"""What names the input itself; an output has it as ``input_title`` and so on, of the first input in a chain."""
_STORAGE = ("coordinates", "_NCProperties", "Conventions")


def provenance(attrs: Mapping[Any, Any], step: str, title: str, source: str = "") -> dict[str, Any]:
    """The global attributes of what ``step`` made of a store with ``attrs``.

    Resolutions (``resolution``, ``geospatial_lat_resolution`` …) are the input's, not the output's, and left out.

    Args:
        attrs: the input's.
        step: the command, for the history.
        title: what the output is.
        source: what made it, beside this package.
    """
    found: dict[str, Any] = {"Conventions": CONVENTIONS, "title": title}
    found["source"] = ", ".join(part for part in (f"finescale {__version__}", source) if part)
    for key, value in attrs.items():
        if key in _THEIRS:
            found[f"input_{key}"] = attrs.get(f"input_{key}", value)
        elif "resolution" not in str(key).lower() and key not in _STORAGE:
            found.setdefault(key, value)
    line = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}: finescale {__version__} {step}"
    before = attrs.get("history")
    return found | {"history": f"{line}\n{before}" if isinstance(before, str) and before else line}
