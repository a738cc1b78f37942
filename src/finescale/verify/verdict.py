"""The verdict in four plain lines, and what made an ensemble.

Is it closer to the truth than what one would take without it? Is its spread right, are its extremes strong enough, are
the coarse totals kept?

A line is ``{"head": a few words, "says": one or two sentences}``. Every number in it is in scores.json too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from finescale.data.extent import ATTRIBUTE, parse
from finescale.errors import InputError
from finescale.scores.distribution import LEVELS
from finescale.scores.table import scores
from finescale.verify.scorecard import enumerated, rival, rounded, title

ALTERNATIVES = ("rainfarm", "noise")
"""What the first line compares the ensemble with, beside files that were named."""
OWN = ("nearest", "bilinear", "bicubic", "climatology")
"""Baselines that it names only where one of them is closer."""
RIGHT, NEARLY = 0.05, 0.1
"""A spread off by so much is right, or nearly so; a range of values off by the first is right."""
INTERVAL = 0.9
"""The level of the members' central interval that is named."""
LOW = 0.05
"""The quantile that is the lower end of values."""
FILES = 3
"""Most training files that are named."""

Line = dict[str, str]
Summary = Mapping[str, Any]


def lines(summary: Summary, kept: bool | None, given: bool) -> dict[str, Line]:
    """``closeness``, ``spread``, ``extremes``, ``totals``.

    Args:
        summary: what scores.json holds.
        kept: whether block means equal the coarse field's; None where no factor tells which blocks.
        given: whether that field was given, or is the truth's block means.
    """
    return {
        "closeness": _closeness(summary),
        "spread": _spread(summary),
        "extremes": _extremes(summary),
        "totals": _totals(summary, kept, given),
    }


def made_by(attrs: Mapping[Any, Any], seen: bool) -> dict[str, Any]:
    """Which model and seed made a file, by its global attributes, and whether the truth was among its training data.

    Args:
        attrs: of the file.
        seen: whether some of the truth is.

    Returns:
        ``model``, ``seed`` (None where the file does not tell) and a sentence or two (``says``).
    """
    model, seed = attrs.get("finescale_model"), attrs.get("finescale_seed")
    source = str(attrs.get("source", "")).split(",")[0] or "finescale"
    known = f"Made by {source}, model {model}, seed {'unknown' if seed is None else seed}." if model is not None else ""
    trained = "The truth is among the data that it was trained on." if seen else _trained(attrs)
    if model is None and ATTRIBUTE not in attrs:
        says = "The ensemble's file says neither which model made it nor what that was trained on."
    else:
        says = f"{known} {trained}".strip()
    return {"model": None if model is None else str(model), "seed": None if seed is None else int(seed), "says": says}


def _trained(attrs: Mapping[Any, Any]) -> str:
    try:
        found = parse(str(attrs[ATTRIBUTE]), ATTRIBUTE)
    except (KeyError, InputError):
        return "The file does not say what it was trained on, so the truth may be among it."
    names = list(dict.fromkeys(name for one in found for name in one.files))
    more = [f"{len(names) - FILES + 1} more"] if len(names) > FILES else []
    listed = enumerated(names[: FILES - len(more)] + more) if names else "no file"
    return f"The truth is not among the data that it was trained on ({listed})."


def _closeness(summary: Summary) -> Line:
    systems, units = summary["systems"], summary["shown"]["units"]
    ours = systems["ensemble"]["crps"]
    number = f"{ours:.3g} {units}".rstrip()
    what = "Its CRPS, the error of all members together,"
    best = rival(systems)
    if best is None:
        return {"head": "Nothing to compare with", "says": f"{what} is {number}. There is no other system beside it."}
    named = [name for name in ALTERNATIVES if name in systems]
    named += [name for name in systems if name not in (*ALTERNATIVES, *OWN, "ensemble")]
    named = [name for name in named if systems[name]["crps"] is not None]
    if best not in named and (not named or systems[best]["crps"] < ours):
        named.append(best)
    compared = [(name, *_against(summary, name)) for name in named]
    closer = [title(name) for name, sign, _ in compared if sign < 0]
    others = [title(name) for name, sign, _ in compared if sign >= 0]
    head = f"Closer to the truth than {enumerated(closer)}" if closer else f"No closer than {enumerated(others)}"
    head += f", but not than {enumerated(others)}" if closer and others else ""
    sure = f" In brackets: 95 % intervals over {summary['times']} times." if summary["comparisons"] else ""
    return {
        "head": head,
        "says": f"{what} is {number}: {enumerated([says for *_, says in compared])}.{sure}{_mean(summary, ours, best)}",
    }


def _against(summary: Summary, name: str) -> tuple[int, str]:
    """-1 where the ensemble's CRPS is lower, 1 where higher, 0 where chance or rounding may be why; and by how much,
    ``22 % below RainFARM's (21 to 24 %)``."""
    ours, theirs = (summary["systems"][one]["crps"] for one in ("ensemble", name))
    if not theirs or rounded(ours, theirs, scores()["crps"]):
        return 0, f"equal to {title(name)}'s"
    change = ours / theirs - 1
    says = f"{_percent(change)} {'below' if change < 0 else 'above'} {title(name)}'s"
    compared = summary["comparisons"].get(name, {}).get("crps")
    if not compared:
        return (-1 if change < 0 else 1), says
    # Paired: the interval of the mean difference over the same times, over the other's mean.
    ends = [100 * compared[end] / theirs for end in ("low", "high")]
    if not compared["significant"]:
        return 0, f"{says} ({ends[0]:+.0f} to {ends[1]:+.0f} %: perhaps by chance)".replace("-", "−")
    near, far = sorted(map(abs, ends))
    return (-1 if change < 0 else 1), f"{says} ({near:.0f} to {far:.0f} %)"


