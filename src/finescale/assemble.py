"""From a configuration to a model: the only place that names concrete classes and derives dimensions.

``latent: {kind: wavelet, levels: 2}`` names the class that ``finescale/latents/wavelet.py`` exports; the class's
constructor is the schema: unknown keys and wrong types are errors that say what is allowed.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import torch
import yaml
from pydantic import ConfigDict, PositiveInt, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from finescale import backbones, constraints, latents, mean, samplers, transforms
from finescale.conditions import SCALARS
from finescale.diffusion import EDM, VP, Denoiser, Schedule, ScheduleNoise, TrainingNoise
from finescale.downscaler import Downscaler, Process
from finescale.errors import InputError, nearest
from finescale.grid import Factor, Factors
from finescale.recipe import recipe

PRESETS = Path(__file__).parent / "presets"
EMBEDDING = 64
SECTIONS = (
    "data",
    "factor",
    "recipe",
    "variable",
    "static",
    "transform",
    "mean",
    "latent",
    "denoiser",
    "process",
    "constraint",
    "precision",
    "train",
)


def read_config(source: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A configuration from a mapping, a YAML file or a preset's name, with ``{"a.b": value}`` overrides.

    A configuration with ``preset: NAME`` starts from that preset.

    Raises:
        InputError: if there is no such file or preset, or a section is unknown (the nearest is named).
    """
    config = deepcopy(dict(source)) if isinstance(source, Mapping) else _read_yaml(_find(str(source)))
    if "preset" in config:
        config = _merge(read_config(str(config.pop("preset"))), config)
    for dotted, value in (overrides or {}).items():
        *path, last = dotted.split(".")
        node = config
        for key in path:
            child = node.setdefault(key, {})
            if not isinstance(child, dict):
                raise InputError(f"--set {dotted}: {key} is {child!r}, which has no keys")
            node = child
        node[last] = value
    for section in config:
        if section not in SECTIONS:
            raise InputError(f"unknown configuration key {section!r}{nearest(section, SECTIONS)}")
    return advised(config) if "recipe" in config else config


