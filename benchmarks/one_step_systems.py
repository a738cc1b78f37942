"""The systems of one_step.py, how they are trained, and the crops that they are scored on."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from protocol import WET, fit_command, fitted, west
from radar import test_sets
from torch import Tensor

from finescale.config.load import load
from finescale.data.files import open_field
from finescale.data.region import region
from finescale.data.units import convert_units
from finescale.downscaler import Downscaler
from finescale.grids.coordinates import increasing
from finescale.grids.factor import Factor
from finescale.model.batch import Inputs, Members
from finescale.operators.coarsen import Coarsen
from finescale.scores.settings import Settings
from finescale.scores.sums import Sums
from finescale.training.crops import Crops
from finescale.training.distill import distill

FACTOR, CROP = Factor.parse("1x8"), 128
SEQUENCES = (24, 24)
"""Test sequences and their fine frames, where a factor is of time too."""
DISTILLING = 1 / 3
"""Budget of a distillation, in that of its teacher."""


@dataclass(frozen=True)
class System:
    """A preset with settings, or what is distilled from such a model.

    Attributes:
        preset: its name.
        changes: settings that are not the preset's.
        share: of the minutes of the other systems.
        teacher: the system that this one is distilled from.
    """

    preset: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    share: float = 1.0
    teacher: str | None = None


THREE = {"latent": {"kind": "lapped", "side": 8}}
"""Lapped blocks as wide as three Haar levels."""
SYSTEMS = {
    "one-step": System("one-step"),
    "wavelet": System("wavelet"),
    "distilled": System("wavelet", share=DISTILLING, teacher="wavelet"),
    "wavelet, blocks of 8": System("wavelet", THREE),
    "distilled, blocks of 8": System("wavelet", THREE, share=DISTILLING, teacher="wavelet, blocks of 8"),
    "space-time": System("space-time"),
}
SHARE = 1 / 6
"""Budget of each of the rows below, in that of the systems above."""
TERMS = {
    "all terms": {},
    "cells alone": {"patches": [1], "differences": []},
    "no differences": {"differences": []},
    "no amounts": {"amounts": 0},
    "no block means": {"blocks": 0},
}
OTHERS = {
    "multiplicative": {"constraint": "multiplicative"},
}
ABLATION = {
    name: System("one-step", {f"generator.score.{key}": value for key, value in changes.items()}, SHARE)
    for name, changes in TERMS.items()
} | {name: System("one-step", changes, SHARE) for name, changes in OTHERS.items()}
"""What of the generator earns its place, one thing changed at a time."""


@dataclass(frozen=True)
class Run:
    """One training of a system: its command, its folder, its model."""

    name: str
    factor: str
    seed: int
    minutes: float
    data: Path
    cache: Path

    @property
    def system(self) -> System:
        return (SYSTEMS | ABLATION)[self.name]

    @property
    def label(self) -> str:
        return f"{self.name}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        factor = "" if self.factor == "1x8" else f"-{self.factor}"
        name = self.name.replace(" ", "-").replace(",", "")
        return self.cache / f"{name}-seed{self.seed}-{self.minutes:g}min{factor}"

    @property
    def settings(self) -> dict[str, Any]:
        """What is not the preset's."""
        place = west(self.data, self.minutes * self.system.share, self.seed)
        return dict(self.system.changes) | self._shape() | place

    def _shape(self) -> dict[str, Any]:
        factor = Factor.parse(self.factor)
        told: dict[str, Any] = {} if self.factor == "1x8" else {"factor": self.factor, "data.crop": crop(factor)}
        return told | ({"data.horizon": 12, "train.batch": 3} if factor.time > 1 else {})

    @property
    def teacher(self) -> Run | None:
        return replace(self, name=self.system.teacher) if self.system.teacher else None

    @property
    def command(self) -> str:
        """The command, or the two, that make the model."""
        if self.teacher is None:
            return fit_command(self.system.preset, self.settings)
        minutes = self.minutes * self.system.share
        return f"{self.teacher.command}; finescale fit --distill model -o distilled --set train.minutes={minutes:g}"

    @cached_property
    def model(self) -> Downscaler:
        """The trained model; read back where it is there, gone on with where it was interrupted."""
        if not (self.folder / "config.yaml").is_file():
            if self.teacher is None:
                fitted(self.system.preset, self.settings, self.folder)
            else:
                assert self.teacher.model is not None
                distill(self.teacher.folder, self.folder, {"train.minutes": self.minutes * self.system.share})
        return load(self.folder).eval().requires_grad_(False)

    def told(self) -> dict[str, Any]:
        """Command, size and how far training went."""
        last = json.loads((self.folder / "log.jsonl").read_text().splitlines()[-1])
        parameters = self.model.parameters_by_part
        return {"command": self.command, "parameters": parameters, "minutes": self.minutes, "last": last}


def crop(factor: Factor) -> int:
    """Cells a side of crops."""
    return CROP if CROP % factor.x == 0 else CROP // (2 * factor.x) * (2 * factor.x)


Test = tuple[Tensor, Tensor, Tensor]
"""Fine fields (B, 1, T, H, W), coarse ones (B, 1, t, h, w), and areas of fine cells."""


def tests(data: Path, factor: Factor, crops: int) -> Iterator[tuple[str, Test]]:
    """What systems are scored on: crops of MRMS east of -90 degrees and of two networks, or sequences of the first."""
    if factor.time == 1:
        yield from test_sets(argparse.Namespace(data=data, crops=crops), factor, crop(factor))
        return
    whole = convert_units(increasing(open_field(data / "mrms_west.nc")), "mm h-1")
    count, frames = SEQUENCES
    size = (frames, crop(factor), crop(factor))
    batch = Crops([[region(whole, {"lon": [-90, None]}).load()]], Factor(), size, WET).apart(count, seed=1)
    assert batch.area is not None
    coarse = Coarsen(factor, batch.area[:, None, None], batch.fine.isfinite())(batch.fine)
    yield "mrms", (batch.fine, coarse, batch.area)


def ensemble(model: Downscaler, given: Inputs, count: int) -> np.ndarray[Any, Any]:
    """Members (M, N, T, H, W) of crops, each with noise of its own."""
    placed = replace(given, origin=[(0, n * model.multiple[1] * 64, 0) for n in range(len(given))])
    parts = [model.sample(part, Members(range(count), seed=0)).fields[:, :, 0] for part in placed.split(8)]
    return torch.cat(parts).transpose(0, 1).numpy()


def scored(fields: np.ndarray[Any, Any], test: Test, factor: Factor = FACTOR) -> dict[str, Any]:
    """Scores of members (M, N, T, H, W) of crops, which do not follow each other; their frames do."""
    fine, coarse, _ = test
    frames = fine.shape[2]
    sums = Sums(Settings(factor=factor))
    follows = np.arange(len(fine) * frames) % frames > 0
    sums.add(
        fields.reshape(len(fields), -1, *fields.shape[-2:]),
        fine[:, 0].flatten(0, 1).numpy(),
        coarse[:, 0].flatten(0, 1).numpy(),
        follows,
    )
    return sums.scores()
