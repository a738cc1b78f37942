"""The training loop of one stage.

Adam with a linear warm-up and cosine decay of the learning rate, clipped gradients, an exponential moving average of
the weights, validation of the averaged weights, and an atomic checkpoint every minute. A stage leaves the averaged
weights with the least validation loss. The batch, noise levels and noise of a step depend on (seed, stage,
step) alone, so a resumed run has the losses of an unbroken one, on whatever number of processes it is resumed.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from finescale.config.document import blamed
from finescale.data.atomic import explained
from finescale.downscaler import Downscaler
from finescale.errors import InputError, Interrupted
from finescale.model.batch import Batch
from finescale.model.mean import MeanModel
from finescale.signals import deferred
from finescale.training.ahead import Ahead
from finescale.training.checkpoint import KEPT, NAME, load_checkpoint, save_checkpoint
from finescale.training.processes import Processes
from finescale.training.sections import Training
from finescale.training.stages import Stage

CHECKS = 20
"""Validations in a stage, evenly spaced, beside the last."""
STATISTICS_STAGE = "statistics"
"""Before the first stage with a network."""
LOG = "log.jsonl"
"""A line of JSON a validation."""
STATISTICS = 96
"""Crops from which statistics are taken, and (a third of it) on which validation losses are measured."""


@dataclass
class Progress:
    """Where a training stands: what a resumed one must know besides the networks and the optimizer.

    Attributes:
        stage: its name.
        step: steps done of it.
        elapsed: seconds spent on it.
        best: least validation loss.
        checks: validations done.
        losses: of the steps since the last one.
        loss: mean of those before it.
        log: bytes of ``log.jsonl``; what was logged later is logged again.
    """

    stage: str = STATISTICS_STAGE
    step: int = 0
    elapsed: float = 0.0
    best: float = math.inf
    checks: int = 0
    losses: list[float] = field(default_factory=list)
    loss: float = math.nan
    log: int = 0


class Objective(nn.Module):
    """What Fabric wraps: the networks that a loss trains. It prepares for their gradients around ``forward``."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, loss: Callable[[], Tensor]) -> Tensor:
        return loss()


