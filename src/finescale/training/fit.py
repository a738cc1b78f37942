"""Training by stages: statistics, mean, latent, denoiser, variance.

What a stage with a network does is in `finescale.training.loop`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from finescale.config import schema
from finescale.config.build import build_model
from finescale.config.document import blamed
from finescale.config.read import read_config
from finescale.data.atomic import atomic, explained, partial_path
from finescale.data.place import local
from finescale.diffusion import Distillation
from finescale.downscaler import Downscaler
from finescale.errors import InputError
from finescale.model.batch import Batch
from finescale.model.mean import MeanModel
from finescale.training import statistics
from finescale.training.card import card
from finescale.training.checkpoint import KEPT, NAME, read_progress
from finescale.training.crops import Crops
from finescale.training.data import Fine, listed, open_data
from finescale.training.loop import LOG, STATISTICS, STATISTICS_STAGE, Loop, Progress
from finescale.training.processes import Processes, together
from finescale.training.remember import remembered
from finescale.training.sections import Training
from finescale.training.stages import fresh, stages
from finescale.training.start import Start, alone

OURS = ("config.yaml", "weights.safetensors", "README.md", LOG)
"""Files of a model folder, beside the checkpoint."""


def fit(
    config: str | Path | Mapping[str, Any] | None,
    out: str | Path,
    overrides: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    *,
    data: Fine | Sequence[Fine] | None = None,
    start: str | Path | None = None,
) -> Downscaler:
    """Train the configured model into the folder ``out``; go on where a checkpoint lies there.

    In a process that torchrun started, together with the others; the folder is that of the first.

    Args:
        config: a mapping, a YAML file, or the name of a preset; None with ``start``.
        out: a folder.
        overrides: settings to change, ``{"train.minutes": 5}``.
        overwrite: start afresh where the folder holds a model or a checkpoint.
        data: fine fields in place of ``data.path``: a Dataset, a DataArray or a path, or several.
        start: a trained model to go on from instead (`finescale.training.start`): its folder, URL or name.

    Raises:
        InputError: for a wrong configuration or data, or a folder that holds other files or, unless ``overwrite``, a
            finished model.

    Example:
        >>> import finescale
        >>> from finescale.data.synthetic import synthetic_rain
        >>> rain = synthetic_rain((2, 64, 64), seed=3)
        >>> small = {"factor": "1x4", "data.crop": 32, "train.steps": 2, "mean.backbone.width": 8}
        >>> model = finescale.fit("conservative-cnn", "model", small, data=rain)  # two steps: a start, not a model
        >>> print(model.factor)
        1x4
    """
    with together() as processes:
        return _fit(processes, config, local(out, "a model"), overrides, overwrite, data, start)


def _fit(
    processes: Processes,
    config: str | Path | Mapping[str, Any] | None,
    folder: Path,
    overrides: Mapping[str, Any] | None,
    overwrite: bool,
    data: Fine | Sequence[Fine] | None,
    start: str | Path | None,
) -> Downscaler:
    """`fit` in one of the processes."""
    if (config is None) == (start is None):
        raise InputError("fit takes either a configuration or a model to start from")
    before = None if start is None else Start(start)
    resolved = alone(read_config(config or {}, overrides)) if before is None else before.config(overrides or {})
    stores = None if data is None else listed(data)
    if stores is not None:
        resolved["data"] = dict(resolved.get("data") or {}) | {"path": list(stores)}
    if before is not None:
        resolved = before.named(resolved, {name: ds for name, ds in (stores or {}).items() if ds is not None})
    training = schema.call(Training, resolved.get("train"), "train")
    if before is None:
        training.check_alone()
    elif before.folder == folder.resolve():
        raise InputError(f"{folder} is the model to start from; name another folder for the new one")
    processes.check_batch(training.batch)
    processes.once(partial(check_folder, folder, resolved, overwrite))
    opened = open_data(resolved, stores)
    resolved = {key: value for key, value in resolved.items() if key not in ("remembers", "calibrated")} | opened.told
    if before is not None:
        resolved["trained"] = before.trained(resolved["trained"])
        resolved |= before.calibrated
    if not overwrite:
        processes.once(partial(check_same, folder, resolved))
    torch.manual_seed(training.seed)
    model = build_model(resolved)
    if before is not None:
        before.into(model)
    processes.once(partial(check_writable, folder))
    # Last, for it takes long: whatever else is wrong has been told.
    with processes.first_alone():
        crops, valid = opened.crops()
    if crops.factors.single is not None:
        model.check_plane(*crops.crop[1:])
    if model.latent.enough:
        model.latent.check(len(crops.side_by_side(statistics.KEPT)), crops.crop)
    processes.once(partial(begin, folder, overwrite))
    train(model, crops, valid, training, folder, processes=processes, start=before)
    model.remember(*processes.once(partial(remembered, opened, crops, training.seed)))
    if crops.missing:  # prediction says so where it knows no mask
        share = {"missing": f"{crops.missing:.1%}"}
        model.config["variables"] = {name: one | share for name, one in model.variables.items()}
    processes.once(partial(finish, model, training, folder, len(crops)))
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
    processes: Processes | None = None,
    start: Start | None = None,
) -> None:
    """Run all stages on a built model, with checkpoints and ``log.jsonl`` in ``folder``.

    Args:
        model: trained in place; ends with the averaged weights, on the processor.
        crops: training crops.
        valid: validation crops.
        training: budget and settings.
        folder: an existing folder.
        teacher: for a distillation, which trains the student's denoiser alone; statistics and mean stay.
        processes: that share the training; None for this one alone.
        start: that the model goes on from, whose statistics stay, but for how smooth fields are.
    """
    processes = processes or Processes()
    device = processes.fabric.device
    saved = processes.once(partial(read_progress, folder))
    with blamed(folder / NAME):
        at = Progress() if saved is None else Progress(**{key: saved[key] for key in saved if key != "config"})
    if processes.first and (folder / LOG).exists():
        # What was logged after the checkpoint, or without one, is logged again.
        os.truncate(folder / LOG, at.log)
    folds: list[MeanModel] = []
    if training.folds and model.mean.trainable and (model.denoiser or model.generator or model.variance) is not None:
        torch.manual_seed(training.seed)
        folds = [fresh(model.mean).to(device) for _ in range(training.folds)]
    model.to(device)

    def sample(crops: Crops, count: int) -> list[Batch]:
        # Statistics and validation losses are the first process's.
        return statistics.sample(crops, count, training.seed) if processes.first else []

    # Neighbouring frames say little more than one: sequences need fewer crops.
    frames = crops.crop[0]
    first, known = at.stage == STATISTICS_STAGE, start is not None or teacher is not None
    samples = [] if known else sample(crops, max(16, STATISTICS // frames))
    if first and not known:
        processes.alike(model, lambda: statistics.fit_statistics(model, samples, device))
    if first and teacher is None and model.conditions.smoothness:
        processes.alike(model, lambda: statistics.fit_smoothness(model, crops, training.seed, device))
    # A loss of distillation runs the teacher's sampler: a few crops must do.
    count = STATISTICS // (12 if teacher else 3)
    seen = sample(valid, max(4, count // frames))
    held = [part for batch in seen for part in batch.split(training.batch)]
    whitened = False
    for stage in stages(model, crops, training, folds, None if teacher is None else teacher.to(device)):
        if at.stage not in (STATISTICS_STAGE, stage.name):
            continue
        started = at.stage == stage.name
        if stage.kind in ("denoiser", "joint", "generator", "variance"):
            if not started and not whitened and not known:
                enough = model.latent.enough
                basis = statistics.every(crops, enough, training.seed) if enough and processes.first else None
                whiten = partial(statistics.whiten, model, samples, stage.sources[0][1], device, basis)
                processes.alike(model, whiten)
            whitened = True
        loop = Loop(processes, model, stage, training, folder, nn.ModuleList(folds))
        loop.run(held, at if started else None)
        if start is not None:
            start.mixed_into(model, stage.part, training.mixing)
        at = Progress()
    model.to("cpu").eval()


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
    told = dict.fromkeys(("variables", "predictors", "static", "trained", "calibrated"))
    check_same(folder, dict(config) | told)


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
