"""The stages of a training: what is trained, one after the other, on which crops, with which share of the budget."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from torch import nn

from finescale.diffusion import Distillation
from finescale.downscaler import Downscaler
from finescale.model.mean import MeanModel
from finescale.training.crops import Crops
from finescale.training.sections import Training

Network = TypeVar("Network", bound=nn.Module)

DISTILL_KEY = 1000
"""Random numbers of a distillation; those of folds count up from 2."""
VARIANCE_KEY = 1001
"""Random numbers of a variance head."""


@dataclass(frozen=True)
class Stage:
    """One stage of a training.

    Attributes:
        name: what logs call it.
        kind: the loss: mean, denoiser, joint, generator, variance or distill.
        part: the networks that are trained.
        sources: crops and, where it is not the model's own, the mean model; steps take them in turn.
        share: share of the budget.
        key: keeps the random numbers of stages apart.
        teacher: what a distillation learns from.
    """

    name: str
    kind: str
    part: nn.Module
    sources: Sequence[tuple[Crops, MeanModel | None]]
    share: float
    key: int
    teacher: Distillation | None = None


def stages(
    model: Downscaler,
    crops: Crops,
    training: Training,
    folds: Sequence[MeanModel] = (),
    teacher: Distillation | None = None,
) -> list[Stage]:
    """What is trained, one after the other, and the share of the budget that each stage gets.

    Args:
        model: what is trained.
        crops: training crops.
        training: budget and settings.
        folds: mean networks, each to be trained without its fold of the crops.
        teacher: for a distillation, which trains the denoiser alone.
    """
    whole: list[tuple[Crops, MeanModel | None]] = [(crops, None)]
    if teacher is not None and model.denoiser is not None:
        return [Stage("distill", "distill", model.denoiser, whole, 1.0, DISTILL_KEY, teacher)]
    found = []
    sources = [(crops.fold(k, len(folds)), mean) for k, mean in enumerate(folds)] or whole
    if model.mean.trainable:
        share = 1.0 if model.deterministic else training.mean_share
        found = [Stage("mean", "mean", model.mean, whole, share / (1 + len(folds)), 0)]
        for k, mean in enumerate(folds):
            inside = [(crops.fold(k, len(folds), inside=False), mean)]
            found.append(Stage(f"mean of fold {k}", "mean", mean, inside, share / (1 + len(folds)), 2 + k))
    rest = 1 - training.mean_share if found else 1.0
    if model.denoiser is not None and training.joint and found:
        found.append(Stage("joint", "joint", nn.ModuleList([model.mean, model.denoiser]), whole, rest, 1))
    elif model.denoiser is not None:
        found.append(Stage("denoiser", "denoiser", model.denoiser, sources, rest, 1))
    if model.generator is not None:
        found.append(Stage("generator", "generator", model.generator, sources, rest, 1))
    if model.variance is None:
        return found
    # Last, for it is the variance about the mean network as it ends.
    share = training.variance_share if found else 1.0
    found = [replace(stage, share=stage.share * (1 - share)) for stage in found]
    return [*found, Stage("variance", "variance", model.variance, sources, share, VARIANCE_KEY)]


def fresh(network: Network) -> Network:
    """The same network with new weights, where its layers know how to draw them; layers that start at zero do again."""
    copied = copy.deepcopy(network)
    for module in copied.modules():
        reset = getattr(module, "reset_parameters", None)
        if reset is not None and any(bool(p.any()) for p in module.parameters(recurse=False)):
            reset()
    return copied
