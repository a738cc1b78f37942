"""Training state on disk: one safetensors file, written under a temporary name and renamed: whole or absent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load as deserialized
from safetensors.torch import save as serialized
from torch import Tensor, nn

from finescale.config.document import blamed
from finescale.data.atomic import atomic, explained
from finescale.errors import InputError

NAME = "checkpoint.safetensors"
KEPT = "; the last checkpoint is kept: mend that, and the same command goes on from there"
"""What to do after a write of a training failed."""


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    average: nn.Module,
    best: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: dict[str, Any],
) -> None:
    """Write model, moving average, best weights, optimizer and ``progress`` (plain numbers and strings).

    Raises:
        InputError: if the disk is full or the folder may not be written; the checkpoint before is kept.
    """
    tensors: dict[str, Tensor] = {}
    for group, module in (("model", model), ("average", average), ("best", best)):
        tensors |= {f"{group}.{name}": value for name, value in module.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": torch.as_tensor(value) for key, value in state.items()}
    contents = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    with explained(folder / NAME, KEPT), atomic(folder / NAME) as temporary:
        temporary.write_bytes(serialized(contents, {"progress": json.dumps(progress)}))


def read_progress(folder: Path) -> dict[str, Any] | None:
    """The ``progress`` of the folder's checkpoint; None where there is none.

    Raises:
        InputError: if the checkpoint is damaged.
    """
    if not (folder / NAME).is_file():
        return None
    try:
        with safe_open(folder / NAME, "pt") as file:
            progress: dict[str, Any] = json.loads((file.metadata() or {})["progress"])
        if not isinstance(progress["config"], dict) or not isinstance(progress["stage"], str):
            raise ValueError("no progress")
        return progress
    except Exception as error:
        raise InputError(
            f"{folder / NAME} is damaged; delete it or pass --overwrite to train from the start"
        ) from error


def load_checkpoint(
    path: Path,
    content: bytes,
    model: nn.Module,
    average: nn.Module,
    best: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Take back what `save_checkpoint` wrote.

    Args:
        path: where it was written, for what is said of errors.
        content: of that file.
        model, average, best, optimizer: as in `save_checkpoint`.

    Raises:
        InputError: if it is that of other networks.
    """
    with blamed(path):
        _load(content, model, average, best, optimizer)


def _load(
    content: bytes, model: nn.Module, average: nn.Module, best: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    groups: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "best": {}, "optimizer": {}}
    for name, value in deserialized(content).items():
        group, key = name.split(".", 1)
        groups[group][key] = value
    for group, module in (("model", model), ("average", average), ("best", best)):
        module.load_state_dict(groups[group])
    if groups["optimizer"]:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        states: dict[int, dict[str, Tensor]] = {}
        for name, value in groups["optimizer"].items():
            index, key = name.split(".", 1)
            like = parameters[int(index)]
            # Fused optimizers walk weights and moments side by side in memory: a file's contiguous moments next to
            # channels-last weights would be those of other weights.
            moment = torch.empty_like(like, dtype=value.dtype).copy_(value) if value.shape == like.shape else value
            states.setdefault(int(index), {})[key] = moment
        optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
