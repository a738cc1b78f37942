"""The training loop of one stage.

Adam with a linear warm-up and cosine decay of the learning rate, clipped gradients, an exponential moving average of
the weights (which is what is kept), validation, and an atomic checkpoint every minute. The batch, noise levels and
noise of a step depend on (seed, stage, step) alone, so a resumed run has the losses of an unbroken one.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from finescale.checkpoint import load_checkpoint, save_checkpoint
from finescale.data.patches import Patches
from finescale.downscaler import Downscaler
from finescale.errors import InputError

STAGES = ("mean", "denoiser")
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
                # On one device Fabric calls marked methods as they are, without its own autocast.
                with self.fabric.autocast():
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


def _average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """EMA whose decay grows from 0.1 towards ``decay``, so that the random start is forgotten."""

    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        n = float(count)
        torch._foreach_lerp_(list(averaged), list(current), 1 - min(decay, (1 + n) / (10 + n)))

    return update
