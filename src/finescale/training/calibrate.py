"""Calibration of a trained model on a few fine fields of the user's own: ``finescale calibrate MODEL FINE``.

Nothing is trained. Measured are how smooth the fine fields are, for a model whose networks are told
(`finescale.model.conditions`), the amount below which they have next to none, by what the members' deviations have to
be multiplied for a spread–skill ratio of 1 (`finescale.training.spread`), and how wide a Gaussian makes members as
smooth as these fields (`finescale.training.blur`), at some factors of a model that serves several; and, where fields
follow each other in time and frames are made one by one, how long detail lives while it moves
(`finescale.training.lifetime`).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import yaml
from torch import Tensor

from finescale.config.load import load
from finescale.config.shipped import found, ours
from finescale.data.atomic import atomic, explained
from finescale.data.place import local
from finescale.downscaler import Downscaler
from finescale.errors import InputError, Notice
from finescale.grids.durations import format_duration
from finescale.grids.factor import Factor, Factors
from finescale.model.calibrated import Calibrated
from finescale.training.blur import search as search_blur
from finescale.training.crops import Crops
from finescale.training.data import Fine, listed, open_data
from finescale.training.fit import check_writable
from finescale.training.lifetime import lifetime
from finescale.training.sections import Data
from finescale.training.spread import ratio_of, search

FEW = 16
"""Crops below which it is said that they are few."""
MANY = 10_000
"""Crops at most."""
RARE = 0.01
"""Share of wet cells below the least amount that fine fields are said to have."""
OFF = 0.1
"""|log of the ratio| that a blur may leave, if it was nearer to 1 without."""


@dataclass(frozen=True)
class Measured:
    """What was measured at one factor.

    Attributes:
        crops: on how many crops.
        before: spread–skill ratio with the model's own spread and the training data's smoothness.
        after: with what was measured.
        spread: factor of the deviations, the nearer to 1 the less the crops say.
        blur: standard deviation, in fine cells, of the Gaussian that members are smoothed by; 0 for none.
        smoothness: exponent of the crops; None for a model that is not told, or fields that do not say.
        lifetime: seconds that detail lives; None where it does not matter, or fields do not say.
        least: the least amount that fine fields report (`RARE` of their cells with any are below); None for what is no
            amount, or without one.
    """

    crops: int
    before: float
    after: float
    spread: float
    blur: float
    smoothness: float | None
    lifetime: float | None
    least: float | None


@dataclass(frozen=True)
class Calibration:
    """What was measured.

    Attributes:
        calibrated: what the model works with from now on.
        usual: smoothness of the training data; None for a model that is not told.
        at: what was measured, factor by factor.
    """

    calibrated: Calibrated
    usual: float | None
    at: Mapping[str, Measured]

    def __str__(self) -> str:
        told = []
        if self.calibrated.smoothness is not None:
            told.append(f"smoothness {self.calibrated.smoothness:.2f} (training {self.usual:.2f})")
        if self.calibrated.lifetime is not None:
            told.append(f"lifetime {format_duration(float(f'{self.calibrated.lifetime:.2g}'))}")
        if self.calibrated.least is not None:
            told.append(f"nothing below {self.calibrated.least:.2g}")
        lines = [", ".join(told)] if told else []
        for factor, one in self.at.items():
            ratios = f"spread–skill {one.before:.2f} -> {one.after:.2f}"
            blur = f", blur {one.blur:.2f} cells" if one.blur else ""
            lines.append(f"{factor}: spread {one.spread:.2f}{blur}, {ratios}, on {one.crops} crops")
        return "\n".join(lines)


def calibrate(
    model: str | Path | Downscaler,
    fine: Fine | Sequence[Fine],
    out: str | Path | None = None,
    *,
    factor: str | Factor | None = None,
    variable: str | None = None,
    select: Mapping[str, Sequence[Any]] | None = None,
    crops: int = 48,
    seed: int = 0,
) -> Calibration:
    """Measure smoothness and spread on fine fields, and keep them in the model: in its ``config.yaml``, if a folder.

    Args:
        model: a model that makes ensembles, or its folder.
        fine: fine fields as for `finescale.fit`: a few that hold weather of many kinds say more than many alike. They
            must not be those that the model is judged on afterwards.
        out: a new folder for the calibrated model; None for the model's own.
        factor: for a model of several factors, the one that counts; unless given, some of its range, as far as the
            fields allow, between which spreads are interpolated (`finescale.model.calibrated`).
        variable: what its one variable is called there.
        select: ranges of coordinates to look at, as ``data.train`` of a configuration.
        crops: at most so many.
        seed: of crops and members.

    Raises:
        InputError: for a model without members, fields that cannot be used, or a folder that is there already.

    Example:
        >>> import finescale
        >>> from finescale.data.synthetic import synthetic_rain
        >>> rain = synthetic_rain((3, 128, 128), seed=3)
        >>> found = finescale.calibrate("rain", rain, "mine", factor="1x4", crops=2)
        >>> found.at["1x4"].crops <= 2, 0.25 <= found.calibrated.spread["1x4"] <= 4
        (True, True)
    """
    folder = None if isinstance(model, Downscaler) else found(model)
    new = None if out is None else local(out, "a model")
    if new is not None and new.exists():
        raise InputError(f"{new} exists: name a new folder for the calibrated model")
    if not 1 <= crops <= MANY:
        raise InputError(f"crops is {crops}, but must be from 1 to {MANY}")
    if new is None and folder is not None and ours(folder):
        raise InputError(f"{model} comes with the package: name a new folder for the calibrated model (--output)")
    if new is not None:
        check_writable(new)
    taken = model if isinstance(model, Downscaler) else load(folder)  # type: ignore[arg-type]
    if taken.deterministic:
        raise InputError("this model makes one field, whose spread is none: calibrate is for ensembles")
    at = _at_factors(taken, fine, factor, variable, select, crops, seed)
    smoothness = [one.smoothness for one in at.values() if one.smoothness is not None]
    lives = [one.lifetime for one in at.values() if one.lifetime is not None]
    least = [one.least for one in at.values() if one.least is not None]
    spreads = {name: one.spread for name, one in at.items()}
    blurs = {name: one.blur for name, one in at.items()}
    single = taken.factors.single is not None
    calibrated = Calibrated(
        round(mean(smoothness), 3) if smoothness else None,
        next(iter(spreads.values())) if single else spreads,
        next(iter(blurs.values())) if single else blurs,
        median(lives) if lives else None,
        min(least) if least else None,
        ", ".join(listed(fine))[:200],
    )
    taken.calibrated, taken.config["calibrated"] = calibrated, calibrated.plain()
    if new is not None:
        with explained(new):
            taken.save(new)
    elif folder is not None:
        path = folder / "config.yaml"
        with explained(path), atomic(path) as temporary:
            temporary.write_text(yaml.safe_dump(taken.config, sort_keys=False), encoding="utf-8")
    usual = float(taken.conditions.usual) if taken.conditions.smoothness else None
    return Calibration(calibrated, usual, at)


def _at_factors(
    model: Downscaler,
    fine: Fine | Sequence[Fine],
    factor: str | Factor | None,
    variable: str | None,
    select: Mapping[str, Sequence[Any]] | None,
    crops: int,
    seed: int,
) -> dict[str, Measured]:
    """What is measured at the factor that is named, at the model's one, or at those of its range that can be."""
    if factor is not None or model.factors.single is not None:
        factors = [model.factor if factor is None else model.at(factor).factor]
    else:
        factors = _some(model.factors)
    found: dict[str, Measured] = {}
    refused: list[InputError] = []
    for one in factors:
        try:
            found[str(one)] = _measured(model, _opened(model, fine, one, variable, select), one, crops, seed)
        except InputError as error:
            refused.append(error)
    if not found:
        raise refused[0]
    if refused:
        left = ", ".join(str(one) for one in factors if str(one) not in found)
        warnings.warn(f"not measured at {left}: {refused[0]}", Notice, stacklevel=3)
    few = min(one.crops for one in found.values())
    if few < min(FEW, crops):
        warnings.warn(
            f"the fields hold {few} crops with enough in them: what is measured is that of their weather alone; "
            "give fields of more kinds",
            Notice,
            stacklevel=3,
        )
    return found


