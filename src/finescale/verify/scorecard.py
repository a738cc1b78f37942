"""How scores are shown: the tables with the best and what is sure marked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from finescale.scores import across
from finescale.scores.record import FIELD, GROUPS, Score
from finescale.scores.table import scores

_NAMES = {
    "ensemble": "Ensemble",
    "nearest": "Nearest",
    "bilinear": "Bilinear",
    "bicubic": "Bicubic",
    "noise": "Bicubic + noise",
    "rainfarm": "RainFARM",
    "climatology": "Climatology",
}

FIRST = (
    *("crps", "rmse", "spread_skill", "fss"),
    *("log_spectral_distance", "p999_bias", "wet_day_frequency", "conservation_residual"),
)
"""Scores of the short table on top of the report."""
SHORTEST = (
    *("crps", "spread_skill", "fss", "log_spectral_distance"),
    *("p999_bias", "wet_fraction", "conservation_residual"),
)
"""Scores of the table in a terminal."""


def _change(results: Mapping[str, Mapping[str, Any]], key: str, other: str, units: str) -> tuple[str, str]:
    """``12 % below``, empty where they are equal, and both numbers."""
    ours, theirs = results["ensemble"][key], results[other][key]
    numbers = f"{ours:.3g} against {theirs:.3g} {units}".rstrip()
    if theirs == 0 or abs(ours / theirs - 1) < 0.005:
        return "", numbers
    return f"{100 * abs(ours / theirs - 1):.0f} % {'below' if ours < theirs else 'above'}", numbers


def rival(results: Mapping[str, Mapping[str, Any]], key: str = "crps") -> str | None:
    """The system with the lowest CRPS, or other loss, beside the ensemble."""
    others = {name: r[key] for name, r in results.items() if name != "ensemble" and _known(r[key])}
    return min(others, key=others.__getitem__) if others else None


def table(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The full table: groups {name, rows}, rows as in `short`."""
    found = []
    for name in GROUPS:
        listed = [score for score in scores().values() if score.group == name and score.table]
        rows = [row for score in listed for path in _paths(score, summary) for row in _row(score, path, summary)]
        if rows:
            found.append({"name": name, "rows": rows})
    return found


def together(summary: Mapping[str, Any], pairs: bool = False) -> list[dict[str, Any]]:
    """Rows of the scores of several variables together: of all of them, or of pairs."""
    listed = [score for score in across.scores().values() if score.title and ("pair" in score.dims) is pairs]
    return [row for score in listed for path in _paths(score, summary) for row in _row(score, path, summary)]


def together_verdict(results: Mapping[str, Mapping[str, Any]]) -> str:
    """One sentence: the ensemble's energy score of all variables in a cell against that of the best other system."""
    key = "joint_energy_score"
    best, ours = rival(results, key), results["ensemble"][key]
    if best is None:
        return f"The energy score of all variables in a cell is {ours:.3g}, with no baseline to compare it with."
    change, numbers = _change(results, key, best, "")
    against = f"is {change} {title(best)}'s" if change else f"equals that of {title(best)}"
    return f"The energy score of all variables in a cell {against}, the best of the others ({numbers})."


