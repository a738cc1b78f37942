"""Going on from a trained model, on other data: the same parts, its weights and its statistics, a lower learning rate.

The statistics (the transform's, the latent's and those of the conditions) are kept: networks know no others, and a few
fields settle none. One is not: how smooth fine fields are, which networks are told at prediction, is that of the new
data. The model learns the range of factors that the configuration names, at most that of the start.

At the end of every stage the weights that it trains are

    (1 − α) θ₀ + α θ₁,

θ₀ the start's, θ₁ those that the training has made and α the mixing coefficient (WiSE-FT, Wortsman et al. 2022): most
of what the new data say, and little of what they make forget. An hour of light rain says nothing of heavy rain, and
neither does a validation on the same hour.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from finescale.config.build import build_model
from finescale.config.document import blamed
from finescale.config.load import load
from finescale.config.read import read_config
from finescale.config.shipped import found
from finescale.data.extent import merged, parse
from finescale.data.files import fields, gridded, open_store
from finescale.data.named import listed
from finescale.downscaler import Downscaler
from finescale.errors import InputError, brief
from finescale.grids.factor import Factor, Factors
from finescale.model.calibrated import Calibrated
from finescale.model.conditions import Conditions
from finescale.training.checkpoint import NAME, read_progress

OPEN = ("data", "train", "process", "constraint", "precision", "factor", "started", "variables", "trained")
"""Sections that may differ from the start's."""
OPEN_OF_GENERATOR = ("members", "score")
"""Settings of a generator that no weights belong to."""
DATA = ("path", "variable", "coarse", "static", "memory", "train", "valid", "balance", "skips")
"""Settings of the start's data that are not those of others."""
TRAIN = ("batch", "mean_share", "variance_share", "joint", "through", "ema", "clock")
"""Settings of the start's training that are kept."""
RATE, WARMUP = 0.3, 50
"""The learning rate, in that of the training that the start began with, and its warm-up."""
MIXING = 0.5
"""α, unless ``train.mixing`` says otherwise."""