def _some(factors: Factors) -> list[Factor]:
    """The ends and the geometric middle of a range of space in single frames, and the middle at the longest time."""
    (first, last), (low, high) = factors.time, factors.space
    low = max(low, 2) if high > 1 else low
    middle = max(low, round((low * high) ** 0.5))
    some = [Factor(first, space) for space in (low, middle, high)] + [Factor(last, middle)]
    return [one for one in dict.fromkeys(some) if one.cells > 1]


def _measured(model: Downscaler, opened: Crops, factor: Factor, crops: int, seed: int) -> Measured:
    """All that is measured at one factor, on at most so many crops apart from each other."""
    batch, served = opened.apart(crops, seed), model.at(factor)
    exponents = model.smoothness_of(batch.fine.to(model.device))
    smoothness = None
    if exponents is not None and bool(exponents.isfinite().any()):
        smoothness = round(float(exponents.nanmean()), 3)
    found = Calibrated(smoothness, least=_least(batch.fine[:, 0]) if model.amounts else None)
    before = ratio_of(served, batch, Calibrated(), seed)
    first = ratio_of(served, batch, found, seed)
    spread, after = search(served, batch, found, seed, first)
    blur = search_blur(served, batch, replace(found, spread=spread), seed)
    if blur:  # which takes some of the spread away
        blurred = replace(found, spread=spread, blur=blur)
        wider, then = search(served, batch, blurred, seed, ratio_of(served, batch, blurred, seed))
        if then.off <= max(after.off, OFF):
            spread, after = wider, then
        else:
            blur = 0.0
    lives = _lifetime(served, opened)
    spread, blur = round(spread, 3), round(blur, 3)
    return Measured(len(batch), before.value, after.value, spread, blur, smoothness, lives, found.least)


