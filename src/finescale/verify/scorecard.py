"""How scores are shown: names and meanings, the table with the best marked, the verdict in one sentence."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from finescale.verify.dataset import DIMENSIONS
from finescale.verify.entries import ENTRIES, Entry
from finescale.verify.significance import block_length, paired_bootstrap

_NAMES = {
    "ensemble": "Ensemble",
    "nearest": "Nearest",
    "bilinear": "Bilinear",
    "bicubic": "Bicubic",
    "rainfarm": "RainFARM",
    "climatology": "Climatology",
}


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


def confidence(results: Mapping[str, Mapping[str, Any]], units: str) -> str:
    """One sentence with the 95 % interval of that comparison over times; empty below five times."""
    best, ours = rival(results), results["ensemble"]
    if best is None or ours["times"] < 5:
        return ""
    block = block_length(ours["times"])
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
    """Rows of the table: name, hint, unit and one cell {text, best} a system; the best of several is marked."""
    systems, rows = summary["systems"], []
    for entry in ENTRIES:
        if not entry.table:
            continue
        for label, pick in _picks(entry, summary):
            values = [pick(r) for r in systems.values()]
            if not any(v is not None and math.isfinite(v) for v in values):
                continue
            target = systems["ensemble"].get(f"{entry.key}_truth") if entry.best == "truth" else entry.best
            known = target is not None and (isinstance(target, str) or math.isfinite(target))
            lost = [_loss(v, target) if known and v is not None and math.isfinite(v) else math.inf for v in values]
            marks = _best(lost, entry.key)
            cells = [{"text": _number(v, entry.key), "best": b} for v, b in zip(values, marks, strict=True)]
            unit = summary["units"] if entry.in_units else ""
            row = {"name": label, "hint": _hint(target), "arrow": {"low": "↓", "high": "↑"}.get(str(target), "")}
            rows.append(row | {"unit": unit, "cells": cells, "main": entry.key == "crps"})
    return rows


def _picks(entry: Entry, summary: Mapping[str, Any]) -> list[tuple[str, Callable[[Mapping[str, Any]], float | None]]]:
    """Label and getter of each row of a score: one, or one a threshold."""
    if DIMENSIONS.get(entry.key, ())[:1] != ("threshold",):
        return [(entry.name, lambda r: r.get(entry.key))]
    unit, scales = summary["units"], summary["fss_scales_cells"]
    # One window width in the table, about a coarse cell; the others are in scores.json.
    chosen = min(2, len(scales) - 1)

    def pick(k: int) -> Callable[[Mapping[str, Any]], float | None]:
        return lambda r: r["fss"][k][chosen] if entry.key == "fss" else r[entry.key][k]

    end = f", {scales[chosen]} cells" if entry.key == "fss" else ""
    return [(f"{entry.name} ≥ {t:g} {unit}".rstrip() + end, pick(k)) for k, t in enumerate(summary["thresholds"])]


def _loss(value: float, best: Any) -> float:
    return value if best == "low" else -value if best == "high" else abs(value - float(best))


def _best(losses: list[float], key: str) -> list[bool]:
    """Which systems are best; those equal to three digits, or conserving to single precision, share the place."""
    least = min(losses)
    slack = 1e-6 if key in ("conservation_residual", "bias") else 5e-4 * abs(least) + 1e-12
    return [len(losses) > 1 and math.isfinite(v) and v <= least + slack for v in losses]


def _hint(best: Any) -> str:
    words = {"low": "lower is better", "high": "higher is better"}
    return words.get(best, f"best is {best:.3g}" if isinstance(best, float) and math.isfinite(best) else "")


def _number(value: float | None, key: str) -> str:
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
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
