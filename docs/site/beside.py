"""Sphinx: what the pages link to beside this folder is brought in.

Tables of ``benchmarks/results`` become pages ``results/NAME``, with their pictures. A code host shows the same links
where they lie.
"""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

RESULTS = "../benchmarks/results/"
CONTENTS = "\n\n```{toctree}\n:hidden:\n:glob:\n\nresults/*\n```\n"


def brought(path: Path) -> bytes:
    """A file as the site has it: tables have a title, and options are code, in which two hyphens stay two."""
    if path.suffix != ".md":
        return path.read_bytes()
    lines = path.read_text(encoding="utf-8").splitlines()
    if not lines[0].startswith("# "):
        lines = [f"# {path.stem.replace('_', ' ').capitalize()}", "", *lines]
    options = re.compile(r"(?<= )--[a-z]+")
    return "\n".join(line if "`" in line else options.sub(r"`\g<0>`", line) for line in lines).encode() + b"\n"


def bring(app: Sphinx) -> None:
    """Copy the tables and their pictures to ``results/``, where they differ from what lies there."""
    target = Path(app.srcdir) / "results"
    target.mkdir(exist_ok=True)
    found = [path for path in (Path(app.srcdir) / RESULTS).iterdir() if path.suffix in (".md", ".png", ".gif")]
    for gone in {path.name for path in target.iterdir()} - {path.name for path in found}:
        (target / gone).unlink()
    for path in found:
        copy, content = target / path.name, brought(path)
        if not copy.exists() or copy.read_bytes() != content:
            copy.write_bytes(content)


def relink(app: Sphinx, page: str, source: list[str]) -> None:
    """Links of a page of this folder to the tables lead to the copies, and the page of benchmarks has them below it."""
    if "/" not in page:
        source[0] = re.sub(rf"\]\({re.escape(RESULTS)}", "](results/", source[0])
    if page == "benchmarks":
        source[0] += CONTENTS


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", bring)
    app.connect("source-read", relink)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
