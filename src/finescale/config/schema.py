"""A part of a configuration and the class it names: the constructor is the schema.

``{kind: wavelet, levels: 2}`` names the class that a folder exports from ``wavelet.py``; unknown keys and wrong types
are errors that say what is allowed.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import ModuleType
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from finescale.errors import InputError, brief, nearest


def part(folder: ModuleType, spec: Any, where: str, **derived: Any) -> Any:
    """Build the class that ``folder`` exports from the file named ``spec["kind"]``, with its other keys as arguments.

    ``derived`` arguments are passed where the constructor takes them, and may not be configured.
    """
    return construct(classes_of(folder), spec, where, **derived)


def classes_of(folder: ModuleType) -> dict[str, type]:
    """The classes that a folder exports, by the names of their files."""
    exported = [getattr(folder, name) for name in folder.__all__]
    files = {cls.__module__.rsplit(".", 1)[-1]: cls for cls in exported if inspect.isclass(cls)}
    return {kind: cls for kind, cls in files.items() if kind not in ("base", "scheme")}


def construct(classes: Mapping[str, type], spec: Any, where: str, **derived: Any) -> Any:
    """Build ``classes[kind]`` from ``{"kind": kind, **arguments}``, or just the kind; its constructor is the schema."""
    kind = kind_of(spec)
    check_kind(kind, classes, where)
    arguments = {key: value for key, value in spec.items() if key != "kind"} if isinstance(spec, Mapping) else {}
    return call(classes[kind], arguments, where, **derived)


def check_kind(kind: Any, classes: Mapping[str, type], where: str) -> None:
    """Refuse a kind that is none of ``classes``."""
    if not isinstance(kind, str) or kind not in classes:
        raise InputError(f"{where}.kind is {brief(kind)}{nearest(str(kind)[:80], classes)}")


def call(cls: type, arguments: Any, where: str, **derived: Any) -> Any:
    """``cls(**arguments)`` after checking keys and types against its signature; None for no arguments.

    Raises:
        InputError: that names the key, the value and what is allowed; for any failure of the constructor too.
    """
    arguments = {} if arguments is None else arguments
    if not isinstance(arguments, Mapping):
        raise InputError(f"configuration key {where} is {brief(arguments)}, but must hold settings (key: value)")
    signature = inspect.signature(cls)
    hints = get_type_hints(cls.__init__, include_extras=True)  # type: ignore[misc]
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
    except InputError as error:
        if where.split(".")[0] in str(error):
            raise
        raise InputError(f"configuration section {where}: {error}") from error
    except Exception as error:
        # Sizes that only fail together, such as a kernel larger than what it acts on, fail inside of libraries.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"configuration section {where}: {reason}") from error


def validated(hint: Any, value: Any, where: str) -> Any:
    """``value`` as the type ``hint`` says, or an InputError that names the key; numbers are finite unless it says."""
    adapter: TypeAdapter[Any] = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False))
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"].lower()
        raise InputError(f"configuration key {where} is {brief(value)}: {reason}") from error


def kind_of(spec: Any) -> Any:
    """The kind that a part of a configuration names; ``none`` for None."""
    return spec.get("kind") if isinstance(spec, Mapping) else "none" if spec is None else spec


def as_mapping(spec: Any) -> dict[str, Any]:
    """``wavelet`` as ``{kind: wavelet}``."""
    return dict(spec) if isinstance(spec, Mapping) else {"kind": kind_of(spec)}
