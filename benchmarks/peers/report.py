"""The tables of peers.md, and the lines of code of a script."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SCORES = {
    "CRPS": ("{:.4f}", "crps"),
    "… of amounts ≥ 5": ("{:.4f}", "threshold_weighted_crps"),
    "energy score": ("{:.3f}", "energy_score"),
    "spread–skill": ("{:.2f}", "spread_skill"),
    "spectral distance": ("{:.3f}", "log_spectral_distance"),
    "imprint": ("{:.2f}", "imprint"),
    "isolated wet": ("{:.4f}", "isolated_wet"),
    "residual": ("{:.0e}", "conservation_residual"),
    "s a member": ("{:.2g}", "seconds_a_member"),
    "parameters": ("{:.2f} M", "millions"),
    "installed": ("{:.2f} GB", "gigabytes"),
    "lines": ("{:.0f}", "lines"),
}
"""Titles of columns, with the forms of their values."""
TITLES = {"mrms": "MRMS east of −90°", "fmi": "Finland", "mch": "Switzerland"}
LESS_IS_BETTER = (
    "crps",
    "threshold_weighted_crps",
    "energy_score",
    "log_spectral_distance",
    "seconds_a_member",
    "gigabytes",
)
TO_ONE = ("spread_skill",)
"""Scores that are best at one."""
TO_TRUTH = ("imprint", "isolated_wet")
"""Scores that are best where the truth's are."""
TOKENS = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
ANNOTATIONS = "__future__"
NO_IMPROVEMENT = 0.995
"""What is less than this share better is not called better."""

Row = dict[str, Any]


def lines_of(sources: Iterable[str]) -> int:
    """Lines with code: neither blank nor comments nor docstrings."""
    return sum(len(_coded(source)) for source in sources)


def _coded(source: str) -> set[int]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    found = {
        number for token in tokens if token.type not in TOKENS for number in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(ast.parse(source)):
        constant = node.value if isinstance(node, ast.Expr) else None
        docstring = isinstance(constant, ast.Constant) and isinstance(constant.value, str)
        if docstring or (isinstance(node, ast.ImportFrom) and node.module == ANNOTATIONS):
            found -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return found


def report(found: dict[str, Any]) -> str:
    """The whole page.

    Args:
        found: ``settings`` (name -> what), ``places`` (place -> crops, side, truth, systems) and ``trained`` (system
            -> what it took).
    """
    lines = ["# Peers", "", *(f"- {key}: {value}" for key, value in found["settings"].items())]
    for place, row in found["places"].items():
        lines += ["", f"## {TITLES.get(place, place)}: {row['crops']} crops of {row['side']}²", ""]
        lines += [table(row["truth"], row["systems"]), "", *better(row["truth"], row["systems"])]
    if found.get("trained"):
        lines += ["", "## Training", "", "| | parameters | steps | processor s |", "|---|---|---|---|"]
        for system, took in found["trained"].items():
            sizes = ", ".join(f"{n / 1e6:.2f} M {part}" for part, n in took["parameters"].items())
            lines.append(
                f"| {system} | {sizes} | {', '.join(map(str, took['steps']))} | {took['training_seconds']:.0f} |"
            )
    return "\n".join([*lines, ""])


def table(truth: Row, systems: dict[str, Row]) -> str:
    """A line a system, and the truth's."""
    lines = [f"| | {' | '.join(SCORES)} |", "|---" * (len(SCORES) + 1) + "|"]
    for name, row in ({"truth": truth} | systems).items():
        cells = [form.format(row[key]) if _known(row.get(key)) else "" for form, key in SCORES.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def better(truth: Row, systems: dict[str, Row]) -> list[str]:
    """What others are better in than all of ours, a line for each."""
    ours = [row for row in systems.values() if row.get("ours")]
    lines = ["Better than every finescale row:", ""]
    for name, row in systems.items():
        wins = [
            title
            for title, (_, key) in SCORES.items()
            if _known(row.get(key)) and ours and all(_beats(key, row, one, truth) for one in ours)
        ]
        if wins and not row.get("ours"):
            lines.append(f"- {name}: {', '.join(wins)}")
    return lines if len(lines) > 2 else []


def _beats(key: str, row: Row, other: Row, truth: Row) -> bool:
    """Whether a row's score is better by more than half a percent."""
    if not _known(other.get(key)):
        return False
    if key in TO_ONE:
        return abs(row[key] - 1) < NO_IMPROVEMENT * abs(other[key] - 1)
    if key in TO_TRUTH:
        return abs(row[key] - truth[key]) < NO_IMPROVEMENT * abs(other[key] - truth[key])
    return key in LESS_IS_BETTER and row[key] < NO_IMPROVEMENT * other[key]


def _known(value: Any) -> bool:
    return isinstance(value, int | float) and value == value


def sources(script: Path, also: Iterable[str] = ()) -> list[str]:
    """A script and the modules beside it that belong to it."""
    return [file.read_text() for file in (script, *(script.with_name(f"{name}.py") for name in also))]
