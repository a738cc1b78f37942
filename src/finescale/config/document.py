"""YAML texts and plain values, bounded: what a configuration may be made of, whoever wrote it.

A text has at most a megabyte, 50 levels and 50 000 values, aliases counted as often as they stand for something, so
that neither deep nesting nor a "bomb" of aliases can fill the memory. Values are texts, numbers (not NaN), booleans,
null, lists, and mappings whose keys are texts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from finescale.errors import InputError, brief
from finescale.grids.factor import Factor

MOST_BYTES, MOST_LEVELS, MOST_VALUES = 2**20, 50, 50_000
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""That of libyaml, five times as fast, where PyYAML was built with it."""


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        InputError: for a file that cannot be read, is too large or no mapping; it is named.
    """
    with blamed(path):
        with Path(path).open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        try:
            found = parse(content.decode("utf-8-sig"), str(path))
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is not readable YAML: it is not text in UTF-8") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no configuration: expected sections such as data, factor, latent")
    return found


def parse(text: str, source: str) -> Any:
    """The plain value that a YAML text holds.

    Args:
        text: YAML.
        source: what errors call it.

    Raises:
        InputError: for a text that is no YAML, is too large, or holds what is not plain.
    """
    if len(text) > MOST_BYTES:
        raise InputError(f"{source} is larger than {MOST_BYTES // 2**20} MB: a configuration is a few lines")
    try:
        _check(text, source)
        return plain(yaml.load(text, Loader=LOADER), source)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{source} is not readable YAML: {' '.join(str(error).split())[:200]}") from error


def _check(text: str, source: str) -> None:
    """Count levels and values without making any."""
    sizes: dict[str, int | None] = {}  # by anchor; None inside of it
    open_: list[tuple[str | None, int]] = []
    count = 0
    for event in yaml.parse(text, Loader=LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor, count))
            if event.anchor:
                sizes[event.anchor] = None
            if len(open_) > MOST_LEVELS:
                raise InputError(f"{source} is nested deeper than {MOST_LEVELS} levels at {_place(event)}")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_.pop()
            if anchor:
                sizes[anchor] = count - before
        elif isinstance(event, yaml.AliasEvent):
            size = sizes.get(str(event.anchor), 1)
            if size is None:
                raise InputError(f"{source} refers to itself by *{event.anchor} at {_place(event)}")
            count += size
        if isinstance(event, yaml.NodeEvent):
            count += 1
        if count > MOST_VALUES:
            raise InputError(f"{source} holds more than {MOST_VALUES} values, aliases written out: shorten it")


def _place(event: yaml.Event) -> str:
    return "its start" if event.start_mark is None else f"line {event.start_mark.line + 1}"


def plain(value: Any, where: str) -> Any:
    """A copy of ``value`` of plain values alone; dates, paths, factors and NumPy's numbers become plain.

    Args:
        value: what a configuration holds.
        where: what errors call it: a file or a key.

    Raises:
        InputError: that names the key of what is not plain, NaN, or too much.
    """
    left = MOST_VALUES

    def walk(value: Any, at: str, level: int) -> Any:
        nonlocal left
        left -= 1
        if level > MOST_LEVELS or left < 0:
            raise InputError(f"{where} is nested deeper than {MOST_LEVELS} levels or holds over {MOST_VALUES} values")
        if isinstance(value, np.generic):
            value = str(value) if isinstance(value, np.datetime64) else value.item()
        if isinstance(value, Mapping):
            for key in value:
                if not isinstance(key, str):
                    raise InputError(f"{at}: the key {brief(key)} is not a text: write it in quotes, or leave it out")
            return {key: walk(item, f"{at}, key {key}" if at == where else f"{at}.{key}", level + 1)
                    for key, item in value.items()}  # fmt: skip
        if isinstance(value, list | tuple):
            return [walk(item, at, level + 1) for item in value]
        if isinstance(value, float) and math.isnan(value):
            raise InputError(f"{at} is {value}, but must be a number")
        if isinstance(value, int) and abs(value) >= 2**64:
            raise InputError(f"{at} is a number of {len(str(abs(value)))} digits, but must be below 2^64")
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, datetime) and value.tzinfo is not None:
            value = value.astimezone(UTC).replace(tzinfo=None)
        if isinstance(value, date):
            return value.isoformat()
        if isinstance(value, Path | Factor):
            return str(value)
        raise InputError(f"{at} is {brief(value)}, but must be text, a number, true, false, null, a list or a mapping")

    return walk(value, where, 0)


@contextmanager
def blamed(source: object) -> Iterator[None]:
    """Whatever goes wrong in reading, or in what is made of it, is told with the name of its source.

    Raises:
        InputError: in place of any other exception.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        if isinstance(error, OSError):
            raise InputError(f"{source} cannot be read: {error.strerror or reason}") from error
        raise InputError(f"{source} cannot be used: {reason or 'it fails'} ({type(error).__name__})") from error
