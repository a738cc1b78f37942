"""A model from its folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from finescale.config.build import build_model
from finescale.config.document import read_yaml
from finescale.config.read import read_config
from finescale.config.shipped import absent, check, found
from finescale.data.extent import parse
from finescale.data.place import place
from finescale.downscaler import Downscaler
from finescale.errors import InputError

ABSURD = 1e6
"""A weight of a network that no training ends with; statistics in physical units may be larger."""


def load(model: str | Path, device: str | None = None) -> Downscaler:
    """Load a model folder (``config.yaml`` and ``weights.safetensors``); nothing in it is executed.

    Args:
        model: the folder that `finescale fit` wrote, or a URL of one; or the name of one that comes with the package
            (`finescale.config.shipped`).
        device: where the model works; None for CUDA where there is one.

    Raises:
        InputError: if the folder is missing, foreign, truncated, or its weights do not fit its configuration.

    Example:
        >>> import finescale
        >>> print(str(finescale.load("rain")).splitlines()[0])
        Downscaler of precipitation_rate in mm h-1
    """
    folder = found(model)
    for name in ("config.yaml", "weights.safetensors"):
        if not (folder / name).is_file():
            raise InputError(
                f"{folder} is not a finescale model: it has no {name} "
                f"(a model is the folder that `finescale fit` wrote){absent(folder)}"
            )
    check(folder)
    settings, weights = folder / "config.yaml", folder / "weights.safetensors"
    try:
        config = read_config(read_yaml(settings))
        parse(config.get("trained") or [], "section trained")  # what outputs carry on
        built = build_model(config)
    except InputError as error:
        raise InputError(str(error) if str(settings) in str(error) else f"{settings}: {error}") from error
    try:
        with safe_open(weights, "pt") as file:
            built.check_trained(file.metadata(), settings)
        state = load_file(weights)
        built.load_state_dict(state)
    except InputError:
        raise
    except Exception as error:
        # The first line of PyTorch's message names no key, the second one does.
        reason = " ".join([*str(error).splitlines(), ""][1].split()) or str(error)
        raise InputError(
            f"{weights} is truncated or not of this model ({reason[:90]}); copy or train it again"
        ) from error
    _checked(folder, state, {name for name, _ in built.named_parameters()})
    built.name = place(model).name or folder.resolve().name
    return built.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()


def _checked(folder: Path, state: Mapping[str, torch.Tensor], networks: set[str]) -> None:
    """Refuse weights that are not finite, or absurd in networks: what they make looks like a field and is none."""
    for name, value in state.items():
        most = float(value.abs().max()) if value.numel() and value.is_floating_point() else 0.0
        if not most <= (ABSURD if name in networks else torch.finfo(torch.float32).max):
            what = "values that are not finite" if not math.isfinite(most) else f"values of {most:.1g}"
            raise InputError(
                f"{folder / 'weights.safetensors'} holds {what} in {name}: the training failed or the file is damaged; "
                "copy or train it again"
            )
