"""Sphinx: links within the site are followed after a build, those out of it are listed in ``external-links.txt``.

References in the pages' text Sphinx checks by itself; here the pages are read as a browser reads them, so that what
cards, galleries and themes make is seen as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)


class Page(HTMLParser):
    """What a page links to, and the anchors that it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors = {"", "top"}
        self.unsaid: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors |= {given[key] or "" for key in ("id", "name") if key in given}
        self.links += [given[key] or "" for key in ("href", "src") if given.get(key)]
        # A thumbnail stands above its title.
        if tag == "img" and not given.get("alt") and "_thumb." not in (given.get("src") or ""):
            self.unsaid.append(given.get("src") or "")


def broken(root: Path, pages: dict[Path, Page]) -> Iterator[str]:
    """Links of pages to files or anchors that are not there, and pictures without a description."""
    for path, page in pages.items():
        name = path.relative_to(root)
        yield from (f"{name}: picture {picture} has no description" for picture in page.unsaid)
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not file.exists():
                yield f"{name}: {link} leads nowhere"
            elif file in pages and unquote(parts.fragment) not in pages[file].anchors:
                yield f"{name}: {link} has no such heading"


def follow(app: Sphinx, error: Exception | None) -> None:
    """Check all pages; a link that is broken is a warning."""
    if error is not None or app.builder.format != "html":
        return
    root = Path(app.outdir).resolve()
    paths = [root / unquote(app.builder.get_target_uri(name)) for name in sorted(app.env.found_docs)]
    pages = {path: Page(path) for path in paths}
    for line in broken(root, pages):
        logger.warning(line, type="links")
    outside = {link for page in pages.values() for link in page.links if urlsplit(link).scheme in ("http", "https")}
    (root / "external-links.txt").write_text("\n".join(sorted(outside)) + "\n", encoding="utf-8")
    size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    print(f"--- {root / 'index.html'}: {len(pages)} pages, {size / 1e6:.1f} MB, {len(outside)} external links listed")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("build-finished", follow)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
