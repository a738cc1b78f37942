"""Training by stages: statistics, mean, latent, denoiser.

One loop serves the stages that have a network: warm-up and cosine decay of the learning rate, clipped gradients, an
exponential moving average of the weights (which is what is kept), validation, and an atomic checkpoint every minute.
The batch, noise levels and noise of a step depend on (seed, stage, step) alone, so a resumed run has the losses of an
unbroken one.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from finescale import assemble
from finescale.axes import increasing
from finescale.checkpoint import NAME, load_checkpoint, read_progress, save_checkpoint
from finescale.data.open import convert_units, open_field
from finescale.data.patches import Augmentation, Criteria, Patches, region
from finescale.downscaler import Downscaler, has_bfloat16
from finescale.errors import InputError

STAGES = ("mean", "denoiser")
OURS = ("config.yaml", "weights.safetensors", "README.md", "log.jsonl")
CHECKPOINT_SECONDS = 60.0
STATISTICS = 96
"""Crops from which statistics are taken, and (a third of it) on which validation losses are measured."""


@dataclass(frozen=True)
class Training:
    """How long and how to train.

    Attributes:
        steps: optimizer steps of all stages together; or
        minutes: minutes of all stages together (one of the two).
        mean_share: share of them that the mean network gets, where there is one.
        batch: crops a step.
        lr: peak learning rate of Adam.
        warmup: steps of linear warm-up.
        ema: decay of the moving average of weights, approached from below in the first steps.
        seed: seed of initial weights, batches and noise.
        clock: what minutes are: of wall time, or of processor time divided by the number of threads (cpu), which does
            not change when the machine does other things besides.
    """

    steps: int | None = None
    minutes: float | None = None
    mean_share: float = 0.25
    batch: int = 16
    lr: float = 1e-3
    warmup: int = 100
    ema: float = 0.998
    seed: int = 0
    clock: Literal["wall", "cpu"] = "wall"

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise InputError("the train section needs either steps or minutes")
        for name in ("steps", "minutes", "batch", "warmup", "lr"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise InputError(f"configuration key train.{name} is {value}, but must be positive")

    def share(self, model: Downscaler, stage: str) -> float:
        """Share of the budget that ``stage`` gets."""
        if not model.mean.trainable:
            return float(stage == "denoiser")
        if model.denoiser is None:
            return float(stage == "mean")
        return self.mean_share if stage == "mean" else 1 - self.mean_share

    def now(self) -> float:
        """Seconds of the chosen clock."""
        return time.process_time() / torch.get_num_threads() if self.clock == "cpu" else time.monotonic()


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
    resolved = assemble.read_config(config, overrides)
    training = assemble.call(Training, resolved.get("train", {}), "train")
    _check_folder(folder, resolved, overwrite)
    patches, valid, variable = read_data(resolved)
    resolved.setdefault("variable", variable)
    torch.manual_seed(training.seed)
    model = assemble.build(resolved)
    folder.mkdir(parents=True, exist_ok=True)
    train(model, patches, valid, training, folder)
    model.save(folder)
    (folder / "README.md").write_text(card(model, training, folder, len(patches)), encoding="utf-8")
    (folder / NAME).unlink(missing_ok=True)
    return model


def train(
    model: Downscaler,
    patches: Patches,
    valid: Patches,
    training: Training,
    folder: Path,
    on_step: Callable[[str, int], None] | None = None,
) -> None:
    """Run all stages on a built model, with checkpoints and ``log.jsonl`` in ``folder``.

    Args:
        model: trained in place; ends with the averaged weights, on the processor.
        patches: training crops.
        valid: validation crops.
        training: budget and settings.
        folder: an existing folder.
        on_step: called after every step with the stage and the step's number.
    """
    bfloat16 = model.config.get("precision", "auto") != "float32" and has_bfloat16(
        torch.device("cuda" if torch.cuda.is_available() else "cpu")
    )
    fabric = Fabric(accelerator="auto", devices=1, precision="bf16-mixed" if bfloat16 else "32-true")
    progress = read_progress(folder) or {"stage": "statistics", "step": 0, "elapsed": 0.0}
    model.to(fabric.device)
    fine, coarse, _ = patches.spread(STATISTICS, training.seed)
    if progress["stage"] == "statistics":
        model.transform.fit([fine.to(fabric.device)])
    for stage in STAGES:
        part = getattr(model, stage)
        if training.share(model, stage) == 0:
            continue
        if progress["stage"] not in ("statistics", stage):
            continue
        if stage == "denoiser" and progress["stage"] != stage:
            with torch.no_grad():
                model.latent.fit([model.residual(fine.to(fabric.device), coarse.to(fabric.device))])
        started = progress["stage"] == stage
        Loop(fabric, model, part, stage, training, folder).run(patches, valid, progress if started else None, on_step)
        progress = {"stage": "statistics"} if stage == "mean" else progress
    model.to("cpu").eval()


class Loop:
    """One stage's training loop."""

    def __init__(
        self, fabric: Fabric, model: Downscaler, part: nn.Module, stage: str, training: Training, folder: Path
    ) -> None:
        self.fabric, self.model, self.part, self.stage = fabric, model, part, stage
        self.training, self.folder = training, folder
        self.loss = math.nan
        share = training.share(model, stage)
        self.steps = None if training.steps is None else max(1, round(training.steps * share))
        self.seconds = None if training.minutes is None else training.minutes * 60 * share

    def run(
        self,
        patches: Patches,
        valid: Patches,
        resume: Mapping[str, Any] | None,
        on_step: Callable[[str, int], None] | None,
    ) -> None:
        """Train the part, then give it its averaged weights."""
        training = self.training
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name.startswith(self.stage))
        raw = torch.optim.Adam(self.part.parameters(), lr=training.lr, betas=(0.9, 0.99), fused=True)
        wrapped, optimizer = self.fabric.setup(self.model, raw)
        wrapped.mark_forward_method("loss")
        average = AveragedModel(self.part, multi_avg_fn=_average(training.ema))
        step, before = 0, 0.0
        if resume is not None:
            load_checkpoint(self.folder, self.model, average, raw)
            step, before = int(resume["step"]), float(resume["elapsed"])
        started = saved = training.now()
        held = valid.spread(STATISTICS // 3, training.seed)
        next_check = self._fraction(step, before)
        bar = tqdm(total=self.steps, initial=step, desc=f"training {self.stage}", unit="step", mininterval=1.0)
        losses: list[float] = []
        with ThreadPoolExecutor(1) as pool:
            batch = pool.submit(self._draw, patches, step)
            while (fraction := self._fraction(step, elapsed := before + training.now() - started)) < 1:
                for group in raw.param_groups:
                    group["lr"] = (
                        training.lr
                        * min(1.0, (step + 1) / training.warmup)
                        * (0.5 + 0.5 * math.cos(math.pi * fraction))
                    )
                fine, coarse = (x.to(self.fabric.device) for x in batch.result())
                batch = pool.submit(self._draw, patches, step + 1)
                loss = wrapped.loss(self.stage, fine, coarse, self._generator(step))
                self.fabric.backward(loss)
                self.fabric.clip_gradients(wrapped, optimizer, max_norm=1.0, error_if_nonfinite=False)
                optimizer.step()
                optimizer.zero_grad()
                average.update_parameters(self.part)
                step += 1
                losses.append(float(loss.detach()))
                if not math.isfinite(losses[-1]):
                    raise RuntimeError(f"the loss of {self.stage} is {losses[-1]} at step {step}; lower train.lr")
                bar.update()
                if fraction >= next_check:
                    self._report(bar, step, losses, held, average, elapsed)
                    losses, next_check = [], next_check + 0.05
                if training.now() - saved > CHECKPOINT_SECONDS:
                    save_checkpoint(self.folder, self.model, average, raw, self._progress(step, elapsed))
                    saved = training.now()
                if on_step is not None:
                    on_step(self.stage, step)
        self._report(bar, step, losses, held, average, before + training.now() - started)
        bar.close()
        self.part.load_state_dict(average.module.state_dict())

    def _progress(self, step: int, elapsed: float) -> dict[str, Any]:
        """What a resumed run must know, with the configuration, which must not have changed."""
        return {"stage": self.stage, "step": step, "elapsed": elapsed, "config": self.model.config}

    def _draw(self, patches: Patches, step: int) -> tuple[Tensor, Tensor]:
        fine, coarse, _ = patches.draw(self.training.batch, self.training.seed, STAGES.index(self.stage), step)
        return fine, coarse

    def _generator(self, step: int) -> torch.Generator:
        # Odd constants keep the keys of stages, steps and seeds apart.
        return torch.Generator().manual_seed(
            (self.training.seed * 2_654_435_761 + STAGES.index(self.stage) * 40_503 + step * 2) % 2**63
        )

    def _fraction(self, step: int, elapsed: float) -> float:
        return step / self.steps if self.steps is not None else elapsed / (self.seconds or 1e-9)

    @torch.no_grad()
    def _report(
        self,
        bar: Any,
        step: int,
        losses: Sequence[float],
        held: tuple[Tensor, Tensor, Tensor],
        average: AveragedModel,
        elapsed: float,
    ) -> None:
        """Validation loss of the averaged weights, one line in log.jsonl, and the progress bar."""
        live = {name: value.clone() for name, value in self.part.state_dict().items()}
        self.part.load_state_dict(average.module.state_dict())
        fine, coarse = held[0].to(self.fabric.device), held[1].to(self.fabric.device)
        with self.model.autocast(self.fabric.device):
            valid = float(self.model.loss(self.stage, fine, coarse, torch.Generator().manual_seed(0)))
        self.part.load_state_dict(live)
        if losses:
            self.loss = sum(losses) / len(losses)
        left = "" if self.seconds is None else f", {max(0.0, self.seconds - elapsed):.0f} s left"
        bar.set_postfix_str(f"loss {self.loss:.4f}, validation {valid:.4f}{left}")
        row = {"stage": self.stage, "step": step, "loss": self.loss, "valid": valid, "seconds": round(elapsed, 2)}
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(row) + "\n")