def advised(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with what its ``recipe`` section (cadence, horizon) leaves open filled in.

    Filled in are data.frames (or data.horizon, for a range of factors), the amplitude of process.schedule, power and
    tau of a tapered constraint, and a wavelet level in time where the factor in time is even; what is set stays.
    """
    config = dict(config)
    given = config.pop("recipe") or {}
    for key in given:
        if key not in ("cadence", "horizon"):
            raise InputError(f"unknown configuration key recipe.{key}{nearest(key, ('cadence', 'horizon'))}")
    factors = Factors.parse(config.get("factor", "1x8"))
    latent = _spec(config.get("latent", "pixel"))
    if latent["kind"] == "wavelet" and factors.single is not None and factors.time[0] % 2 == 0:
        latent.setdefault("time_levels", 1)
    largest = factors.single or Factor(factors.time[1], factors.space[1])
    knobs = recipe(
        largest, given.get("cadence"), horizon=given.get("horizon"), stride=part(latents, latent, "latent").stride
    )
    data, process = dict(config.get("data") or {}), dict(config.get("process") or {})
    if not {"frames", "horizon"} & set(data):
        data |= {"frames": knobs.context} if factors.single else {"horizon": knobs.context * largest.time}
    schedule, constraint = _spec(process.get("schedule", "edm")), _spec(config.get("constraint", "none"))
    amplitude = {"beta_max": knobs.beta_max} if schedule["kind"] == "vp" else {"sigma_max": knobs.sigma_max}
    taper = {"power": knobs.power, "tau": knobs.tau} if constraint["kind"] == "tapered" else {}
    process["schedule"] = amplitude | schedule
    return config | {"data": data, "latent": latent, "process": process, "constraint": taper | constraint}


def _spec(spec: Any) -> dict[str, Any]:
    """``wavelet`` as ``{kind: wavelet}``."""
    return dict(spec) if isinstance(spec, Mapping) else {"kind": _kind(spec)}


def presets() -> list[str]:
    """Names of the presets."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def build(config: Mapping[str, Any]) -> Downscaler:
    """Assemble an untrained model.

    Raises:
        InputError: naming the key, the value and what is allowed.
    """
    factors = Factors.parse(config.get("factor", "1x8"))
    scalars = 0 if factors.single is not None else SCALARS
    channels = 1
    transform = transforms.Chain(
        *(
            part(transforms, spec, f"transform[{i}]", channels=channels)
            for i, spec in enumerate(_listed(config, "transform", ["standardize"]))
        )
    )
    fields = 2 * channels + 1 + len(config.get("static") or [])
    latent = part(latents, config.get("latent", "pixel"), "latent", channels=channels)
    denoiser_spec = config.get("denoiser", {})
    denoiser = None
    if denoiser_spec not in (None, "none"):
        network = _backbone(
            denoiser_spec,
            "denoiser",
            channels=latent.channels + (fields + channels) * math.prod(latent.stride),
            out_channels=latent.channels,
            embedding=EMBEDDING + scalars,
        )
        denoiser = Denoiser(network, EMBEDDING)
    constraint_spec = config.get("constraint", "none")
    constraint = (
        None
        if _kind(constraint_spec) == "none"
        else part(constraints, constraint_spec, "constraint", factor=factors.single or Factor())
    )
    return Downscaler(
        factors,
        transform,
        _mean(config.get("mean", "interpolation"), fields, channels, scalars),
        latent,
        denoiser,
        _process(config.get("process") or {}),
        constraint,
        dict(config),
    )


def load(folder: str | Path, device: str | None = None) -> Downscaler:
    """Load a model folder (``config.yaml`` and ``weights.safetensors``); nothing in it is executed.

    Args:
        folder: what `finescale fit` wrote.
        device: where the model works; None for CUDA where there is one.

    Raises:
        InputError: if the folder is missing, foreign, truncated, or its weights do not fit its configuration.
    """
    folder = Path(folder)
    for name in ("config.yaml", "weights.safetensors"):
        if not (folder / name).is_file():
            raise InputError(
                f"{folder} is not a finescale model: it has no {name} "
                "(a model is the folder that `finescale fit` wrote)"
            )
    model = build(read_config(_read_yaml(folder / "config.yaml")))
    try:
        state = load_file(folder / "weights.safetensors")
        model.load_state_dict(state)
    except (SafetensorError, RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{folder / 'weights.safetensors'} is truncated or not of this model ({reason}); copy or train it again"
        ) from error
    return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()


def part(folder: ModuleType, spec: Any, where: str, **derived: Any) -> Any:
    """Build the class that ``folder`` exports from the file named ``spec["kind"]``, with its other keys as arguments.

    ``derived`` arguments are passed where the constructor takes them, and may not be configured.
    """
    classes = {
        cls.__module__.rsplit(".", 1)[-1]: cls
        for name in folder.__all__
        if inspect.isclass(cls := getattr(folder, name))
    }
    classes = {kind: cls for kind, cls in classes.items() if kind != "base"}
    return construct(classes, spec, where, **derived)


def construct(classes: Mapping[str, type], spec: Any, where: str, **derived: Any) -> Any:
    """Build ``classes[kind]`` from ``{"kind": kind, **arguments}``, or just the kind; its constructor is the schema."""
    kind = _kind(spec)
    if kind not in classes:
        raise InputError(f"{where}.kind is {kind!r}{nearest(str(kind), classes)}")
    arguments = {key: value for key, value in spec.items() if key != "kind"} if isinstance(spec, Mapping) else {}
    return call(classes[kind], arguments, where, **derived)


def call(cls: type, arguments: Mapping[str, Any], where: str, **derived: Any) -> Any:
    """``cls(**arguments)`` after checking keys and types against its signature."""
    signature = inspect.signature(cls)
    hints = get_type_hints(cls.__init__)  # type: ignore[misc]
    derived = {key: value for key, value in derived.items() if key in signature.parameters}
    checked = {}
    for key, value in arguments.items():
        free = [name for name in signature.parameters if name not in derived]
        if key not in free:
            raise InputError(f"unknown configuration key {where}.{key}{nearest(key, free)}")
        checked[key] = validated(hints.get(key, Any), value, f"{where}.{key}")
    for key, parameter in signature.parameters.items():
        if parameter.default is parameter.empty and key not in checked and key not in derived:
            raise InputError(
                f"configuration key {where}.{key} is missing (on the command line: --set {where}.{key}=...)"
            )
    try:
        return cls(**checked, **derived)
    except InputError:
        raise
    except (ValueError, TypeError) as error:
        raise InputError(f"configuration section {where}: {error}") from error


def validated(hint: Any, value: Any, where: str) -> Any:
    """``value`` as the type ``hint`` says, or an InputError that names the key."""
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint)
    except PydanticSchemaGenerationError:
        adapter = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise InputError(f"configuration key {where} is {value!r}: {error.errors()[0]['msg'].lower()}") from error


