"""The ``train`` and ``data`` sections of a configuration."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, PositiveInt

from finescale.errors import InputError
from finescale.ranges import Cells, Inside, NotNegative, Positive, Seed, Share

Exponent = Annotated[float, Field(ge=0, le=10)]
Neighbours = Annotated[int, Field(ge=0, le=16)]
Batch = Annotated[int, Field(ge=1, le=2**16)]
Folds = Annotated[int, Field(ge=0, le=64)]
Rate = Annotated[float, Field(gt=0, le=1)]
Bytes = Annotated[str, Field(pattern=r"^\d{1,6}(\.\d{1,3})? ?[kMGT]i?B$")]
Decay = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True)
class Data:
    """The ``data`` section.

    Attributes:
        path: a file or store of fine fields, a glob, or several; files that follow each other in time on the same
            cells are one field, others fields of their own.
        variable: which variable; None where there is one alone. Several are named in the section ``variables``.
        coarse: files of another, coarse source, on grids and at times of their own.
        mode: what the model is told of the coarse field: perfect, block means of the fine field (perfect prognosis: the
            other source gives predictors alone), or direct, the other source's own values, whose totals are others.
        predictors: names of other variables of ``coarse`` that the networks see, and of
            `finescale.data.sources.DERIVED` (day of year, hour, latitude, cell size, cadence).
        crop: fine cells of a training crop, one number or (y, x).
        frames: coarse frames of a crop, the context that the networks see at once; 1 unless a horizon is given.
        neighbours: coarse frames before, and after, each one that the networks see too, without making them: on data
            every few minutes a coarse cell sees the rain move through it. A tenth of the crops go without.
        skips: train on frames further apart than there are: of half the crops up to so many frames are left out between
            two that are taken, and between them and their neighbours, as far as the longest crop of all factors holds.
        motion: show these as they are where they have moved to by the time of a fine frame, along the coarse frames'
            motion, and interpolate in time along it. Needs neighbours.
        horizon: instead, the fine frames that a crop covers, at least two coarse ones: the same stretch of time
            whatever the factor.
        min_valid: least share of known cells in a crop.
        min_wet: least share of wet cells in a crop.
        wet: amount above which a cell is wet.
        turn: flip training crops, and transpose square ones, at random; false for one place, where what lies where
            (coasts, currents, relief) is worth knowing.
        favour: choose training crops with probability ∝ mean amount^favour.
        balance: draw crops of every field with a share of all ∝ (its own)^(1 − balance): 0 as many as it has, 1 as many
            of each field, so that a small network counts as much as a large one.
        weighted: give favoured crops less weight in the loss, as much as they are seen more often: its expectation is
            then that of all crops alike.
        memory: up to how many bytes fields are held in memory, such as 4GB; larger ones are read while training goes
            on. None for a quarter of the memory that is available.
        rescale: multiply training crops by exp(rescale · N(0, 1)).
        smoothing: show the networks how smooth fine fields are (`finescale.model.conditions.Conditions`), and train on
            smoother and rougher ones than there are: a quarter of the crops smoothed by Gaussians of a standard
            deviation of up to so many cells, another quarter of cells of double size. 0 for neither.
        static: files of static fields, such as elevation, that the networks see beside the coarse field.
        train: ranges of coordinates to train on, ``{lon: [null, -94]}``; None for all.
        valid: ranges to validate on; None for the training data.
    """

    path: str | Annotated[list[str], Field(min_length=1)]
    variable: str | None = None
    coarse: str | Annotated[list[str], Field(min_length=1)] | None = None
    mode: Literal["perfect", "direct"] = "perfect"
    predictors: list[str] | None = None
    crop: Cells | tuple[Cells, Cells] = 128
    frames: Cells | None = None
    neighbours: Neighbours = 0
    skips: Neighbours = 0
    motion: bool = False
    horizon: Cells | None = None
    min_valid: Share = 0.95
    min_wet: Share = 0.0
    wet: float = 0.1
    turn: bool = True
    favour: Exponent = 0.0
    balance: Share = 0.0
    weighted: bool = False
    memory: Bytes | None = None
    rescale: Exponent = 0.0
    smoothing: Exponent = 0.0
    static: str | list[str] | None = None
    train: dict[str, list[Any]] | None = None
    valid: dict[str, list[Any]] | None = None


@dataclass(frozen=True)
class Training:
    """How long and how to train.

    Attributes:
        steps: optimizer steps of all stages together; or
        minutes: minutes of all stages together (one of the two).
        mean_share: share of them that the mean network gets, where there is one; with folds all mean networks together.
        variance_share: share of the budget that a variance head gets, where there is one; the rest is divided as ever.
        joint: train mean and denoiser together in the rest of the budget, on the sum of their losses (arXiv
            2604.21903), instead of one after the other.
        through: share of a deterministic model's training, at its end, that goes through the constraint.
        folds: mean networks trained besides, each without its fold of the data, whose residuals the denoiser learns:
            those of a network on data that it has not seen. 0 for the residuals of the mean network itself.
        batch: crops a step.
        lr: peak learning rate of Adam.
        warmup: steps of linear warm-up.
        ema: decay of the moving average of weights, approached from below in the first steps.
        keep: the averaged weights that a stage leaves: those with the least validation loss (best), or its last.
        mixing: of a training from a start, how much of the way from the start's weights to those that training has made
            it ends at (finescale.training.start).
        seed: seed of initial weights, batches and noise.
        clock: what minutes are: of wall time, or of processor time divided by the number of threads (cpu), which does
            not change when the machine does other things besides.
        checkpoint: seconds of that clock between checkpoints; 0 for one a step.
    """

    steps: PositiveInt | None = None
    minutes: Positive | None = None
    mean_share: Inside = 0.25
    variance_share: Inside = 0.2
    joint: bool = False
    through: Share = 0.2
    folds: Folds = 0
    batch: Batch = 16
    lr: Rate = 1e-3
    warmup: PositiveInt = 100
    ema: Decay = 0.998
    keep: Literal["best", "last"] = "best"
    mixing: Share = 1.0
    seed: Seed = 0
    clock: Literal["wall", "cpu"] = "wall"
    checkpoint: NotNegative = 60.0

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            raise InputError("the train section needs either steps or minutes: --set train.minutes=30")
        if self.steps is not None and self.minutes is not None:
            raise InputError(
                f"the train section has both {self.steps} steps and {self.minutes:g} minutes: leave one of them out"
            )
        for name in ("steps", "minutes", "batch", "warmup", "lr"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise InputError(f"configuration key train.{name} is {value}, but must be positive")
        if not 0 < self.variance_share < 1:
            raise InputError(f"configuration key train.variance_share is {self.variance_share}, but must be in (0, 1)")
        if not 0 <= self.through <= 1:
            raise InputError(f"configuration key train.through is {self.through}, but must be in [0, 1]")
        if self.folds < 0 or self.folds == 1 or (self.folds and self.joint):
            raise InputError(
                f"configuration key train.folds is {self.folds}, but must be 0 or at least 2, without train.joint"
            )

    def check_alone(self) -> None:
        """Refuse a mixing coefficient where a training starts from nothing.

        Raises:
            InputError: that names it.
        """
        if self.mixing != 1:
            raise InputError(f"configuration key train.mixing is {self.mixing:g}, but there is no start to mix with")

    def now(self) -> float:
        """Seconds of the chosen clock."""
        return time.process_time() / torch.get_num_threads() if self.clock == "cpu" else time.monotonic()