def read_data(config: Mapping[str, Any]) -> tuple[Patches, Patches, dict[str, str]]:
    """Training and validation crops as the ``data`` section says, and the variable's name and units."""
    section = assemble.call(Data, config.get("data", {}), "data")
    model = assemble.Factor.parse(config.get("factor", "1x8"))
    paths = [section.path] if isinstance(section.path, str) else list(section.path)
    units = (config.get("variable") or {}).get("units", "")
    # Prediction shows the networks y and x increasing, whatever the file's order; so does training.
    fields = [increasing(convert_units(open_field(path, section.variable), units)) for path in paths]
    for path, field in zip(paths, fields, strict=True):
        if field.ndim != 3:
            raise InputError(
                f"{path} holds an ensemble; training needs one field in time, y and x: select a member first"
            )
    crop = (section.frames * model.time, *((section.crop,) * 2 if isinstance(section.crop, int) else section.crop))
    criteria = Criteria(section.min_valid, section.min_wet, section.wet)
    augmentation = Augmentation(favour=section.favour, rescale=section.rescale)
    patches = Patches(
        [region(f, section.train).load() for f in fields], model, crop, criteria, augmentation=augmentation
    )
    held = [region(f, section.valid).load() for f in fields] if section.valid else None
    valid = Patches(held, model, crop, criteria) if held else patches
    first = fields[0]
    variable = {"name": str(first.name), "units": str(first.attrs.get("units", ""))}
    return patches, valid, variable


