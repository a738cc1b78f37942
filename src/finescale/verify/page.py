"""The report as one HTML page that needs no other file and no network."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from finescale.scores.record import GROUPS
from finescale.scores.table import scores
from finescale.verify.figures import Picture
from finescale.verify.scorecard import short, table, title, together

if TYPE_CHECKING:
    import jinja2

_KINDS = {"svg": "image/svg+xml", "png": "image/png", "gif": "image/gif"}
_LIMIT = 300_000
"""An SVG above so many bytes is shown as PNG: the page stays small."""


def render(summary: Mapping[str, Any], pictures: Sequence[Picture]) -> str:
    """The page; every text from the files is escaped."""
    sections: dict[str, list[dict[str, Any]]] = {}
    for picture in pictures:
        sections.setdefault(picture.section, []).append(_shown(picture))
    defined = [score for key, score in scores().items() if key in summary["definitions"]]
    return _template("report.html.j2").render(
        s=summary,
        sections=sections,
        rows=short(summary),
        groups=table(summary),
        titles=[title(name) for name in summary["systems"]],
        scores=[score for group in GROUPS for score in defined if score.group == group],
        constraint={title(name): pair for name, pair in summary.get("constraint", {}).items()},
    )


def render_several(summary: Mapping[str, Any], maps: Mapping[str, Picture]) -> str:
    """The first page of several variables: what is said of each, their scores together, and links to their pages."""
    joint = summary["joint"]
    seen = [one["says"] for part in summary["variables"].values() for one in part["trained_on"].values()]
    return _template("several.html.j2").render(
        s=summary,
        maps={name: _shown(picture) for name, picture in maps.items()},
        links={name: f"{quote(slug)}/report.html" for name, slug in summary["folders"].items()},
        rows=together(joint) if "systems" in joint else [],
        pairs=together(joint, pairs=True) if "systems" in joint else [],
        titles=[title(name) for name in joint.get("systems", ())],
        definitions=list(joint.get("definitions", {}).values()),
        seen=list(dict.fromkeys(seen)),
    )


def _template(name: str) -> jinja2.Template:
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    return jinja2.Environment(autoescape=True, loader=loader, trim_blocks=True, lstrip_blocks=True).get_template(name)


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