def _least(fine: Tensor) -> float | None:
    """The least amount that fine fields report, before it was rounded; None where there is no cell with any.

    Below it are `RARE` of the cells with any. Data in steps, say of .3, report .3 for what was .15 and more: it is half
    a step less than the value that is found.
    """
    values = fine[fine > 0].double().cpu().numpy()
    if not len(values):
        return None
    least = np.quantile(values, RARE, method="lower")
    step = np.min(values[values > least], initial=2 * least) - least
    return float(f"{least - min(step, least) / 2:.3g}")


def _lifetime(model: Downscaler, crops: Crops) -> float | None:
    """Seconds that detail lives; None for a model that has no use for it, or fields that do not say."""
    try:
        model.check_carried()
        return lifetime(crops.fields, model.factor, model.amounts)
    except InputError:  # several frames at once, uneven times, or nothing that finds motion
        return None


def _opened(
    model: Downscaler,
    fine: Fine | Sequence[Fine],
    wanted: Factor,
    variable: str | None,
    select: Mapping[str, Sequence[Any]] | None,
) -> Crops:
    """Crops of the fine fields, chosen as those of the training were."""
    sides = _whole((model.config.get("data") or {}).get("crop", Data.crop), wanted)
    config = dict(model.config) | {"factor": str(wanted)}
    data = dict(config.get("data") or {}) | {"train": select, "valid": None, "crop": sides, "skips": 0}
    names = list(model.variables)
    if variable is not None:
        if len(names) > 1:
            raise InputError(f"the model makes {', '.join(names)}: their names in the file must be these")
        data["variable"] = variable
        settings = model.variables.get(names[0], {}) if names else {}
        config["variables"] = {variable: settings} if names else None
    stores = listed(fine)
    config["data"] = data | {"path": list(stores)}
    return open_data(config, stores).crops()[0]


def _whole(crop: int | Sequence[int], factor: Factor) -> list[int]:
    """The rows and columns of the training's crops, in whole blocks of a factor."""
    sides = (crop, crop) if isinstance(crop, int) else crop
    return [max(1, n // f) * f for n, f in zip(sides, (factor.y, factor.x), strict=True)]
