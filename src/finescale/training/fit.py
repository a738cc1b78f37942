"""Training by stages: statistics, mean, latent, denoiser, variance.

What a stage with a network does is in `finescale.training.loop`.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from lightning_fabric import Fabric
from torch import nn

from finescale.config import schema
from finescale.config.build import build_model
from finescale.config.document import blamed
from finescale.config.read import read_config
from finescale.data.atomic import atomic, explained, partial_path
from finescale.data.extent import extent, merged
from finescale.data.files import fields as field_paths
from finescale.data.files import open_field
from finescale.data.named import title
from finescale.data.region import region
from finescale.data.static import StaticFields
from finescale.data.units import convert_units
from finescale.diffusion import Distillation
from finescale.downscaler import Downscaler
from finescale.errors import InputError
from finescale.grids.coordinates import increasing
from finescale.grids.factor import Factor, Factors
from finescale.model.mean import MeanModel
from finescale.model.precision import has_bfloat16
from finescale.model.sizes import coarse_frames
from finescale.training import statistics
from finescale.training.card import card
from finescale.training.checkpoint import KEPT, NAME, read_progress
from finescale.training.crops import Augmentation, Criteria, Crops, check_crop
from finescale.training.loop import LOG, STATISTICS, STATISTICS_STAGE, Loop, Progress
from finescale.training.sections import Data, Training
from finescale.training.stages import fresh, stages

OURS = ("config.yaml", "weights.safetensors", "README.md", LOG)
"""Files of a model folder, beside the checkpoint."""


def fit(
    config: str | Path | Mapping[str, Any],
    out: str | Path,
    overrides: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Downscaler:
    """Train the configured model into the folder ``out``; go on where a checkpoint lies there.

    Raises:
        InputError: for a wrong configuration or data, or a folder that holds other files or, unless ``overwrite``, a
            finished model.
    """
    folder = Path(out)
    resolved = read_config(config, overrides)
    training = schema.call(Training, resolved.get("train"), "train")
    check_folder(folder, resolved, overwrite)
    data = open_data(resolved)
    resolved = {"variable": data.variable} | resolved | data.told
    if not overwrite:
        check_same(folder, resolved)
    torch.manual_seed(training.seed)
    model = build_model(resolved)
    check_writable(folder)
    # Last, for it takes long: whatever else is wrong has been told.
    crops, valid = data.crops()
    if crops.factors.single is not None:
        model.check_plane(*crops.crop[1:])
    if model.latent.enough:
        model.latent.check(len(crops.side_by_side(statistics.KEPT)), crops.crop)
    begin(folder, overwrite)
    train(model, crops, valid, training, folder)
    if crops.missing:  # prediction says that it knows no mask
        model.config["variable"] = model.variable | {"missing": f"{crops.missing:.1%}"}
    finish(model, training, folder, len(crops))
    return model


def finish(model: Downscaler, training: Training, folder: Path, crops: int) -> None:
    """Write the trained model and its card; the checkpoint goes."""
    with explained(folder, KEPT):
        model.save(folder)
        with atomic(folder / "README.md") as path:
            path.write_text(card(model, training, folder, crops), encoding="utf-8")
        (folder / NAME).unlink(missing_ok=True)


def check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be made, or written into, before anything takes long; nothing is left behind.

    Raises:
        InputError: that names the cause.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    probe = partial_path(there / "probe")
    with explained(folder):
        probe.write_bytes(b"")
        probe.unlink()


def train(
    model: Downscaler,
    crops: Crops,
    valid: Crops,
    training: Training,
    folder: Path,
    teacher: Distillation | None = None,
) -> None:
    """Run all stages on a built model, with checkpoints and ``log.jsonl`` in ``folder``.

    Args:
        model: trained in place; ends with the averaged weights, on the processor.
        crops: training crops.
        valid: validation crops.
        training: budget and settings.
        folder: an existing folder.
        teacher: for a distillation, which trains the student's denoiser alone; statistics and mean stay.
    """
    bfloat16 = model.config.get("precision", "auto") != "float32" and has_bfloat16(
        torch.device("cuda" if torch.cuda.is_available() else "cpu")
    )
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    fabric = Fabric(accelerator="auto", devices=1, precision="bf16-mixed" if bfloat16 else "32-true")
    saved = read_progress(folder)
    with blamed(folder / NAME):
        at = Progress() if saved is None else Progress(**{key: saved[key] for key in saved if key != "config"})
    if (folder / LOG).exists():
        # What was logged after the checkpoint, or without one, is logged again.
        os.truncate(folder / LOG, at.log)
    folds: list[MeanModel] = []
    if training.folds and model.mean.trainable and (model.denoiser or model.variance) is not None:
        torch.manual_seed(training.seed)
        folds = [fresh(model.mean).to(fabric.device) for _ in range(training.folds)]
    model.to(fabric.device)
    # Neighbouring frames say little more than one: sequences need fewer crops.
    frames = crops.crop[0]
    samples = [] if teacher else statistics.sample(crops, max(16, STATISTICS // frames), training.seed)
    if at.stage == STATISTICS_STAGE and samples:
        statistics.fit_statistics(model, samples, fabric.device)
    # A loss of distillation runs the teacher's sampler: a few crops must do.
    count = STATISTICS // (12 if teacher else 3)
    seen = statistics.sample(valid, max(4, count // frames), training.seed)
    held = [part for batch in seen for part in batch.split(training.batch)]
    whitened = False
    for stage in stages(model, crops, training, folds, None if teacher is None else teacher.to(fabric.device)):
        if at.stage not in (STATISTICS_STAGE, stage.name):
            continue
        started = at.stage == stage.name
        if stage.kind in ("denoiser", "joint", "variance"):
            if not started and not whitened:
                enough = model.latent.enough
                basis = statistics.every(crops, enough, training.seed) if enough else None
                statistics.whiten(model, samples, stage.sources[0][1], fabric.device, basis)
            whitened = True
        loop = Loop(fabric, model, stage, training, folder, nn.ModuleList(folds))
        loop.run(held, at if started else None)
        at = Progress()
    model.to("cpu").eval()


@dataclass(frozen=True)
class TrainingData:
    """What the ``data`` section names, opened and checked but not read.

    Attributes:
        section: the section.
        factors: of the model.
        fields: fine fields (time, y, x) of training, lazy.
        held: those of validation; None for the training data.
        static: static fields, if there are any.
        variable: name and units of the fine fields.
        paths: of their files.
    """

    section: Data
    factors: Factors
    fields: list[xr.DataArray]
    held: list[xr.DataArray] | None
    static: StaticFields | None
    variable: dict[str, str]
    paths: list[list[str]]

    @property
    def told(self) -> dict[str, Any]:
        """What the data tell a configuration: ``trained``, where and when they lie, and ``static``."""
        extents = merged([extent(*pair) for pair in zip(self.fields, self.paths, strict=True)])
        return {"trained": [one.plain() for one in extents]} | ({"static": self.names} if self.names else {})

    @property
    def names(self) -> list[str]:
        """Names of the static fields."""
        return [] if self.static is None else self.static.names

    def frames(self, factor: Factor) -> int:
        """Coarse frames of a crop."""
        return coarse_frames(factor, self.section.frames, self.section.horizon)

    def crops(self) -> tuple[Crops, Crops]:
        """Training and validation crops; the fields are read now."""
        section, factors = self.section, self.factors
        longest = max(self.frames(Factor(t)) * t for t in range(factors.time[0], factors.time[1] + 1))
        crop = (longest, *((section.crop,) * 2 if isinstance(section.crop, int) else section.crop))
        settings: dict[str, Any] = {
            "criteria": Criteria(section.min_valid, section.min_wet, section.wet),
            "frames": self.frames,
            "static": self.static,
        }
        augmentation = Augmentation(section.turn, section.favour, section.rescale)
        for field in [*self.fields, *(self.held or [])]:
            check_crop(field, factors, crop)
        crops = Crops(self.fields, factors, crop, augmentation=augmentation, **settings)
        return crops, Crops(self.held, factors, crop, **settings) if self.held else crops


def open_data(config: Mapping[str, Any]) -> TrainingData:
    """Open what the ``data`` section names.

    Raises:
        InputError: for a section, files or ranges that cannot be used.
    """
    section = schema.call(Data, config.get("data"), "data")
    factors = Factors.parse(config.get("factor", "1x8"))
    paths = field_paths(section.path)
    units = (config.get("variable") or {}).get("units", "")
    # Prediction shows the networks y and x increasing, whatever the file's order; so does training.
    fields = [increasing(convert_units(open_field(path, section.variable), units)) for path in paths]
    for path, field in zip(paths, fields, strict=True):
        if field.ndim != 3:
            raise InputError(
                f"{title(path)} holds an ensemble; training needs one field in time, y and x: select a member first"
            )
    return TrainingData(
        section,
        factors,
        [region(field, section.train) for field in fields],
        [region(field, section.valid) for field in fields] if section.valid else None,
        None if section.static is None else StaticFields(section.static),
        {"name": str(fields[0].name), "units": str(fields[0].attrs.get("units", ""))},
        paths,
    )


def check_folder(folder: Path, config: Mapping[str, Any], overwrite: bool) -> None:
    """Refuse to train over something else, or, unless ``overwrite``, over another training; nothing is changed."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; name a folder for the model")
    names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    other = {name for name in names - {NAME, *OURS} if not name.endswith(".partial")}
    if other:
        raise InputError(f"{folder} holds other files ({min(other)}); name a new folder for the model")
    if overwrite:
        return
    if "weights.safetensors" in names and NAME not in names:
        raise InputError(f"{folder} holds a finished model; train into another folder or pass --overwrite")
    # What the data tell, and the configuration does not, is compared once they have been read.
    check_same(folder, {"variable": None, "static": None} | dict(config) | {"trained": None})


def begin(folder: Path, overwrite: bool) -> None:
    """Make the folder; with ``overwrite`` remove what an earlier training left there, now that this one can begin."""
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir() if overwrite else ():
            path.unlink()


def check_same(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse to go on with a training that was begun with another configuration; only ``train`` may change.

    Sections that are None are not compared.
    """
    before = (read_progress(folder) or {}).get("config", {})
    now = json.loads(json.dumps(config))
    for section in before.keys() | now.keys():
        if section == "train" or (section in now and now[section] is None):
            continue
        if before and before.get(section) != now.get(section):
            begun = "data of other times or cells" if section == "trained" else f"another {section}"
            raise InputError(
                f"{folder} holds a training begun with {begun}: {before.get(section)}; "
                "keep the configuration to resume it, or pass --overwrite"
            )
