"""Sphinx: a command's options, from the code that reads them: ``{command} coarsen``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from inspect import Parameter
from typing import Any

from cyclopts.argument import Argument
from docutils import nodes
from keys import named, row
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from finescale.cli.commands import app as commands


def word(argument: Argument) -> str:
    """What an argument is called: the option, or its place."""
    if positional(argument):
        return (argument.field_info.name or "").strip("_").upper()
    return ", ".join(sorted(argument.names, key=len, reverse=True))


def positional(argument: Argument) -> bool:
    return argument.field_info.kind in (Parameter.POSITIONAL_ONLY, Parameter.VAR_POSITIONAL)


def default(argument: Argument) -> str:
    if argument.required:
        return "*Needed.*"
    given: Any = argument.field_info.default
    return "" if given in (None, False, Parameter.empty) else f"*Unless given:* `{given}`"


def rows(arguments: list[Argument]) -> Iterator[str]:
    for argument in arguments:
        kind = "" if argument.hint is bool else named(argument.hint) or "path"
        said = re.sub(r"(--[\w-]+)", r"`\1`", (argument.parameter.help or "").replace("\n", " "))
        yield row(f"`{word(argument)}`", kind, said, default(argument))


def usage(name: str, arguments: list[Argument]) -> str:
    """The command with what it needs."""
    places = [word(a) if a.required else f"[{word(a)}]" for a in arguments if positional(a)]
    needed = [
        f"{min(a.names, key=len)} {a.field_info.name.upper()}" for a in arguments if a.required and not positional(a)
    ]
    return " ".join(["finescale", name, *places, *needed, "[OPTIONS]" if len(needed + places) < len(arguments) else ""])


class Command(SphinxDirective):
    """``{command} NAME``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        command = commands[self.arguments[0]]
        arguments = list(command.assemble_argument_collection(parse_docstring=True))
        table = ["| option | what |", "|---|---|", *rows(arguments)] if arguments else []
        text = [
            command.help.split("\n")[0],
            f"```console\n$ {usage(self.arguments[0], arguments).strip()}\n```",
            "\n".join(table),
        ]
        return self.parse_text_to_nodes("\n\n".join(text))


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("command", Command)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