class Loop:
    """One stage's training loop.

    Args:
        processes: that share it; the folder is the first one's.
        model: whose part is trained.
        stage: what is trained on what.
        training: budget and settings.
        folder: of the checkpoint and the log.
        folds: mean networks of held-out folds, which are no part of the model.
    """

    def __init__(
        self,
        processes: Processes,
        model: Downscaler,
        stage: Stage,
        training: Training,
        folder: Path,
        folds: nn.ModuleList,
    ) -> None:
        self.processes, self.fabric = processes, processes.fabric
        self.share, self.items = processes.share, processes.share.items(training.batch)
        self.model, self.stage, self.part = model, stage, stage.part
        # Everything that a resumption needs.
        self.networks = nn.ModuleDict({"model": model, "folds": folds})
        self.training, self.folder = training, folder
        self.steps = None if training.steps is None else max(1, round(training.steps * stage.share))
        self.seconds = None if training.minutes is None else training.minutes * 60 * stage.share

    def run(self, held: Sequence[Batch], resume: Progress | None) -> None:
        """Train the part, then give it the best of its averaged weights on ``held``, validation crops.

        Raises:
            Interrupted: at the end of a step, after a signal; the checkpoint is written.
        """
        training, stage = self.training, self.stage
        self.networks.requires_grad_(False)
        self.part.requires_grad_(True)
        raw = torch.optim.Adam(self.part.parameters(), lr=training.lr, betas=(0.9, 0.99), fused=True)
        wrapped, optimizer = self.fabric.setup(Objective(self.part), raw)
        average = AveragedModel(self.part, multi_avg_fn=_average(training.ema))
        best = Best(copy.deepcopy(self.part), training.keep)
        at = resume or Progress(stage.name, log=self.processes.once(self._logged))
        if resume is not None:
            path = self.folder / NAME
            with blamed(path):
                content = self.processes.once(path.read_bytes)
            load_checkpoint(path, content, self.networks, average, best.part, raw)
            best.loss = at.best

        def save(said: dict[str, Any]) -> None:
            self.processes.once(lambda: save_checkpoint(self.folder, self.networks, average, best.part, raw, said))

        before, started = at.elapsed, training.now()
        saved, whole = before, at.step
        # Named only where it must be off: elsewhere tqdm's own switch counts, TQDM_DISABLE in the environment.
        off = {} if self.processes.first else {"disable": True}
        bar = tqdm(
            total=self.steps, initial=at.step, desc=f"training {stage.name}", unit="step", mininterval=1.0, **off
        )
        # Of several processes, each may hear of a signal from the system and once more from torchrun.
        with deferred(again=self.processes.count == 1) as asked, Ahead(self._draw, at.step) as batches, closing(bar):
            while (fraction := self._fraction(at)) < 1:
                for group in raw.param_groups:
                    group["lr"] = (
                        training.lr
                        * min(1.0, (at.step + 1) / training.warmup)
                        * (0.5 + 0.5 * math.cos(math.pi * fraction))
                    )
                crops = self._moved(batches.next())
                _, mean = stage.sources[at.step % len(stage.sources)]
                context = {"mean": mean, "teacher": stage.teacher, "through": self._through(fraction)}
                generator = self._generator(at.step)
                loss = wrapped(partial(self._loss, crops, generator, **context))
                self.fabric.backward(loss)
                self.fabric.clip_gradients(wrapped, optimizer, max_norm=1.0, error_if_nonfinite=False)
                optimizer.step()
                optimizer.zero_grad()
                average.update_parameters(self.part)
                at.step += 1
                rows = self.processes.exchanged(
                    float(loss.detach()), asked.signal or 0, before + training.now() - started
                )
                losses, signals, clocks = zip(*rows, strict=True)
                at.losses.append(sum(losses) / len(losses))
                at.elapsed, number = clocks[0], int(max(signals))
                if not math.isfinite(at.losses[-1]):
                    raise InputError(
                        f"the loss of training {stage.name} is {at.losses[-1]} at step {at.step}: lower train.lr "
                        f"({training.lr:g}), or look for absurd values in the data"
                    )
                bar.update()
                if fraction * CHECKS >= at.checks:
                    self._check(bar, at, held, average, best)
                if number or at.elapsed - saved >= training.checkpoint:
                    save(self._said(at))
                    saved, whole = at.elapsed, at.step
                if number:
                    raise Interrupted(number, f"step {at.step} of training {stage.name} is saved", again=True)
            # Whole stages are kept too, so that a failure to write the model costs no training.
            if whole != at.step:
                save(self._said(at))
            self._check(bar, at, held, average, best)
        self.part.load_state_dict(best.part.state_dict())

    def _loss(self, crops: Batch, generator: torch.Generator, **context: Any) -> Tensor:
        """What this process's part of a batch adds to the mean of all."""
        with self.model.autocast(self.fabric.device):
            return self.model.loss(self.stage.kind, crops, generator, share=self.share, **context)

    def _said(self, at: Progress) -> dict[str, Any]:
        """What a checkpoint says besides, with the configuration, which must not have changed."""
        return asdict(at) | {"config": self.model.config}

    def _check(self, bar: Any, at: Progress, held: Sequence[Batch], average: AveragedModel, best: Best) -> None:
        """Validate the averaged weights, and keep them where they are the best so far."""
        if at.losses:
            at.loss = sum(at.losses) / len(at.losses)
        valid, at.log = self.processes.once(lambda: (self._report(bar, at, held, average), self._logged()))
        best.offer(average.module, valid)
        at.best, at.losses, at.checks = best.loss, [], at.checks + 1

    def _logged(self) -> int:
        """Bytes of the log."""
        log = self.folder / LOG
        return log.stat().st_size if log.exists() else 0

    def _draw(self, step: int) -> Batch:
        crops, _ = self.stage.sources[step % len(self.stage.sources)]
        return crops.draw(self.training.batch, self.training.seed, self.stage.key, step, items=self.items)

    def _moved(self, crops: Batch) -> Batch:
        return crops.to(self.fabric.device)

    def _generator(self, step: int) -> torch.Generator:
        # Odd constants keep the keys of stages, steps and seeds apart.
        return torch.Generator().manual_seed(
            (self.training.seed * 2_654_435_761 + self.stage.key * 40_503 + step * 2) % 2**63
        )

    def _through(self, fraction: float) -> bool:
        """Whether the loss sees the constraint after this share of the training; always where y are logits."""
        constraint = self.model.constraint
        return (constraint is not None and constraint.domain == "logits") or fraction >= 1 - self.training.through

    def _fraction(self, at: Progress) -> float:
        return at.step / self.steps if self.steps is not None else at.elapsed / (self.seconds or 1e-9)

    @torch.no_grad()
    def _report(self, bar: Any, at: Progress, held: Sequence[Batch], average: AveragedModel) -> float:
        """Validation loss of the averaged weights; it goes to log.jsonl and the progress bar."""
        live = {name: value.clone() for name, value in self.part.state_dict().items()}
        self.part.load_state_dict(average.module.state_dict())
        generator, found = torch.Generator().manual_seed(0), []
        mean = self.part if self.stage.kind == "mean" and isinstance(self.part, MeanModel) else None
        with self.model.autocast(self.fabric.device):
            for crops in map(self._moved, held):
                loss = self.model.loss(self.stage.kind, crops, generator, mean=mean, teacher=self.stage.teacher)
                found.append(float(loss))
        valid = sum(found) / len(found)
        self.part.load_state_dict(live)
        left = "" if self.seconds is None else f", {max(0.0, self.seconds - at.elapsed):.0f} s left"
        bar.set_postfix_str(f"loss {at.loss:.4f}, validation {valid:.4f}{left}")
        row = {"stage": self.stage.name, "step": at.step, "loss": at.loss, "valid": valid}
        with explained(self.folder / LOG, KEPT), (self.folder / LOG).open("a", encoding="utf-8") as log:
            log.write(json.dumps(row | {"seconds": round(at.elapsed, 2)}) + "\n")
        return valid


@dataclass
class Best:
    """The weights with the least validation loss so far.

    Attributes:
        part: a copy of the network, with those weights.
        keep: best, or last for the latest weights instead.
        loss: their validation loss.
    """

    part: nn.Module
    keep: str = "best"
    loss: float = math.inf

    def offer(self, network: nn.Module, loss: float) -> None:
        if self.keep == "last" or not loss >= self.loss:  # the last, too, where nothing can be validated
            self.part.load_state_dict(network.state_dict())
            self.loss = loss


def _average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """EMA whose decay grows from 0.1 towards ``decay``, so that the random start is forgotten."""

    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        n = float(count)
        torch._foreach_lerp_(list(averaged), list(current), 1 - min(decay, (1 + n) / (10 + n)))

    return update
