"""What a cell of the gallery shows: its figures, and its moving pictures.

Figures of finescale are made without pyplot, where sphinx-gallery looks for them. Here they are found by their
names, in the order in which a script makes them; so are the paths of GIFs, which are shown as they are.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

DPI = 110


def displayed(names: Mapping[str, Any]) -> Iterator[Figure | Path]:
    """Figures and GIFs among the names of a script."""
    for name, value in names.items():
        gif = isinstance(value, Path) and value.suffix == ".gif" and value.is_file()
        if not name.startswith("_") and (gif or isinstance(value, Figure)):
            yield value


def title(figure: Figure) -> str:
    """What a figure says that it shows, which is also what is read out in its place."""
    titles = (ax.get_title(place) for ax in figure.axes for place in ("left", "center", "right"))
    return ". ".join(words for words in (figure.get_suptitle(), *titles) if words)


class Scraper:
    """Saves what each cell has shown first (https://sphinx-gallery.github.io/stable/advanced.html)."""

    def __init__(self) -> None:
        self.shown: list[Figure | Path] = []

    def __repr__(self) -> str:
        return "displayed"  # configurations that look the same are the same to Sphinx

    def __call__(self, block: Any, block_vars: Mapping[str, Any], gallery_conf: Mapping[str, Any]) -> str:
        from sphinx_gallery.scrapers import figure_rst

        saved, titles = [], []
        for one in displayed(block_vars["example_globals"]):
            if one in self.shown:
                continue
            self.shown.append(one)
            path = Path(next(block_vars["image_path_iterator"]))
            if isinstance(one, Path):
                path = path.with_suffix(".gif")
                shutil.copy(one, path)
            else:
                one.savefig(path, dpi=DPI)
            saved.append(path)
            titles.append("An animation" if isinstance(one, Path) else title(one))
        return figure_rst(saved, gallery_conf["src_dir"], ", ".join(titles)) if saved else ""


def _get_sg_image_scraper() -> Scraper:
    return SCRAPER


SCRAPER = Scraper()
