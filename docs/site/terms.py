"""Sphinx: the first use of a glossary's term on a page leads to it, and says its meaning when pointed at.

The terms are the third-level headings of ``glossary.md``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from docutils import nodes
from sphinx.application import Sphinx

GLOSSARY = "glossary"
NOT_IN = (nodes.reference, nodes.literal, nodes.title, nodes.caption, nodes.literal_block)
OTHER = {
    "fair CRPS": ["CRPS"],
    "nfe": ["network evaluations"],
    "distilled": ["distillation"],
    "autocorrelation": ["autocorrelations"],
}
"""Other words for a term, beside itself and its plural."""


def terms(app: Sphinx) -> Iterator[tuple[str, str, str]]:
    """Each term: itself, its anchor and the first sentence of its meaning."""
    for section in app.env.get_doctree(GLOSSARY).findall(nodes.section):
        if any(True for _ in section.findall(nodes.section, include_self=False)):
            continue
        meaning = " ".join(part.astext() for part in section.children[1:]).split("\n\n")[0].replace("\n", " ")
        # MyST gives headings their anchors as a code host does.
        yield section.children[0].astext(), section.get("slug") or section["ids"][0], meaning


def pattern(found: dict[str, tuple[str, str]]) -> re.Pattern[str]:
    words = sorted((re.escape(word) for word in found), key=len, reverse=True)
    return re.compile(rf"(?<![\w\-/.])({'|'.join(words)})(?![\w\-])", re.IGNORECASE)


def link(app: Sphinx, tree: nodes.document, page: str) -> None:
    """Make the first use of every term on a page a reference."""
    if page == GLOSSARY or "/" in page or page.startswith(("index", "api", "configuration", "commands", "decisions")):
        return
    found: dict[str, tuple[str, str]] = {}
    for term, anchor, meaning in terms(app):
        for word in (term, term + "s", *OTHER.get(term, [])):
            found[word.lower()] = (anchor, meaning)
    search, seen = pattern(found), set()
    for text in list(tree.findall(nodes.Text)):
        if any(isinstance(parent, NOT_IN) for parent in parents(text)):
            continue
        parts, at = [], 0
        for match in search.finditer(text):
            anchor, meaning = found[match[0].lower()]
            if anchor in seen:
                continue
            seen.add(anchor)
            uri = f"{app.builder.get_relative_uri(page, GLOSSARY)}#{anchor}"
            parts += [nodes.Text(text[at : match.start()])]
            parts += [nodes.reference("", match[0], refuri=uri, internal=True, reftitle=meaning, classes=["term"])]
            at = match.end()
        if parts:
            text.parent.replace(text, [*parts, nodes.Text(text[at:])])


def parents(node: nodes.Node) -> Iterator[nodes.Node]:
    while node.parent is not None:
        node = node.parent
        yield node


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-resolved", link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