@dataclass(frozen=True)
class Data:
    """The ``data`` section.

    Attributes:
        path: a file or store of fine fields, or several.
        variable: which variable; None where there is one alone.
        crop: fine cells of a training crop, one number or (y, x).
        frames: coarse frames of a crop.
        min_valid: least share of known cells in a crop.
        min_wet: least share of wet cells in a crop.
        wet: amount above which a cell is wet.
        favour: choose training crops with probability ∝ mean amount^favour.
        rescale: multiply training crops by exp(rescale · N(0, 1)).
        train: ranges of coordinates to train on, ``{lon: [null, -94]}``; None for all.
        valid: ranges to validate on; None for the training data.
    """

    path: str | list[str]
    variable: str | None = None
    crop: int | tuple[int, int] = 128
    frames: int = 1
    min_valid: float = 0.95
    min_wet: float = 0.0
    wet: float = 0.1
    favour: float = 0.0
    rescale: float = 0.0
    train: dict[str, list[Any]] | None = None
    valid: dict[str, list[Any]] | None = None


def card(model: Downscaler, training: Training, folder: Path, crops: int) -> str:
    """The model card."""
    log = folder / "log.jsonl"
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.is_file() else []
    last = {row["stage"]: row for row in rows}
    data = model.config.get("data", {})
    spent = {key: value for key, value in asdict(training).items() if value is not None}
    paths = data.get("path", [])
    names = [Path(path).name for path in ([paths] if isinstance(paths, str) else paths)]
    lines = [
        f"# finescale model: {model.variable.get('name')} at {model.factor}",
        "",
        f"- Factor (time x space): {model.factor}",
        f"- Variable: {model.variable.get('name')} in {model.variable.get('units')}",
        f"- Training data: {', '.join(names)}, ranges {data.get('train')}, {crops} crops of {data.get('crop')} cells",
        f"- Parts: {', '.join(f'{part} {_kind(model, part)}' for part in ('mean', 'latent', 'constraint'))}",
        f"- Parameters: {', '.join(f'{n:,} in {part}' for part, n in model.parameters_by_part.items())}",
        f"- Training: {json.dumps(spent)}",
        *(
            f"- Stage {s}: {r['step']} steps, {r['seconds']} s, validation loss {r['valid']:.4f}"
            for s, r in last.items()
        ),
        "- Licence: that of the training data applies to what is learned from them; not stated by this file.",
        "- Scores: run `finescale verify` on data outside the training ranges.",
        "",
    ]
    return "\n".join(lines)