def _mean(spec: Any, fields: int, channels: int, scalars: int) -> mean.MeanModel:
    kinds = {"none": mean.Zero, "interpolation": mean.Interpolation, "network": mean.Network}
    if _kind(spec) != "network":
        return construct(kinds, spec, "mean", channels=channels)
    spec = dict(spec) if isinstance(spec, Mapping) else {"kind": spec}
    cells = validated(PositiveInt, spec.get("fold", 4), "mean.fold") ** 2
    backbone = _backbone(spec, "mean", channels=fields * cells, out_channels=channels * cells, embedding=scalars)
    spec.pop("backbone", None)
    return construct(kinds, spec, "mean", channels=channels, backbone=backbone)


def _backbone(spec: Mapping[str, Any], where: str, **derived: Any) -> nn.Module:
    if not isinstance(spec, Mapping):
        raise InputError(f"configuration key {where} is {spec!r}, but must hold a backbone, such as {{backbone: unet}}")
    for key in spec:
        if key not in ("backbone", "kind", "fold"):
            raise InputError(f"unknown configuration key {where}.{key}{nearest(key, ('backbone',))}")
    network: nn.Module = part(backbones, spec.get("backbone", "unet"), f"{where}.backbone", **derived)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _process(spec: Mapping[str, Any]) -> Process:
    allowed = ("schedule", "noise", "sampler", "steps")
    for key in spec:
        if key not in allowed:
            raise InputError(f"unknown configuration key process.{key}{nearest(key, allowed)}")
    schedule = construct({"edm": EDM, "vp": VP}, spec.get("schedule", "edm"), "process.schedule")
    return Process(
        schedule=schedule,
        noise=_noise(spec.get("noise", {}), schedule),
        sampler=part(samplers, spec.get("sampler", "dpm"), "process.sampler"),
        steps=validated(PositiveInt, spec.get("steps", 12), "process.steps"),
    )


def _noise(spec: Any, schedule: Schedule) -> TrainingNoise | ScheduleNoise:
    """Noise levels of training: log-normal (its mean and std), or ``schedule``, those of the sampling schedule."""
    if spec != "schedule":
        return call(TrainingNoise, spec, "process.noise")
    if not isinstance(schedule, VP):
        raise InputError("process.noise: schedule needs process.schedule.kind: vp, which has discrete levels")
    return ScheduleNoise(schedule)


def _kind(spec: Any) -> Any:
    return spec.get("kind") if isinstance(spec, Mapping) else "none" if spec is None else spec


def _listed(config: Mapping[str, Any], key: str, default: list[Any]) -> list[Any]:
    value = config.get(key, default)
    return list(value) if isinstance(value, list | tuple) else [value]


def _find(source: str) -> Path:
    if Path(source).is_file():
        return Path(source)
    if source in presets():
        return PRESETS / f"{source}.yaml"
    raise InputError(
        f"there is no configuration file {source!r}, nor a preset of that name{nearest(source, presets())}"
    )


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not readable YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no configuration: expected sections such as data, factor, latent")
    return content


def _merge(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes win; a section that names another kind replaces the base's section whole."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        same = (
            isinstance(old, dict)
            and isinstance(value, Mapping)
            and value.get("kind", old.get("kind")) == old.get("kind")
        )
        merged[key] = _merge(old, value) if same else value  # type: ignore[arg-type]
    return merged
