"""The ``variables`` section of a configuration: what a model makes, where that is several fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finescale import constraints, transforms
from finescale.config.schema import call, construct, kind_of, part
from finescale.constraints import Constraint
from finescale.constraints.penalty import SoftPenalty
from finescale.constraints.per_variable import PerVariable as EachConstraint
from finescale.errors import InputError
from finescale.grids.factor import Factor
from finescale.transforms.per_variable import PerVariable

Part = str | dict[str, Any]


@dataclass(frozen=True)
class Variable:
    """One variable, under its name in the fine files: ``variables: {pr: {units: mm h-1}, tas: {units: K}}``.

    ``variables: [pr, tas]`` names them alone.

    What is None is that of the whole configuration, or of the files.

    Attributes:
        units: those that the model works in; files in others are converted.
        transform: a part or a list of parts, as in the section ``transform``.
        constraint: as in the section ``constraint``; none to leave the variable as it is sampled.
        coarse: its name in coarse files, where that is another one.
        standard_name: by which coarse files may call it too, written by the training.
        missing: the share of cells of the training data that are missing, written by the training.
    """

    units: str | None = None
    transform: Part | list[Part] | None = None
    constraint: Part | None = None
    coarse: str | None = None
    standard_name: str | None = None
    missing: str | None = None


def variables_of(config: Mapping[str, Any]) -> dict[str, Variable]:
    """What the model makes, by name; one variable without a name where the configuration does not say."""
    named = config.get("variables") or {"field": None}
    return {name: call(Variable, settings, f"variables.{name}") for name, settings in named.items()}


def transform_of(config: Mapping[str, Any], variables: Mapping[str, Variable]) -> transforms.Transform:
    """One chain of transforms, or one for each of several variables."""
    chains = []
    for name, variable in variables.items():
        where, spec = f"variables.{name}.transform", variable.transform
        if spec is None:
            where, spec = "transform", config.get("transform", "standardize")
        listed = spec if isinstance(spec, list | tuple) else [spec]
        parts = (part(transforms, one, f"{where}[{i}]", channels=1) for i, one in enumerate(listed))
        chains.append(transforms.Chain(*parts))
    return chains[0] if len(chains) == 1 else PerVariable(chains)


def constraint_of(
    config: Mapping[str, Any], variables: Mapping[str, Variable], factor: Factor
) -> Constraint | SoftPenalty | None:
    """The constraint of one variable, or one for each of several; None where there is none."""
    shared = config.get("constraint", "none")
    specs = {name: shared if one.constraint is None else one.constraint for name, one in variables.items()}
    kinds = [kind_of(spec) for spec in specs.values()]
    if all(kind == "none" for kind in kinds):
        return None
    if "penalty" in kinds:
        if any(spec != shared for spec in specs.values()):
            raise InputError("constraint: penalty is one for all variables: take it out of the section variables")
        penalty: SoftPenalty = construct({"penalty": SoftPenalty}, shared, "constraint", factor=factor)
        return penalty
    parts: list[Constraint | None] = []
    for name, spec in specs.items():
        where = "constraint" if variables[name].constraint is None else f"variables.{name}.constraint"
        parts.append(None if kind_of(spec) == "none" else part(constraints, spec, where, factor=factor))
    return parts[0] if len(parts) == 1 else EachConstraint(parts)
