"""Whatever stands in a configuration, it becomes a model or an InputError of one line."""

from __future__ import annotations

import resource
from collections.abc import Iterator, Mapping
from copy import deepcopy
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.hostile.mutations.values import KEYS, VALUES

from finescale.config import document
from finescale.config.build import build_model
from finescale.config.read import presets, read_config
from finescale.downscaler import Downscaler
from finescale.errors import InputError


def small(name: str) -> dict[str, Any]:
    """A preset with narrow networks."""
    config = read_config(name)
    for part in ("mean", "denoiser"):
        if isinstance(config[part], dict) and "backbone" in config[part]:
            config[part]["backbone"] |= {"width": 8} | ({"blocks": 1} if name == "conservative-cnn" else {})
    return config


PRESETS = {name: small(name) for name in presets()}


def paths(config: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key of a configuration, by the keys above it."""
    for key, value in config.items():
        yield (*above, key)
        if isinstance(value, Mapping):
            yield from paths(value, (*above, key))


PLACES = [(name, path) for name, config in PRESETS.items() for path in paths(config)]


def with_value(name: str, path: tuple[str, ...], value: object) -> dict[str, Any]:
    config = deepcopy(PRESETS[name])
    node = config
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return config


def outcome(config: Any, overrides: Any = None) -> Downscaler | str:
    """The model, or the one line of its error; any other exception fails the test."""
    try:
        return build_model(read_config(config, overrides))
    except InputError as error:
        said = str(error)
        assert said and "\n" not in said and len(said) <= 1000
        return said


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(PLACES), VALUES)
def test_any_value_at_any_key(place: tuple[str, tuple[str, ...]], value: object) -> None:
    outcome(with_value(*place, value))


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(PLACES), st.dictionaries(KEYS, VALUES, max_size=3))
def test_any_overrides(place: tuple[str, tuple[str, ...]], more: dict[Any, Any]) -> None:
    name, path = place
    outcome(PRESETS[name], more)
    outcome(PRESETS[name], {f"{'.'.join(path)}.{key}": value for key, value in more.items()})


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(VALUES, st.sampled_from(sorted(PRESETS)))
def test_any_file(tmp_path_factory: pytest.TempPathFactory, value: object, name: str) -> None:
    path = tmp_path_factory.mktemp("any") / "config.yaml"
    content = {"preset": name} | value if isinstance(value, dict) else value
    path.write_text(yaml.dump(content), encoding="utf-8")
    outcome(path)


@settings(max_examples=200)
@given(st.text(st.characters(codec="utf-8"), max_size=60) | st.text("{}[]&*!<>:-|?,'\"\n a1.%#\t", max_size=60))
@example("&a [*a]")
@example("a: &a {<<: *a}")
@example("? {a: 1}\n: 2")
def test_any_text(text: str) -> None:
    try:
        document.parse(text, "the text")
    except InputError as error:
        assert "\n" not in str(error) and "the text" in str(error)


@pytest.mark.parametrize(
    "bomb",
    [
        "a0: &a0 ["
        + "x, " * 9
        + "x]\n"
        + "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 15)),
        "[" * 100_000,
        "{a: " * 100_000,
        "- " * 100_000,
        "&a " * 100_000,
        "a: " + "9" * 900_000,
        "a: [" + "1, " * 200_000 + "]",
    ],
    ids=["aliases", "lists", "mappings", "blocks", "anchors", "digits", "values"],
)
def test_bombs_cost_little(bomb: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="the bomb"):
        document.parse(bomb, "the bomb")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18, "a quarter of a gigabyte"


def test_large_networks_are_refused_before_they_are_made(tiny: dict[str, Any]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    huge = tiny | {"denoiser": {"backbone": {"kind": "unet", "width": 4096, "multipliers": [1, 64]}}}
    with pytest.raises(InputError, match=r"denoiser\.backbone would have 2e\+12 numbers.*lower its width"):
        build_model(read_config(huge))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18, "a quarter of a gigabyte"


def test_what_becomes_plain() -> None:
    kept = document.plain(
        {"a": Path("x.nc"), "b": (1, 2.5), "c": date(2020, 1, 2), "d": datetime(2020, 1, 2, 3, tzinfo=UTC)}, "here"
    )
    assert kept == {"a": "x.nc", "b": [1, 2.5], "c": "2020-01-02", "d": "2020-01-02T03:00:00"}
    with pytest.raises(InputError, match=r"here, key a\.b: the key 1 is not a text"):
        document.plain({"a": {"b": {1: 2}}}, "here")
    with pytest.raises(InputError, match="here, key a is nan"):
        document.plain({"a": float("nan")}, "here")
