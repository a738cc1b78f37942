"""How scores are shown: the tables with the best and what is sure marked, the verdict in one sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from finescale.scores.bootstrap import block_length, paired_bootstrap
from finescale.verify.dataset import DIMENSIONS
from finescale.verify.entries import ENTRIES, FIRST, GROUPS, Entry

_NAMES = {
    "ensemble": "Ensemble",
    "nearest": "Nearest",
    "bilinear": "Bilinear",
    "bicubic": "Bicubic",
    "rainfarm": "RainFARM",
    "climatology": "Climatology",
}


SHORTEST = (
    *("crps", "spread_skill", "fss", "log_spectral_distance"),
    *("p999_bias", "wet_fraction", "conservation_residual"),
)
"""Scores of the table in a terminal."""


def verdict(results: Mapping[str, Mapping[str, Any]], units: str) -> str:
    """One sentence: the ensemble's CRPS against that of the best other system."""
    ours = results["ensemble"]["crps"]
    best = rival(results)
    if best is None:
        return f"The ensemble's CRPS is {ours:.3g} {units}".rstrip() + ", with no baseline to compare it with."
    theirs = results[best]["crps"]
    numbers = f"{ours:.3g} against {theirs:.3g} {units}".rstrip()
    if theirs == 0 or abs(ours / theirs - 1) < 0.005:
        return f"The ensemble's CRPS equals that of {title(best)}, the best of the others ({numbers})."
    change = f"{abs(ours / theirs - 1):.0%} {'below' if ours < theirs else 'above'}".replace("%", " %")
    return f"The ensemble's CRPS is {change} {title(best)}'s, the best of the others ({numbers})."


def confidence(results: Mapping[str, Mapping[str, Any]], units: str, block: int | None = None) -> str:
    """One sentence with the 95 % interval of that comparison over times; empty below five times."""
    best, ours = rival(results), results["ensemble"]
    if best is None or ours["times"] < 5:
        return ""
    block = block or block_length(ours["times"])
    mean, low, high = paired_bootstrap(ours["crps_by_time"], results[best]["crps_by_time"], block=block)
    sure = "more" if low > 0 or high < 0 else "no more"
    interval = f"mean difference {mean:+.3g} {units}".rstrip() + f", 95 % interval {low:+.3g} to {high:+.3g}"
    text = (
        f"Over the {ours['times']} times that is {sure} than chance would give, if times {block} apart are independent "
        f"({interval})."
    )
    return text.replace("-", "−")