def _mean(summary: Summary, ours: float, best: str) -> str:
    """Where the mean of the members says the opposite."""
    systems, units = summary["systems"], summary["shown"]["units"]
    sharp = rival(systems, "rmse")
    if sharp is None or not systems[best]["crps"] or not systems[sharp]["rmse"]:
        return ""
    error, other = systems["ensemble"]["rmse"], systems[sharp]["rmse"]
    closer = ours < systems[best]["crps"]
    if rounded(error, other, scores()["rmse"]) or (error < other) == closer:
        return ""
    where = "below" if error < other else "above"
    numbers = f"{error:.3g} against {other:.3g} {units}".rstrip()
    return f" But the RMSE of its mean is {_percent(error / other - 1)} {where} {title(sharp)}'s ({numbers})."


def _spread(summary: Summary) -> Line:
    if summary["members"] == 1:
        return {"head": "No spread", "says": "It is one field, not an ensemble: it does not say how sure it is."}
    found = summary["systems"]["ensemble"]["spread_skill"]
    if found is None or not math.isfinite(found):
        return {"head": "Spread unknown", "says": "The members' mean has no error, or they do not differ."}
    ends = summary["intervals"].get("ensemble", {}).get("spread_skill")
    interval = f" (95 % interval {ends[0]:.2f} to {ends[1]:.2f})" if ends and None not in ends else ""
    says = f"The members differ {found:.2f} times as much as their mean errs{interval}; 1 is right."
    inside, due, covered = _coverage(summary)
    says += covered
    small, nearly = found < 1, abs(found - 1) <= NEARLY
    if abs(found - 1) <= RIGHT:
        return {"head": "Spread right", "says": says}
    if nearly and (inside > due) == small:
        return {"head": "Spread about right", "says": f"{says} The two do not say the same, so leave it as it is."}
    which = "small: surer than it should be" if small else "large: less sure than it could be"
    head = f"Spread {'a little ' if nearly else ''}too {which}"
    if summary["made_by"]["model"] is None:
        return {"head": head, "says": f"{says} Members {1 / found:.2f} times as far from their mean would be right."}
    do = f"To {'widen' if small else 'narrow'} it: finescale calibrate MODEL FINE, with some fine fields."
    return {"head": head, "says": f"{says} {do}"}


def _coverage(summary: Summary) -> tuple[float, float, str]:
    """How often the truth lies inside the members' central interval, how often it should, and both in words."""
    ours, place = summary["systems"]["ensemble"], summary["coverage_levels"].index(INTERVAL)
    key, where = ("coverage_wet", " of wet cells") if summary["dry_threshold"] is not None else ("coverage", "")
    inside, due = (float(ours[name][place]) for name in (key, f"{key}_expected"))
    if not math.isfinite(inside):
        return inside, due, ""
    level = f"Their {100 * INTERVAL:g} % interval"
    return inside, due, f" {level} holds the truth{where} in {100 * inside:.0f} % ({100 * due:.0f} % is right)."


def _extremes(summary: Summary) -> Line:
    ours = summary["systems"]["ensemble"]
    add, units = summary["shown"]["add"], summary["shown"]["units"]
    high, true = ours["p999"], ours["p999_truth"]
    if None in (high, true) or not (math.isfinite(high) and math.isfinite(true)):
        return {"head": "Extremes unknown", "says": "There are no values."}
    ours_says, truth_says = (f"{_value(one + add)}" for one in (high, true))
    ends = f"The highest 0.1 % of cells begin at {ours_says} {units}, in the truth at {truth_says}"
    if summary["dry_threshold"] is not None:
        off = high / true - 1 if true else 0.0
        by = f": {_percent(off)} {'too weak' if off < 0 else 'too strong'}"
    else:
        place = LEVELS.index(LOW)
        low, least = ours["quantiles"][place], ours["quantiles_truth"][place]
        ends += f"; the lowest {100 * LOW:g} % end at {_value(low + add)}, in the truth at {_value(least + add)}"
        off = (high - low) / (true - least) - 1 if true > least else 0.0
        by = f". The range between is {_percent(off)} too {'narrow' if off < 0 else 'wide'}"
    if abs(off) <= RIGHT:
        return {"head": "Extremes right", "says": f"{ends}."}
    return {"head": f"Extremes too {'weak' if off < 0 else 'strong'}", "says": f"{ends}{by}."}


def _totals(summary: Summary, kept: bool | None, given: bool) -> Line:
    residual = summary["systems"]["ensemble"]["conservation_residual"] if kept is not None else None
    if residual is None:
        return {"head": "Totals unknown", "says": "Give the coarse input (--coarse) to see whether they are kept."}
    what = "the coarse input" if given else "the truth's (no coarse input was given)"
    if kept:
        says = f"The mean over each coarse cell equals {what}, to {residual:.1e} of the largest value."
        return {"head": "Totals kept", "says": says.replace("e-", "e−")}
    if "totals" in summary:
        says = summary["totals"]["says"].removeprefix("Totals differ: ")
        return {"head": "Totals not kept", "says": says[0].upper() + says[1:]}
    return {
        "head": "Totals not kept",
        "says": f"The means over coarse cells differ from {what} by up to {_percent(residual)} of the largest value.",
    }


def _percent(change: float) -> str:
    """``22 %``, of a change of -0.22."""
    size = 100 * abs(change)
    return f"{size:.0f} %" if size >= 1 else f"{size:.1g} %"


def _value(value: float) -> str:
    text = f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return text.replace("-", "−")
