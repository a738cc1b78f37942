"""Configurations: presets, YAML files, and what the recipe fills in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from finescale import latents
from finescale.config.document import MOST_LEVELS, blamed, plain, read_yaml
from finescale.config.recipe import recipe
from finescale.config.schema import as_mapping, part, validated
from finescale.errors import InputError, brief, nearest
from finescale.grids.factor import Factor, Factors

PRESETS = Path(__file__).parent / "presets"
Settings = dict[str, Any] | None
Part = str | dict[str, Any] | None
SECTIONS: dict[str, Any] = {
    "data": Settings,
    "factor": str | dict[str, Any],
    "recipe": Settings,
    "variables": dict[str, dict[str, Any] | None] | list[str] | None,
    "static": list[str] | None,
    "predictors": dict[str, dict[str, Any] | None] | None,
    "transform": str | dict[str, Any] | list[str | dict[str, Any]],
    "mean": Part,
    "latent": Part,
    "denoiser": Part,
    "generator": Settings,
    "variance": Part,
    "process": Settings,
    "constraint": Part,
    "precision": Literal["auto", "float32"],
    "train": Settings,
    "distilled": Settings,
    "started": Settings,
    "trained": list[dict[str, Any]] | None,
    "remembers": Settings,
    "calibrated": Settings,
}
"""What each section of a configuration looks like; what is in it, the constructors say."""
PARTS = ("mean", "latent", "constraint", "schedule", "sampler", "backbone")
"""Keys whose value may be a bare kind: ``latent: pixel`` is ``latent: {kind: pixel}``."""


def read_config(source: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A configuration from a mapping, a YAML file or a preset's name, with overrides.

    A configuration with ``preset: NAME`` starts from that preset. Overrides are ``{"a.b": value}`` or nested mappings;
    what they, or a file, say beyond its preset is merged: nested mappings key by key, but another ``kind`` replaces a
    part's section, and ``train.steps`` replaces ``train.minutes``, and the other way round.

    Raises:
        InputError: if there is no such file or preset, or a section is unknown (the nearest is named) or of a wrong
            shape.
    """
    with blamed("the configuration" if isinstance(source, Mapping) else source):
        config = _started(source)
        config = layered(config, _nested(overrides or {}, config))
        for section, value in config.items():
            if section not in SECTIONS:
                raise InputError(f"unknown configuration key {brief(section)}{nearest(section[:80], SECTIONS)}")
            validated(SECTIONS[section], value, section)
        if isinstance(config.get("variables"), list):  # names alone
            config["variables"] = dict.fromkeys(config["variables"])
        return advised(config) if "recipe" in config else config


def layered(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes``, which win; the merging rules are those of `read_config`."""
    merged, given = _merge(base, changes), changes.get("train")
    for chosen, other in (("steps", "minutes"), ("minutes", "steps")):
        if isinstance(given, Mapping) and given.get(chosen) is not None and given.get(other) is None:
            merged["train"] = {key: value for key, value in merged["train"].items() if key != other}
    return merged


def _started(source: str | Path | Mapping[str, Any], seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A source as it stands, with the preset that it starts from."""
    if isinstance(source, Mapping):
        config: dict[str, Any] = plain(source, "the configuration")
    else:
        path = _find(str(source)).resolve()
        if path in seen:
            raise InputError(f"{source} names itself as its preset; presets are {', '.join(presets())}")
        seen, config = (*seen, path), read_yaml(path)
    if "preset" not in config:
        return config
    name = config.pop("preset")
    if not isinstance(name, str):
        raise InputError(f"configuration key preset is {brief(name)}, but must be one of {', '.join(presets())}")
    return layered(_started(name, seen), config)


def _nested(overrides: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """``{"a.b": 1, "a.c": 2}`` as ``{"a": {"b": 1, "c": 2}}``, whatever their order."""
    changes: dict[str, Any] = {}
    for dotted, value in overrides.items():
        path = dotted.split(".") if isinstance(dotted, str) else [""]
        if "" in path or len(path) > MOST_LEVELS:
            raise InputError(f"--set {brief(dotted)} is not understood: write keys joined by dots, such as data.path")
        node: Any = config
        for key in path[:-1]:
            node = node.get(key)
            if node in (None, "none") or (isinstance(node, str) and key in PARTS):
                break
            if not isinstance(node, Mapping):
                raise InputError(f"--set {dotted}: {key} is {brief(node)}, which has no keys")
        value = plain(value, f"--set {dotted}")
        for key in reversed(path):
            value = {key: value}
        changes = _joined(changes, value)
    return changes


def _joined(first: Any, second: Any, key: str = "") -> Any:
    """What two overrides say together; of two that cannot both be, the second."""
    if key in PARTS and {type(first), type(second)} == {str, dict}:
        first, second = ({"kind": each} if isinstance(each, str) else each for each in (first, second))
    if not isinstance(first, dict) or not isinstance(second, dict):
        return second
    return first | {k: _joined(first[k], v, k) if k in first else v for k, v in second.items()}


def advised(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with what its ``recipe`` section (cadence, horizon) leaves open filled in.

    Filled in are data.frames (or data.horizon, for a range of factors), the amplitude of process.schedule, and power
    and tau of a tapered constraint; what is set stays.
    """
    config = dict(config)
    given = config.pop("recipe") or {}
    for key in given:
        if key not in ("cadence", "horizon"):
            raise InputError(f"unknown configuration key recipe.{key}{nearest(key, ('cadence', 'horizon'))}")
    factors = Factors.parse(config.get("factor", "1x8"))
    latent = as_mapping(config.get("latent", "pixel"))
    largest = factors.single or Factor(factors.time[1], factors.space[1])
    knobs = recipe(
        largest,
        given.get("cadence"),
        horizon=given.get("horizon"),
        stride=part(latents, latent, "latent", factor=largest).stride,
    )
    data, process = dict(config.get("data") or {}), dict(config.get("process") or {})
    if not {"frames", "horizon"} & set(data):
        data |= {"frames": knobs.context} if factors.single else {"horizon": knobs.context * largest.time}
    schedule, constraint = as_mapping(process.get("schedule", "edm")), as_mapping(config.get("constraint", "none"))
    amplitudes = {"edm": {"sigma_max": knobs.sigma_max}, "vp": {"beta_max": knobs.beta_max}}
    taper = {"power": knobs.power, "tau": knobs.tau} if constraint.get("kind") == "tapered" else {}
    process["schedule"] = amplitudes.get(str(schedule.get("kind")), {}) | schedule
    return config | {"data": data, "process": process, "constraint": taper | constraint}


def presets() -> list[str]:
    """Names of the presets."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def _find(source: str) -> Path:
    if Path(source).is_file():
        return Path(source)
    if source in presets():
        return PRESETS / f"{source}.yaml"
    raise InputError(
        f"there is no configuration file {source!r}, nor a preset of that name{nearest(source, presets())}"
    )


def _merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes win; a section that names another kind replaces the base's section whole."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if isinstance(value, Mapping) and isinstance(old, str) and old != "none" and key in PARTS:
            old = {"kind": old}
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            same = "kind" not in value or "kind" not in old or value["kind"] == old["kind"]
            value = _merge(old, value) if same else value
        merged[key] = value
    return merged