def rival(results: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The system with the lowest CRPS beside the ensemble."""
    others = {name: r["crps"] for name, r in results.items() if name != "ensemble" and math.isfinite(r["crps"])}
    return min(others, key=others.__getitem__) if others else None


def table(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The full table: groups {name, rows}, rows as in `short`."""
    found = []
    for name, keys in GROUPS.items():
        entries = [e for key in keys for e in ENTRIES if e.key == key and e.table]
        rows = [row for entry in entries for path in _paths(entry, summary) for row in _row(entry, path, summary)]
        if rows:
            found.append({"name": name, "rows": rows})
    return found


def short(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the table on top: {name, hint, arrow, unit, main, cells}, one cell a system; see `_row`."""
    return _rows(summary, FIRST)


def _rows(summary: Mapping[str, Any], keys: Sequence[str]) -> list[dict[str, Any]]:
    """One row a score; of those by threshold the middle one."""
    rows = []
    for key in keys:
        entry = next(e for e in ENTRIES if e.key == key)
        paths = _paths(entry, summary)
        for path in paths[(len(paths) - 1) // 2 :][:1]:
            rows += _row(entry, path, summary)
    return rows


def text(summary: Mapping[str, Any], keys: Sequence[str] = SHORTEST) -> str:
    """The main scores as lines of text, a column a system, the best of each row marked with a star."""
    rows = _rows(summary, keys)
    names = [title(name)[:13] for name in summary["systems"]]
    lines = [f"{'':32}" + "".join(f"{name:>13}" for name in names)]
    for row in rows:
        unit = ", ".join(part for part in (row["unit"], row["hint"]) if part)
        label = f"{row['name']}" + (f" ({unit})" if len(row["name"]) + len(unit) < 29 and unit else "")
        cells = (f"{cell['text']}{'*' if cell['best'] else ' '}" for cell in row["cells"])
        lines.append(f"{label:32}" + "".join(f"{cell:>13}" for cell in cells))
    return "\n".join(lines)


def _paths(entry: Entry, summary: Mapping[str, Any]) -> list[tuple[int, ...]]:
    """Where the rows of a score are in its lists: (), or (threshold,), (threshold, scale), (level,)."""
    first = DIMENSIONS.get(entry.key, ("",))[0]
    if first == "coverage_level":
        return [(k,) for k in range(len(summary["coverage_levels"]))]
    if first != "threshold":
        return [()]
    # One window width in the table, about a coarse cell; the others are in scores.json.
    end = (min(2, len(summary["fss_scales_cells"]) - 1),) if entry.key == "fss" else ()
    return [(k, *end) for k in range(len(summary["thresholds"]))]


def _row(entry: Entry, path: tuple[int, ...], summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row, or none where no system has the score.

    A cell has ``text``, ``best`` (of several), ``range`` (the ensemble's interval) and ``mark``: "better" or "worse"
    where that system is, by more than chance, than the ensemble. Climatology is the truth itself, at other times: it is
    right in texture and distribution by construction, so it is never marked as the best.
    """
    systems = summary["systems"]
    values = [_at(r.get(entry.key), path) for r in systems.values()]
    if not any(_known(v) for v in values):
        return []
    targets = [_target(entry, path, r, systems["ensemble"]) for r in systems.values()]
    lost = [
        _loss(v, t) if _known(v) and _known(t) and name != "climatology" else math.inf
        for name, v, t in zip(systems, values, targets, strict=True)
    ]
    cells = []
    for name, value, best in zip(systems, values, _best(lost, entry.key), strict=True):
        edges = [_at(edge, path) for edge in summary["intervals"].get(name, {}).get(entry.key, ())]
        shown = name == "ensemble" and len(edges) == 2 and all(_known(e) for e in edges)
        ends = [_number(e, entry.key) for e in edges] if shown else []
        compared = summary["comparisons"].get(name, {}).get(entry.key, {})
        apart = _at(compared.get("difference"), path)
        sure = bool(_at(compared.get("significant"), path)) and _known(value) and abs(apart) > _slack(entry.key, 0.0)
        mark = ("worse" if apart < 0 else "better") if sure else ""
        cells.append({"text": _number(value, entry.key), "best": best, "range": " … ".join(ends), "mark": mark})
    target = targets[0]
    row = {"name": _label(entry, path, summary), "hint": _hint(target), "main": entry.key == "crps"}
    arrow = {"low": "↓", "high": "↑"}.get(str(target), "")
    return [row | {"arrow": arrow, "unit": summary["units"] if entry.in_units else "", "cells": cells}]


def _label(entry: Entry, path: tuple[int, ...], summary: Mapping[str, Any]) -> str:
    if not path:
        return entry.name
    if entry.key == "coverage":
        return f"{entry.name} of {100 * summary['coverage_levels'][path[0]]:g} %"
    end = f", {summary['fss_scales_cells'][path[1]]} cells" if len(path) > 1 else ""
    above = "" if entry.key == "threshold_weighted_crps" else "≥ "
    return f"{entry.name} {above}{summary['thresholds'][path[0]]:g} {summary['units']}".rstrip() + end


def _target(entry: Entry, path: tuple[int, ...], own: Mapping[str, Any], ensemble: Mapping[str, Any]) -> Any:
    """ "low", "high", or the best value: the truth's, or what an ensemble of that size can have."""
    if entry.best == "truth":
        return ensemble.get(f"{entry.key}_truth")
    return _at(own.get(f"{entry.key}_expected"), path) if entry.best == "expected" else entry.best


def _at(value: Any, path: tuple[int, ...]) -> Any:
    for k in path:
        value = None if value is None else value[k]
    return value


def _known(value: Any) -> bool:
    return isinstance(value, str) or (value is not None and math.isfinite(value))


def _loss(value: float, best: Any) -> float:
    return value if best == "low" else -value if best == "high" else abs(value - float(best))


def _best(losses: list[float], key: str) -> list[bool]:
    """Which systems are best; those equal to three digits, or conserving to single precision, share the place."""
    least = min(losses)
    slack = _slack(key, least)
    return [len(losses) > 1 and math.isfinite(v) and v <= least + slack for v in losses]


def _slack(key: str, least: float) -> float:
    """Differences up to this are rounding."""
    return 1e-6 if key in ("conservation_residual", "bias") else 5e-4 * abs(least) + 1e-12


def _hint(best: Any) -> str:
    words = {"low": "lower is better", "high": "higher is better"}
    return words.get(best, f"best is {best:.3g}" if isinstance(best, float) and math.isfinite(best) else "")


def _number(value: float | None, key: str) -> str:
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    value = 0.0 if abs(value) < 1e-12 else value  # rounding
    if key in ("p99_bias", "p999_bias", "p9999_bias"):
        text = f"{round(100 * value):+d} %" if abs(value) >= 0.005 else "0 %"
    elif key == "wet_fraction":
        text = f"{value:.3f}"
    elif key == "psnr":
        text = f"{value:.1f}"
    elif key == "bias":
        text = "0.000" if abs(value) < 1e-6 else f"{value:+.3f}" if abs(value) >= 1e-3 else f"{value:+.0e}"
    elif value != 0 and (abs(value) < 1e-3 or abs(value) >= 1e4):
        text = f"{value:.1e}"
    else:
        text = f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"
    return text.replace("-", "−")


def title(name: str) -> str:
    """A system's name as shown."""
    return _NAMES.get(name, name)
