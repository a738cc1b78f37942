"""Calibration of a trained model on a few fine fields of the user's own: ``finescale calibrate MODEL FINE``.

Nothing is trained. Measured are how smooth the fine fields are, for a model whose networks are told
(`finescale.model.conditions`), and by what the members' deviations have to be multiplied for a spread–skill ratio of 1
(`finescale.model.calibrated`), and, where fields follow each other in time and frames are made one by one, how long
detail lives while it moves (`finescale.training.lifetime`). With r(s) the ratio after a factor s, the next one is found
from the last two by the secant of log r over log s, which is nearly a line.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from finescale.config.load import load
from finescale.config.shipped import found, ours
from finescale.data.atomic import atomic, explained
from finescale.data.place import local
from finescale.downscaler import Downscaler
from finescale.errors import InputError, Notice
from finescale.grids.durations import format_duration
from finescale.grids.factor import Factor
from finescale.model.batch import Batch, Members
from finescale.model.calibrated import Calibrated
from finescale.training.crops import Crops
from finescale.training.data import Fine, listed, open_data
from finescale.training.fit import check_writable
from finescale.training.lifetime import lifetime
from finescale.training.sections import Data

MEMBERS = 8
FEW = 16
"""Crops below which it is said that they are few."""
MANY = 10_000
"""Crops at most."""
LEAST, MOST = 0.25, 4.0
"""Factors of the spread that are tried."""
ROUNDS = 6
CLOSE = 0.01
"""|log of the ratio| at which the search ends."""
STEEP = 0.2
"""Least slope that the search goes by."""


@dataclass(frozen=True)
class Calibration:
    """What was measured.

    Attributes:
        calibrated: what the model works with from now on.
        usual: smoothness of the training data; None for a model that is not told.
        crops: on how many crops.
        before: spread–skill ratio with a factor of 1 and the training data's smoothness.
        after: with what was measured.
    """

    calibrated: Calibrated
    usual: float | None
    crops: int
    before: float
    after: float

    def __str__(self) -> str:
        said = f"spread {self.calibrated.spread:.2f}: spread–skill {self.before:.2f} -> {self.after:.2f}"
        if self.calibrated.smoothness is not None:
            said = f"smoothness {self.calibrated.smoothness:.2f} (training {self.usual:.2f}), {said}"
        lives = self.calibrated.lifetime
        if lives is not None:
            said = f"{said}, lifetime {format_duration(float(f'{lives:.2g}'))}"
        return f"{said}, on {self.crops} crops"


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
        factor: for a model of several factors, the one that counts.
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
        >>> bool(found.crops <= 2), bool(0.25 <= found.calibrated.spread <= 4)
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
    opened = _opened(taken, fine, factor, variable, select)
    batch = opened.apart(crops, seed)
    served = taken.at(Factor.between(batch.coarse.shape, batch.fine.shape))
    exponents = taken.smoothness_of(batch.fine.to(taken.device))
    usual = None if exponents is None else float(taken.conditions.usual)
    smoothness = None
    if exponents is not None and bool(exponents.isfinite().any()):
        smoothness = round(float(exponents.nanmean()), 3)
    names = list(listed(fine))
    before = _ratio(served, batch, Calibrated(), seed)
    first = before if smoothness is None else _ratio(served, batch, Calibrated(smoothness), seed)
    spread, after = _spread(served, batch, Calibrated(smoothness), seed, first)
    if len(batch) < min(FEW, crops):
        warnings.warn(
            f"the fields hold {len(batch)} crops with enough in them: what is measured is that of their weather alone; "
            "give fields of more kinds",
            Notice,
            stacklevel=2,
        )
    calibrated = Calibrated(smoothness, round(spread, 3), _lifetime(served, opened), path=", ".join(names)[:200])
    taken.calibrated, taken.config["calibrated"] = calibrated, calibrated.plain()
    if new is not None:
        with explained(new):
            taken.save(new)
    elif folder is not None:
        path = folder / "config.yaml"
        with explained(path), atomic(path) as temporary:
            temporary.write_text(yaml.safe_dump(taken.config, sort_keys=False), encoding="utf-8")
    return Calibration(calibrated, usual, len(batch), before, after)


def _lifetime(model: Downscaler, crops: Crops) -> float | None:
    """Seconds that detail lives; None for a model that has no use for it, or fields that do not say."""
    amounts = model.offered is not None and model.offered.keeps_zero
    try:
        model.check_carried()
        return lifetime(crops.fields, model.factor, amounts)
    except InputError:  # several frames at once, uneven times, or nothing that finds motion
        return None


def _opened(
    model: Downscaler,
    fine: Fine | Sequence[Fine],
    factor: str | Factor | None,
    variable: str | None,
    select: Mapping[str, Sequence[Any]] | None,
) -> Crops:
    """Crops of the fine fields, chosen as those of the training were."""
    wanted = model.at(factor).factor if factor is not None else model.factor
    sides = _whole((model.config.get("data") or {}).get("crop", Data.crop), wanted)
    config = dict(model.config) | {"factor": str(wanted)}
    data = dict(config.get("data") or {}) | {"train": select, "valid": None, "crop": sides}
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


def _spread(model: Downscaler, batch: Batch, calibrated: Calibrated, seed: int, ratio: float) -> tuple[float, float]:
    """The factor with which the spread is right, as nearly as the range allows, and the ratio that it gives.

    Args:
        model: whose members are drawn.
        batch: crops.
        calibrated: with a factor of 1.
        seed: of the members.
        ratio: that of a factor of 1.
    """
    tried: list[tuple[float, float]] = []
    log, low, high = 0.0, math.log(LEAST), math.log(MOST)
    while True:
        if not (math.isfinite(ratio) and ratio > 0):
            raise InputError("the members do not differ on these fields: there is no spread to calibrate")
        tried.append((log, math.log(ratio)))
        slope = 1.0
        if len(tried) > 1:
            slope = (tried[-1][1] - tried[-2][1]) / (tried[-1][0] - tried[-2][0])
        log = min(max(log - tried[-1][1] / max(slope, STEEP), low), high)
        known = any(abs(log - before) < CLOSE / 10 for before, _ in tried)
        if abs(tried[-1][1]) <= CLOSE or known or len(tried) == ROUNDS:
            break
        ratio = _ratio(model, batch, replace(calibrated, spread=math.exp(log)), seed)
    best = min(tried, key=lambda one: abs(one[1]))
    return math.exp(best[0]), math.exp(best[1])


def _ratio(model: Downscaler, batch: Batch, calibrated: Calibrated, seed: int) -> float:
    """√((M+1)/M ⟨s²⟩) / √⟨(x̄ − y)²⟩ over known cells; of several variables the geometric mean of theirs."""
    model.calibrated = calibrated
    variance, square = torch.zeros(2, len(batch.fine[0]), dtype=torch.float64)
    start = 0
    for part in batch.split(max(1, model.at_once(batch.fine[0, 0].numel()) // MEMBERS)):
        # Far from each other, so that no two crops share their noise.
        origins = [(0, model.multiple[1] * 4096 * (start + n), 0) for n in range(len(part))]
        start += len(part)
        fields = model.sample(replace(part, origin=origins), Members(range(MEMBERS), seed)).fields.cpu()
        error = fields.mean(1) - part.fine.cpu()
        known = error.isfinite()
        for sums, terms in ((variance, fields.var(1)), (square, error.square())):
            sums += torch.where(known, terms, 0.0).sum((0, 2, 3, 4), dtype=torch.float64)
    ratios = ((MEMBERS + 1) / MEMBERS * variance / square).sqrt()
    return float(ratios.log().mean().exp())