def short(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the table on top: {name, hint, arrow, unit, main, cells}, one cell a system; see `_row`."""
    return _rows(summary, FIRST)


def _rows(summary: Mapping[str, Any], keys: Sequence[str]) -> list[dict[str, Any]]:
    """One row a score; of those by threshold the middle one."""
    rows = []
    for score in map(scores().__getitem__, keys):
        paths = _paths(score, summary)
        for path in paths[(len(paths) - 1) // 2 :][:1]:
            rows += _row(score, path, summary)
    return rows


def text(summary: Mapping[str, Any], keys: Sequence[str] = SHORTEST) -> str:
    """The main scores as lines of text, a column a system, the best of each row marked with a star."""
    rows = _rows(summary, keys)
    names = [title(name).replace(" + ", "+")[:13] for name in summary["systems"]]
    lines = [f"{'':32}" + "".join(f"{name:>14}" for name in names)]
    for row in rows:
        unit = ", ".join(part for part in (row["unit"], row["hint"]) if part)
        label = f"{row['name']}" + (f" ({unit})" if len(row["name"]) + len(unit) < 29 and unit else "")
        cells = (f"{cell['text']}{'*' if cell['best'] else ' '}" for cell in row["cells"])
        lines.append(f"{label:32}" + "".join(f"{cell:>14}" for cell in cells))
    return "\n".join(lines)


def _paths(score: Score, summary: Mapping[str, Any]) -> list[tuple[int, ...]]:
    """Where the rows of a score are in its lists: (), (threshold,), (threshold, scale) or (level,); none of curves."""
    if not score.dims:
        return [()]
    if score.dims[0] == "coverage_level":
        return [(k,) for k in range(len(summary["coverage_levels"]))]
    if score.dims[0] == "pair":
        return [(k,) for k in range(len(summary["pairs"]))]
    if score.dims[0] != "threshold":  # a curve
        return []
    # One window width in the table, about a coarse cell; the others are in scores.json.
    end = (min(2, len(summary["fss_scales_cells"]) - 1),) if "scale" in score.dims else ()
    return [(k, *end) for k in range(len(summary["thresholds"]))]


def _row(score: Score, path: tuple[int, ...], summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row, or none where no system has the score.

    A cell has ``text``, ``best`` (of several), ``range`` (the ensemble's interval) and ``mark``: "better" or "worse"
    where that system is, by more than chance, than the ensemble. Climatology is the truth itself, at other times: it is
    right in texture and distribution by construction, so it is never marked as the best.
    """
    systems = summary["systems"]
    field = score.units == FIELD
    if score.style == "percent" and summary.get("dry_threshold", 0) is None:  # no share of a temperature
        score, field = replace(score, style="signed"), True
        values = [_apart(r, score.key.removesuffix("_bias")) for r in systems.values()]
    else:
        values = [_at(r.get(score.key), path) for r in systems.values()]
    # A level is shown in °C; differences of temperatures are the same in K.
    add = summary["shown"]["add"] if field and score.best == "truth" else 0.0
    if not any(_known(v) for v in values):
        return []
    targets = [_target(score, path, r, systems["ensemble"]) for r in systems.values()]
    lost = [
        _loss(v, t) if _known(v) and _known(t) and name != "climatology" else math.inf
        for name, v, t in zip(systems, values, targets, strict=True)
    ]
    cells = []
    for name, value, best in zip(systems, values, _best(lost, score), strict=True):
        edges = [_at(edge, path) for edge in summary["intervals"].get(name, {}).get(score.key, ())]
        shown = name == "ensemble" and len(edges) == 2 and all(_known(e) for e in edges)
        ends = [_number(e, score, add) for e in edges] if shown else []
        compared = summary["comparisons"].get(name, {}).get(score.key, {})
        apart = _at(compared.get("difference"), path)
        sure = bool(_at(compared.get("significant"), path)) and not rounded(values[0], value, score)
        mark = ("worse" if apart < 0 else "better") if sure else ""
        cells.append({"text": _number(value, score, add), "best": best, "range": " … ".join(ends), "mark": mark})
    target = targets[0] + add if isinstance(targets[0], float) else targets[0]
    row = {"name": _label(score, path, summary), "hint": _hint(target), "main": score.key == "crps"}
    arrow = {"low": "↓", "high": "↑"}.get(str(target), "")
    return [row | {"arrow": arrow, "unit": summary["shown"]["units"] if field else "", "cells": cells}]


def _label(score: Score, path: tuple[int, ...], summary: Mapping[str, Any]) -> str:
    if not path:
        return score.title
    if score.dims[0] == "pair":
        return f"{score.title}, {' and '.join(summary['pairs'][path[0]])}"
    if score.dims[0] == "coverage_level":
        return f"{score.title} of {100 * summary['coverage_levels'][path[0]]:g} %"
    end = f", {summary['fss_scales_cells'][path[1]]} cells" if len(path) > 1 else ""
    shown = summary["shown"]
    at = f"{summary['thresholds'][path[0]] + shown['add']:.6g} {shown['units']}"
    return f"{score.title} {score.relation}{at}".rstrip() + end


def _target(score: Score, path: tuple[int, ...], own: Mapping[str, Any], ensemble: Mapping[str, Any]) -> Any:
    """ "low", "high", or the best value: the truth's, or what an ensemble of that size can have."""
    if score.best == "truth":
        return _at(ensemble.get(f"{score.key}_truth"), path)
    return _at(own.get(f"{score.key}_expected"), path) if score.best == "expected" else score.best


def _at(value: Any, path: tuple[int, ...]) -> Any:
    for k in path:
        value = None if value is None else value[k]
    return value


def _known(value: Any) -> bool:
    return isinstance(value, str) or (value is not None and math.isfinite(value))


def _loss(value: Any, best: Any) -> float:
    return value if best == "low" else -value if best == "high" else abs(value - float(best))


def _best(losses: list[float], score: Score) -> list[bool]:
    """Which systems are best; those equal to three digits, or conserving to single precision, share the place."""
    least = min(losses)
    slack = _slack(score, least)
    return [len(losses) > 1 and math.isfinite(v) and v <= least + slack for v in losses]


def rounded(ours: float | None, theirs: float | None, score: Score) -> bool:
    """Whether two values of a score differ by no more than rounding, of the sums or of what is shown; or are
    unknown."""
    if ours is None or theirs is None or not math.isfinite(ours - theirs):
        return True
    return abs(ours - theirs) <= _slack(score, max(abs(ours), abs(theirs))) or (
        _number(ours, score) == _number(theirs, score)
    )


def _apart(result: Mapping[str, Any], key: str) -> float | None:
    """A percentile less the truth's."""
    value, true = result.get(key), result.get(f"{key}_truth")
    return None if value is None or true is None else value - true


def _slack(score: Score, least: float) -> float:
    """Differences up to this are rounding."""
    return score.rounding or 5e-4 * abs(least) + 1e-12


def _hint(best: Any) -> str:
    words = {"low": "lower is better", "high": "higher is better"}
    return words.get(best, f"best is {best:.3g}" if isinstance(best, float) and math.isfinite(best) else "")


def _number(value: float | None, score: Score, add: float = 0.0) -> str:
    if value is None or math.isnan(value):
        return "–"
    value += add
    if math.isinf(value):
        return "∞"
    value = 0.0 if abs(value) < 1e-12 else value  # rounding
    if score.style == "percent":
        text = f"{round(100 * value):+d} %" if abs(value) >= 0.005 else "0 %"
    elif score.style == "thousandths":
        text = f"{value:.3f}"
    elif score.style == "tenths":
        text = f"{value:.1f}"
    elif score.style == "signed":
        text = "0.000" if abs(value) < 1e-6 else f"{value:+.3f}" if abs(value) >= 1e-3 else f"{value:+.0e}"
    elif value != 0 and (abs(value) < 1e-3 or abs(value) >= 1e4):
        text = f"{value:.1e}"
    else:
        text = f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"
    return text.replace("-", "−")


def enumerated(parts: Sequence[str]) -> str:
    """``a``, ``a and b``, or ``a, b and c``."""
    *others, last = parts
    return f"{', '.join(others)} and {last}" if others else last


def title(name: str) -> str:
    """A system's name as shown."""
    return _NAMES.get(name, name)