def _kind(model: Downscaler, part: str) -> Any:
    spec = model.config.get(part, "none")
    return spec.get("kind") if isinstance(spec, Mapping) else spec


def _average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """EMA whose decay grows from 0.1 towards ``decay``, so that the random start is forgotten."""

    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        n = float(count)
        torch._foreach_lerp_(list(averaged), list(current), 1 - min(decay, (1 + n) / (10 + n)))

    return update


def _check_folder(folder: Path, config: Mapping[str, Any], overwrite: bool) -> None:
    """Refuse to train over something else; with ``overwrite`` remove what an earlier training left."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; name a folder for the model")
    names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    other = {name for name in names - {NAME, *OURS} if not name.endswith(".partial")}
    if other:
        raise InputError(f"{folder} holds other files ({min(other)}); name a new folder for the model")
    if overwrite:
        for name in names:
            (folder / name).unlink()
        return
    if "weights.safetensors" in names and NAME not in names:
        raise InputError(f"{folder} holds a finished model; train into another folder or pass --overwrite")
    before = (read_progress(folder) or {}).get("config", {})
    for section in before:
        if section != "train" and before[section] != json.loads(json.dumps(config.get(section))):
            raise InputError(
                f"{folder} holds a training begun with another {section}: {before[section]}; "
                "keep the configuration to resume it, or pass --overwrite"
            )
