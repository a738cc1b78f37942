"""Distillation of a trained model to few sampling steps: ``finescale fit --distill MODEL``.

The student is the model itself, with its transform, mean, latent and constraint; its denoiser starts as the teacher's
and learns where the teacher's trajectories end (`finescale.diffusion.distillation`). One training serves 1, 2, 4 and
all other numbers of steps. The result is an ordinary model folder, whose configuration says
``process: {sampler: {kind: consistency, levels: 16, amplitude: 1.1}, steps: 1}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch

from finescale.config import schema
from finescale.config.build import build_model
from finescale.config.load import load
from finescale.config.read import read_config
from finescale.config.shipped import found
from finescale.data.extent import merged, parse
from finescale.data.place import local
from finescale.diffusion import Distillation
from finescale.downscaler import Downscaler
from finescale.errors import InputError
from finescale.samplers import DPM2M, Consistency
from finescale.training.data import open_data
from finescale.training.fit import begin, check_folder, check_same, check_writable, finish, train
from finescale.training.processes import Processes, together
from finescale.training.sections import Training

LEVELS = 16
AMPLITUDE = 1.1
"""Of the noise: what a student loses in spread (benchmarks/steps.py)."""
STEPS = 1
PICKS = 4
"""Points of each trajectory that are learned at once."""
OPEN = ("data", "train", "process", "precision", "distilled")
"""Sections that may differ between teacher and student."""
KEPT = ("steps", "minutes", "warmup", "ema", "seed", "clock")
"""Settings of the teacher's training that the student's starts from."""


def distill(
    source: str | Path, out: str | Path, overrides: Mapping[str, Any] | None = None, overwrite: bool = False
) -> Downscaler:
    """Distil the model ``source`` into the folder ``out``; go on where a checkpoint lies there.

    Args:
        source: a model with a denoiser, as `finescale fit` wrote it, or its name. Data and budget are those of its
            training, unless overridden.
        out: the folder of the new model.
        overrides: ``{"train.minutes": 5}``.
        overwrite: start afresh where ``out`` holds a model or checkpoint.

    Raises:
        InputError: for a model that cannot be distilled, wrong settings or data, or a folder that holds other files or,
            unless ``overwrite``, a finished model.
    """
    with together() as processes:
        return _distill(processes, found(source), local(out, "a model"), overrides or {}, overwrite)


def _distill(
    processes: Processes, source: Path, folder: Path, overrides: Mapping[str, Any], overwrite: bool
) -> Downscaler:
    """`distill` in one of the processes."""
    if source.resolve() == folder.resolve():
        raise InputError(f"{folder} is the model to distil; name another folder for the new one")
    teacher = load(source, device="cpu")
    config = student_config(teacher, source, overrides)
    training = schema.call(Training, config["train"], "train")
    training.check_alone()
    model = build_model(config)
    sampler = model.process.sampler
    if not isinstance(sampler, Consistency):
        raise InputError(
            "process.sampler of a distilled model is consistency; only its levels and amplitude can be set"
        )
    processes.check_batch(training.batch)
    processes.once(partial(check_folder, folder, config, overwrite))
    data = open_data(config)
    if data.names != list(config.get("static") or []):
        raise InputError(
            f"{source} was trained with the static fields {config.get('static')}; data.static gives {data.names}"
        )
    # A student knows what its teacher saw, and what it sees itself.
    both = [*parse(config.get("trained") or [], f"{source / 'config.yaml'}, section trained"),
            *parse(data.told["trained"], "the data")]  # fmt: skip
    model.config["trained"] = [one.plain() for one in merged(both)]
    processes.once(partial(check_same, folder, model.config))
    model.load_state_dict(teacher.state_dict())
    assert teacher.denoiser is not None
    distillation = Distillation(teacher.denoiser, DPM2M(), model.process.sigmas(sampler.levels), PICKS)
    processes.once(partial(check_writable, folder))
    with processes.first_alone():
        crops, valid = data.crops()
    processes.once(partial(begin, folder, overwrite))
    torch.manual_seed(training.seed)
    train(model, crops, valid, training, folder, distillation, processes)
    processes.once(partial(finish, model, training, folder, len(crops)))
    return model


def student_config(teacher: Downscaler, source: Path, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The teacher's configuration with the sampler, budget and origin of a student, and overrides.

    A batch has a quarter of the teacher's crops, for four points of each trajectory are learned; the learning rate is
    half the teacher's.
    """
    if teacher.denoiser is None:
        raise InputError(f"{source} is a deterministic model: it has no denoiser to distil")
    if isinstance(teacher.process.sampler, Consistency):
        raise InputError(f"{source} is itself distilled: name the model that it was distilled from")
    config = deepcopy(teacher.config)
    config.pop("calibrated", None)  # of the teacher's members
    old = Training(**{"steps": 1} | {k: v for k, v in config.get("train", {}).items() if k in ("batch", "lr")})
    kept = {key: value for key, value in config.get("train", {}).items() if key in KEPT}
    config["train"] = kept | {"batch": max(1, old.batch // PICKS), "lr": old.lr / 2}
    process = {key: value for key, value in (config.get("process") or {}).items() if key != "tv"}
    config["process"] = process | {
        "sampler": {"kind": "consistency", "levels": LEVELS, "amplitude": AMPLITUDE},
        "steps": STEPS,
    }
    config["distilled"] = {"from": source.resolve().name}
    resolved = read_config(config, overrides)
    for section, value in resolved.items():
        if section not in OPEN and value != teacher.config.get(section):
            raise InputError(f"--set {section}: a distilled model keeps the {section} of {source}")
    return resolved
