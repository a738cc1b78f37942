"""Configurations: presets, YAML files, and what the recipe fills in."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from finescale import latents
from finescale.config.recipe import recipe
from finescale.config.schema import as_mapping, part
from finescale.errors import InputError, nearest
from finescale.grids.factor import Factor, Factors

PRESETS = Path(__file__).parent / "presets"
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
    "variance",
    "process",
    "constraint",
    "precision",
    "train",
    "distilled",
)


def read_config(source: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A configuration from a mapping, a YAML file or a preset's name, with ``{"a.b": value}`` overrides.

    A configuration with ``preset: NAME`` starts from that preset.

    Raises:
        InputError: if there is no such file or preset, or a section is unknown (the nearest is named).
    """
    config = deepcopy(dict(source)) if isinstance(source, Mapping) else read_yaml(_find(str(source)))
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
    taper = {"power": knobs.power, "tau": knobs.tau} if constraint["kind"] == "tapered" else {}
    process["schedule"] = amplitudes.get(schedule["kind"], {}) | schedule
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


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds."""
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
