"""What a new user asks is answered within two clicks of the site's first page, and every link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
MADE = ("auto_examples/index.md", "results/")
"""What the build of the site makes."""
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")


def prose(page: Path) -> str:
    """A page without its code."""
    return re.sub(r"^```(?!{toctree}).*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as a code host and the site make them."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    words = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower().replace("`", "") for title in titles]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in words}


def leads_to(page: Path) -> set[str]:
    """Pages that a page leads to: by links, cards and contents."""
    text = prose(page)
    entries = re.findall(r"^```{toctree}(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    listed = [name for part in entries for name in re.findall(r"<([\w/-]+)>|^([\w/-]+)$", part, re.MULTILINE)]
    cards = re.findall(r"^:link: ([\w/-]+)$", text, re.MULTILINE)
    return {f"{name}.md" for name in [*cards, *(a or b for a, b in listed)]} | {
        target.split("#")[0] or page.name for target in LINK.findall(text)
    }


def ways() -> list[list[str]]:
    """The links in the last column of each question."""
    rows = [line.split(" | ") for line in (DOCS / "questions.md").read_text(encoding="utf-8").splitlines()]
    return [LINK.findall(row[-1]) for row in rows if len(row) == 3 and "](" in row[-1]]


def test_there_are_twelve_questions() -> None:
    assert len(ways()) == 12


@pytest.mark.parametrize("way", ways(), ids=lambda way: way[-1])
def test_a_question_is_two_clicks_from_the_first_page(way: list[str]) -> None:
    first, second = way
    assert first in leads_to(DOCS / "index.md")
    page, _, anchor = second.partition("#")
    assert page in leads_to(DOCS / first) | {first}
    assert not anchor or anchor in anchors(DOCS / page)


@pytest.mark.parametrize("page", [*PAGES, DOCS.parent / "README.md"], ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    text = prose(page)
    for target in [*LINK.findall(text), *(file for _, file in PICTURE.findall(text))]:
        if re.match(r"\w+:", target) or target.startswith(MADE):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pictures_say_what_is_on_them(page: Path) -> None:
    assert all(len(words) >= 10 for words, _ in PICTURE.findall(prose(page)))


def test_every_page_is_in_the_contents() -> None:
    listed = {name for page in PAGES for name in leads_to(page)}
    assert {page.name for page in PAGES} - listed <= {"index.md"}


def test_every_command_has_its_options_on_the_page() -> None:
    from finescale.cli.commands import app

    shown = re.findall(r"^```{command} (\w+)$", (DOCS / "commands.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(shown) == {name for name in app if not name.startswith("-")}
