"""The report as one HTML page that needs no other file and no network."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finescale.scores.record import GROUPS
from finescale.scores.table import scores
from finescale.verify.figures import Picture
from finescale.verify.scorecard import short, table, title

_KINDS = {"svg": "image/svg+xml", "png": "image/png", "gif": "image/gif"}
_LIMIT = 300_000
"""An SVG above so many bytes is shown as PNG: the page stays small."""


def render(summary: Mapping[str, Any], pictures: Sequence[Picture]) -> str:
    """The page; every text from the files is escaped."""
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    template = jinja2.Environment(autoescape=True, loader=loader, trim_blocks=True, lstrip_blocks=True).get_template(
        "report.html.j2"
    )
    sections: dict[str, list[dict[str, Any]]] = {}
    for picture in pictures:
        sections.setdefault(picture.section, []).append(_shown(picture))
    defined = [score for key, score in scores().items() if key in summary["definitions"]]
    return template.render(
        s=summary,
        sections=sections,
        rows=short(summary),
        groups=table(summary),
        titles=[title(name) for name in summary["systems"]],
        scores=[score for group in GROUPS for score in defined if score.group == group],
        constraint={title(name): pair for name, pair in summary.get("constraint", {}).items()},
    )


def _shown(picture: Picture) -> dict[str, Any]:
    """What the template needs. Curves as SVG, sharp at any size; maps as PNG."""
    curve = "svg" in picture.files and picture.section != "maps" and len(picture.files["svg"]) <= _LIMIT
    kind = "svg" if curve and picture.name != "conservation" else "png" if "png" in picture.files else "gif"
    return {
        "name": picture.name,
        "alt": picture.alt,
        "caption": picture.caption,
        "src": _data(kind, picture.files[kind]),
        "narrow": _data("png", picture.narrow) if picture.narrow else "",
        "curve": kind == "svg",
    }


def _data(kind: str, data: bytes) -> str:
    return f"data:{_KINDS[kind]};base64,{base64.b64encode(data).decode()}"
