"""Files, a model and a request become `Tasks`: everything is looked up and checked, and nothing computed.

Every process that takes part in a prediction prepares it for itself, by the same names.
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import xarray as xr

from finescale.data.files import gridded, open_store, select
from finescale.data.scales import interval, spacing
from finescale.data.sources import DERIVED, Source, covered, derived
from finescale.data.static import StaticFields
from finescale.errors import InputError, Notice
from finescale.grids.coordinates import increasing, read_grid
from finescale.grids.durations import format_duration, parse_duration
from finescale.grids.factor import Factor
from finescale.grids.grid import goes_round
from finescale.grids.resolution import factor_to
from finescale.inference.domain import Domain, onto
from finescale.inference.given import Given
from finescale.inference.guard import SAID, check_alike
from finescale.inference.inputs import Files, Inputs, find
from finescale.inference.masks import mask_of
from finescale.inference.request import Model, Request
from finescale.inference.tasks import Tasks
from finescale.operators.structure import halved

SHORTEST, LONGEST = 0.1, 500
"""Lifetime of what is carried along the motion, in coarse frames."""
ROUNDING = 0.02
"""In factors: edges are not always where they should be."""
SLOW = 200
"""Network evaluations a member from which the cost is told before sampling begins."""


def tasks_of(model: Model, coarse: Files, request: Request, values: bool = True) -> Tasks:
    """A prediction cut into tasks; without ``values`` none are read.

    Raises:
        InputError: for input or a request that cannot be used.
    """
    inputs = find(model, coarse, request.variable, free=request.onto is not None)
    wanted = factor_to(inputs.first, request.to) if request.to is not None else request.factor
    usual = _usual(model, inputs.first) if wanted is None and model.factors.only is None else None
    wanted = usual or wanted
    model = model if wanted is None else model.at(Factor.parse(wanted), request.force)
    model = model if request.conserve is None else model.conserving(request.conserve)
    domain = _domain(inputs, model.factor, request.onto)
    model, smoother = _told(model, domain, request)
    # Told before anything is computed: windows without a halo would not show it.
    plane = zip(domain.coarse.shape[-2:], (model.factor.y, model.factor.x), strict=True)
    model.check_plane(*(n * f for n, f in plane))
    if goes_round(read_grid(domain.coarse)):
        warnings.warn(
            f"variable {domain.coarse.name} goes round the globe, but windows do not: members do not continue across "
            "its first and last longitude",
            Notice,
            stacklevel=2,
        )
    request, static = request.of(model), _static(model, request)
    evaluations = model.evaluations(request.steps)
    mask = mask_of(model, domain, request.mask)
    lifetime = _lifetime(model, domain, request)
    each = model.factor.time // model.frames_together if lifetime is not None else 1
    given = Given(inputs, domain, static, mask, model.neighbours, model.moving, lifetime, each)
    tasks = Tasks(model, given, request)
    _check_covered(inputs, domain)
    check_alike(model, inputs, domain, request.force, values)
    if usual is not None:
        said = f"the factor is {usual}, of cells and frames as the model has seen them: --factor chooses another"
        warnings.warn(said, Notice, stacklevel=2)
    if smoother is not None:
        warnings.warn(smoother, Notice, stacklevel=2)
    if evaluations >= SLOW and request.count:
        warnings.warn(
            f"sampling takes {evaluations} network evaluations for each of {tasks.output.members} members in each of "
            f"{len(tasks.windows)} windows, {evaluations * tasks.output.members * len(tasks.windows):,} in all; fewer "
            "steps (--steps) take less time",
            Notice,
            stacklevel=2,
        )
    return tasks


def _usual(model: Model, first: xr.DataArray) -> Factor | None:
    """The factor of a model of several that makes cells and frames as it has seen; None where that is not known.

    The largest in space whose cells are no smaller than the training's least, and the least in time whose frames are no
    longer than its longest; of instantaneous values the least.
    """
    field, seen = increasing(first), model.remembers
    step, length = spacing(field), interval(field)
    if step is None or seen.spacing is None or step[1] != seen.units:
        return None
    (least_t, most_t), (least, most) = model.factors.time, model.factors.space
    space, time = math.floor(step[0] / seen.spacing[0] + ROUNDING), least_t
    if length is not None and seen.cadence is not None and "point" not in str(first.attrs.get("cell_methods", "")):
        time = math.ceil(length / seen.cadence[1] - ROUNDING)
    return Factor(min(max(time, least_t), most_t), min(max(space, least), most))


def _told(model: Model, domain: Domain, request: Request) -> tuple[Model, str | None]:
    """The model told how smooth fine fields are, where that is asked for or follows from their cells, and a line then.

    Cells smaller than any of training are not known to have more in them than these had: the exponent is that of its
    fields interpolated to cells of half the size, ζ_½, or between, ζ + (ζ_½ − ζ) log₂ r for cells smaller by r ≤ 2.

    Raises:
        InputError: for a smoothness that is asked for of a model that takes none.
    """
    if request.smoothness is not None:
        return model.told(request.smoothness), None
    usual, seen, step = model.usual_smoothness, model.remembers, spacing(domain.increasing)
    if usual is None or usual <= 0 or seen.spacing is None or step is None or step[1] != seen.units:
        return model, None
    smaller = seen.spacing[0] * model.factor.y / step[0]
    if smaller <= SAID:
        return model, None
    told = round(usual + (halved(usual) - usual) * min(math.log2(smaller), 1), 2)
    said = (
        f"fine cells of {step[0] / model.factor.y:.3g} {step[1]} are smaller than those of training: fields are taken "
        f"to be as smooth as these interpolated ({told} instead of {usual:.2f}); --smoothness says another number, "
        "calibrate measures it"
    )
    return model.told(told), said


def _lifetime(model: Model, domain: Domain, request: Request) -> float | None:
    """How long noise lives that is carried along the motion, in coarse frames; None for noise of its own in each.

    One that was calibrated is left out where frames do not follow each other, or are so far apart that nothing of it
    is left from one to the next.

    Raises:
        InputError: for a lifetime that is asked for where there is no motion, or of a model that cannot have it.
    """
    asked = request.lifetime
    seconds = model.calibrated.lifetime if asked is None else None
    if asked not in (None, "none"):
        seconds = parse_duration(asked, "lifetime")
    if seconds is None:
        return None
    length = interval(domain.increasing)
    if domain.coarse.shape[-3] < 2 or length is None:
        if asked is None:
            return None
        raise InputError("a lifetime is of detail that moves, but the coarse field has no frames that follow")
    frames = seconds / length
    if asked is None and frames < SHORTEST:
        return None
    model.check_carried()
    if not SHORTEST <= frames <= LONGEST:
        raise InputError(
            f"a lifetime of {format_duration(seconds)} is {frames:.3g} coarse frames, but must be from {SHORTEST} to "
            f"{LONGEST} of them"
        )
    return frames


def _domain(inputs: Inputs, factor: Factor, fine: str | Path | xr.Dataset | xr.DataArray | None) -> Domain:
    """The coarse field's own cells, or the blocks of a fine grid."""
    if fine is None:
        return Domain(inputs.first, factor)
    source = "the dataset of the fine grid"
    if isinstance(fine, xr.DataArray):
        fine = fine.to_dataset(name=fine.name if fine.name is not None else "field")
    if not isinstance(fine, xr.Dataset):
        source, fine = str(fine), open_store(fine, chunks=None)
    names = gridded(fine)
    # Of several the one with times, which a mask or an elevation beside it does not have.
    name = max(names, key=lambda name: fine[name].ndim, default=None)
    grid = select(fine, None if name is None else str(name), source)
    return onto(grid, inputs.first, inputs.targets[0].file, factor)


def _check_covered(inputs: Inputs, domain: Domain) -> None:
    """Refuse what has no time or place in common with the domain, and say in one line what covers it in part.

    Raises:
        InputError: for that, and for predictors of dates or latitudes on a domain without.
    """
    like = domain.coarse if domain.given is None else domain.given
    others = [] if domain.given is None else inputs.targets[1:]
    for target in others:
        covered(Source(target.member(0), False, target.file), like)
    told = inputs.told(0)
    if told is None:
        return
    for source in told.sources.values():
        covered(source, like)
    for name in told.names:
        if name in DERIVED:
            derived(name, domain.blocks.window(slice(1), slice(1), slice(1)))


def _static(model: Model, request: Request) -> StaticFields | None:
    """The static fields that the model was trained with, in its order."""
    names = list(model.static)
    if names and not request.static:
        raise InputError(
            f"this model was trained with static fields ({', '.join(names)}): name their files with --static"
        )
    if request.static and not names:
        raise InputError("this model was trained without static fields: leave --static out")
    return StaticFields(request.static, names) if request.static else None
