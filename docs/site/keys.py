"""Sphinx: tables of configuration keys from the constructors that check them, so that they cannot differ.

``{keys} data finescale.training.sections:Data`` lists what a section takes; ``{kinds} latent finescale.latents`` what
each kind of a part takes.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from docstring_parser import parse
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from finescale.config.schema import classes_of

DERIVED = {"channels", "out_channels", "embedding", "factor", "trunk", "features", "network", "norm", "area", "mask"}
"""Arguments that are passed, and cannot be configured; so are networks, which have sections of their own."""


def named(hint: Any) -> str:
    """A type as somebody who writes YAML calls it."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return named(args[0])
    if origin is Literal:
        return ", ".join(map(str, args))
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(named(arg) for arg in args if arg is not type(None)))
    if origin in (list, tuple):
        return "list"
    if origin is dict or hint is dict:
        return "mapping"
    return {int: "whole number", float: "number", str: "text", bool: "true or false"}.get(hint, "")


def value(default: Any) -> str:
    """What holds where a key is not given, as it is written in YAML."""
    if default is inspect.Parameter.empty:
        return "*Needed.*"
    if default is None:
        return ""
    text = list(default) if isinstance(default, tuple) else default
    text = str(text).lower() if isinstance(text, bool) else text
    return f"*Unless given:* `{text}`"


def row(name: str, kind: str, text: str, default: str) -> str:
    """A row of a table: what something is called and is; what it does, and what holds without it."""
    said = f"{text[:1].upper()}{text[1:]}".replace("|", r"\|")
    return f"| {name} {kind} | {said} {default} |"


def rows(cls: type) -> Iterator[str]:
    """A row for each key that a constructor takes from a configuration."""
    said = {p.arg_name: p.description or "" for c in reversed(cls.__mro__) for p in parse(c.__doc__ or "").params}
    hints = get_type_hints(cls.__init__, include_extras=True)
    for name, parameter in inspect.signature(cls).parameters.items():
        kind = named(hints.get(name, Any))
        if name in DERIVED or not kind:
            continue
        text = re.sub(r"`(finescale[\w.]*)`", r"``\1``", " ".join(said.get(name, "").split()))
        yield row(f"`{name}`", kind, text, value(parameter.default))


def table(cls: type) -> str:
    """What a class takes, as a Markdown table."""
    found = list(rows(cls))
    return "\n".join(["| key | what |", "|---|---|", *found]) if found else "No keys."


class Keys(SphinxDirective):
    """``{keys} SECTION MODULE:CLASS``."""

    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        module, name = self.arguments[1].split(":")
        return self.parse_text_to_nodes(table(getattr(import_module(module), name)))


class Kinds(SphinxDirective):
    """``{kinds} SECTION MODULE``."""

    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        kinds = classes_of(import_module(self.arguments[1]))
        texts = []
        for kind, cls in sorted(kinds.items()):
            summary = (parse(cls.__doc__ or "").short_description or "").replace("\n", " ")
            texts += [f"**`kind: {kind}`** {summary}", table(cls)]
        return self.parse_text_to_nodes("\n\n".join(texts))


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("keys", Keys)
    app.add_directive("kinds", Kinds)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
