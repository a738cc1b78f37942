"""Several aligned variables together: their scores (`finescale.scores.across`) of all systems that have them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from finescale.grids.dimensions import texts
from finescale.scores import across
from finescale.scores.cells import Array
from finescale.scores.joint_sums import JointSums, moments
from finescale.scores.settings import Settings
from finescale.verify.align import Aligned
from finescale.verify.evaluate import common_cells, part_of, refine, threads_of
from finescale.verify.scorecard import together_verdict
from finescale.verify.summary import definitions, uncertainty

FORMULA = "z = (value - mean) / std, mean and std those of the truth"


def joint(
    variables: Mapping[str, Aligned],
    settings: Mapping[str, Settings],
    used: Mapping[str, Sequence[str]],
    block: int | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> dict[str, Any]:
    """The section ``joint`` of scores.json.

    Args:
        variables: name -> aligned data.
        settings: of each.
        used: baselines of each; those that all have are scored.
        block: times in a block of the bootstrap.
        progress: called with the share done.

    Returns:
        variables, pairs, standardised_by, blocks, systems, intervals, comparisons and so on; ``notes`` alone where
        there is nothing to score together.
    """
    notes: list[str] = []
    chosen = _comparable(variables, notes)
    if len(chosen) < 2:
        return {"notes": notes}
    fields = {name: variables[name] for name in chosen}
    mean, std = moments(lambda: _truths(list(fields.values())), next(iter(fields.values())).grid.cell_area)
    varies = np.isfinite(std) & (std > 1e-6 * np.abs(mean))
    notes += [f"{n} does not vary in the truth and is left out." for n, v in zip(fields, varies, strict=True) if not v]
    if varies.sum() < 2:
        return {"notes": notes}
    fields = {name: da for (name, da), v in zip(fields.items(), varies, strict=True) if v}
    mean, std = mean[varies], std[varies]
    first = next(iter(fields))
    baselines = [name for name in used[first] if all(name in used[other] for other in fields)]
    sums = _evaluate(fields, settings[first], mean, std, baselines, notes, progress)
    results = {name: one.scores() for name, one in sums.items()}
    names = list(fields)
    scales = zip(names, mean.tolist(), std.tolist(), strict=True)
    units = {name: str(one.truth.attrs.get("units", "")) for name, one in fields.items()}
    told = {key: one for key, one in across.scores().items() if one.title}
    return {
        "verdict": together_verdict(results),
        "variables": names,
        "pairs": [[names[a], names[b]] for a, b in zip(*across.pairs(len(names)), strict=True)],
        "standardised": FORMULA,
        "standardised_by": {name: {"mean": m, "std": s, "units": units[name]} for name, m, s in scales},
        "block_cells": list(across.block_of(settings[first])),
        "members": results["ensemble"]["members"],
        "times": results["ensemble"]["times"],
        "cells": results["ensemble"]["cells"],
        "systems": results,
        **uncertainty(sums, block, settings[first].seed, {key: one.best for key, one in told.items()}),
        "notes": notes,
        "definitions": definitions(told, "1"),
    }


def _comparable(variables: Mapping[str, Aligned], notes: list[str]) -> list[str]:
    """The variables on the cells and times of the first, with as many members; why others are not goes to the notes."""
    first = next(iter(variables))
    like, found = variables[first], []
    for name, one in variables.items():
        if one.truth.shape[1:] != like.truth.shape[1:] or not all(
            np.allclose(a, b) for a, b in ((one.grid.y, like.grid.y), (one.grid.x, like.grid.x))
        ):
            notes.append(f"{name} is on other cells than {first} and is left out.")
        elif _times(one) != _times(like):
            notes.append(f"{name} has other times than {first} and is left out.")
        elif any(len(da) != len(like.systems[s]) for s, da in one.systems.items() if s in like.systems):
            notes.append(f"{name} has another number of members than {first} and is left out.")
        else:
            found.append(name)
    return found


def _times(one: Aligned) -> list[str]:
    dim = one.time
    return texts(one.truth[dim]) if dim in one.truth.coords else [str(k) for k in range(one.truth.sizes[dim])]


def _truths(fields: Sequence[Aligned]) -> Iterator[Array]:
    """The truth (V, T, H, W) a few times at once."""
    count = fields[0].truth.sizes[fields[0].time]
    step = part_of(sum(one.truth[0].size for one in fields), 1, 1)
    for start in range(0, count, step):
        yield np.stack([one.truth[start : start + step].values for one in fields]).astype(np.float64)


def _evaluate(
    fields: Mapping[str, Aligned],
    settings: Settings,
    mean: Array,
    std: Array,
    baselines: Sequence[str],
    notes: list[str],
    progress: Callable[[float], None],
) -> dict[str, JointSums]:
    """Add up all systems, a few times at once, on the cells that are valid in all variables of all ensembles."""
    several = list(fields.values())
    like = several[0]
    given = [name for name in like.systems if all(name in one.systems for one in several)]
    absent = dict.fromkeys(name for one in several for name in one.systems if name not in given)
    notes += [f"{name} has not all of the variables and is left out." for name in absent]
    names = (*given, *baselines)
    sums = {name: JointSums(settings, mean, std) for name in names}
    count, step = like.truth.sizes[like.time], like.factor.time if like.factor else 1
    threads = threads_of()
    part = part_of(sum(one.systems[name][:, 0].size for one in several for name in given), step, threads)
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, count, part):
            cut = slice(start, min(start + part, count))
            members = {name: np.stack([one.systems[name][:, cut].values for one in several], axis=1) for name in given}
            truth = np.stack([one.truth[cut].values for one in several])
            truth, _ = common_cells(truth, list(members.values()))
            for k, name in enumerate(names):
                x = members.pop(name, None)
                if x is None:
                    x = np.stack([refine(one, name, cut, settings.seed, pool) for one in several], axis=1)
                sums[name].add(x, truth, pool if threads > 1 else None)
                progress((start + (cut.stop - start) * (k + 1) / len(names)) / count)
    return sums