class Start:
    """A model that a training goes on from.

    Args:
        source: its folder, URL or name; or a training that was interrupted.

    Raises:
        InputError: if there is none.
    """

    def __init__(self, source: str | Path) -> None:
        folder = found(source)
        checkpoint = (folder / NAME).is_file() and not (folder / "weights.safetensors").is_file()
        self.model = _interrupted(folder) if checkpoint else load(source, device="cpu")
        self.folder, self.name = folder.resolve(), folder.name

    def config(self, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """The start's configuration, without what is its own data's and training's, with overrides.

        Raises:
            InputError: for overrides of parts that weights make sense with alone, or factors beyond the start's.
        """
        base = {
            k: v for k, v in deepcopy(self.model.config).items() if k not in ("remembers", "calibrated", "distilled")
        }
        data, train = base.get("data") or {}, base.get("train") or {}
        base["data"] = {key: value for key, value in data.items() if key not in DATA}
        kept = {key: value for key, value in train.items() if key in TRAIN}
        # Of the first training: what was gentle once is not made gentler by every start from a start.
        first = (base.get("started") or {}).get("lr", train.get("lr", 1e-3))
        if not isinstance(first, int | float) or not 0 < first <= 1:
            raise InputError(f"{self.name} was trained with a learning rate that is none, {brief(first)}")
        base["train"] = kept | {"lr": float(f"{RATE * first:.3g}"), "warmup": WARMUP, "mixing": MIXING}
        base["started"] = {"from": self.name, "lr": first, "weights": fingerprint(self.model)}
        config = read_config(base, overrides)
        config["factor"] = self._factor(config["factor"])
        for section, value in config.items():
            other = None if section in OPEN else _another(section, value, self.model.config.get(section))
            if other:
                raise InputError(f"--set {other}: a model keeps the {other} of what it starts from, {self.name}")
        conditions = [vars(Conditions.of(one)) for one in (config, self.model.config)]
        told = [{key: one[key] for key in ("smoothness", "neighbours", "motion")} for one in conditions]
        if told[0] != told[1]:
            raise InputError(
                f"--set data: a model keeps the smoothing, neighbours and motion of what it starts from, {self.name}"
            )
        return config

    def _factor(self, wanted: Any) -> Any:
        """The factors as the start's networks take them."""
        ours, asked = self.model.factors, Factors.parse(wanted)
        if ours.single is not None:
            inside = asked.single == ours.single
        else:
            ends = [Factor(t, s) for t in asked.time for s in asked.space]
            inside = all(end in ours for end in ends)
        if not inside:
            raise InputError(f"--set factor: {self.name} serves {ours}, not {brief(wanted)}")
        if ours.single is not None:
            return str(ours.single)
        return {"time": list(asked.time), "space": list(asked.space)}

    def named(self, config: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration with the one variable as the user's files call it.

        Args:
            config: of `config`.
            given: datasets that are fine fields, by name; none of paths.
        """
        data, names = config["data"], list(self.model.variables)
        if len(names) != 1 or not (data.get("path") or given):
            return config
        called = data.pop("variable", None)
        if called is None:
            first = next(iter(given.values()), None)
            first = first if first is not None else open_store(fields(listed(data["path"]))[0], None)
            there = [str(name) for name in gridded(first)]
            called = names[0] if names[0] in there or len(there) != 1 else there[0]
        return config | {"variables": {called: self.model.config["variables"][names[0]]}}

    @property
    def calibrated(self) -> dict[str, Any]:
        """The section of what was measured that still holds: how long detail lives, not its spread."""
        lifetime = self.model.calibrated.lifetime
        return {} if lifetime is None else {"calibrated": Calibrated(lifetime=lifetime).plain()}

    def into(self, model: Downscaler) -> None:
        """Give a model of the same parts the start's weights and statistics."""
        state = {name: value for name, value in self.model.state_dict().items() if not name.startswith("masks.")}
        model.load_state_dict(state)

    @torch.no_grad()
    def mixed_into(self, model: Downscaler, part: nn.Module, mixing: float) -> None:
        """Bring the weights of a part of a model, which was trained from here, back towards the start's."""
        first, inside = dict(self.model.named_parameters()), set(map(id, part.parameters()))
        for name, parameter in model.named_parameters():
            if id(parameter) in inside:
                parameter.lerp_(first[name].to(parameter), 1 - mixing)

    def trained(self, told: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Where and when the data of both trainings lie."""
        both = [*parse(self.model.trained, f"the section trained of {self.name}"), *parse(told, "the data")]
        return [one.plain() for one in merged(both)]


def alone(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a training from nothing, where it may be that of a model that was started."""
    if "started" not in config:
        return config
    train = {key: value for key, value in config.get("train", {}).items() if key != "mixing"}
    return {key: value for key, value in config.items() if key != "started"} | {"train": train}


def fingerprint(model: Downscaler) -> str:
    """What tells a model's weights from others': a training that is resumed has to end between the same two."""
    found = hashlib.sha256()
    for parameter in model.parameters():
        found.update(parameter.detach().cpu().float().numpy().tobytes())
    return found.hexdigest()[:16]


def _another(section: str, settings: Any, first: Any) -> str | None:
    """The section, or the key of it, that is not as the start has it and has to be; None without."""
    if section != "generator" or not (isinstance(settings, Mapping) and isinstance(first, Mapping)):
        return None if settings == first else section
    keys = (settings.keys() | first.keys()) - set(OPEN_OF_GENERATOR)
    return next((f"{section}.{key}" for key in sorted(keys) if settings.get(key) != first.get(key)), None)


def _interrupted(folder: Path) -> Downscaler:
    """The model of a training that was interrupted, with the best of its averaged weights so far."""
    progress = read_progress(folder)
    assert progress is not None
    with blamed(folder / NAME):
        model = build_model(progress["config"])
        groups: dict[str, dict[str, Tensor]] = {}
        for name, value in load_file(folder / NAME).items():
            group, key = name.split(".", 1)
            groups.setdefault(group, {})[key] = value
        own = {key.removeprefix("model."): value for key, value in groups["model"].items() if key.startswith("model.")}
        model.load_state_dict(own)
        part = getattr(model, str(progress["stage"]), None)
        if part is not None and json.dumps(sorted(groups["best"])) == json.dumps(sorted(part.state_dict())):
            part.load_state_dict(groups["best"])
    return model.eval()
