"""The model card: what a model folder's README.md says."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from finescale.data.extent import parse
from finescale.downscaler import Downscaler
from finescale.training.sections import Training


def card(model: Downscaler, training: Training, folder: Path, crops: int) -> str:
    """The model card."""
    rows = list(_logged(folder / "log.jsonl"))
    last = {row["stage"]: row for row in rows}
    # The weights with the least loss are kept, or the last ones.
    kept = {stage: min(r["valid"] for r in rows if r["stage"] == stage) for stage in last}
    kept |= {stage: row["valid"] for stage, row in last.items() if training.keep == "last"}
    data = model.config.get("data", {})
    spent = {key: value for key, value in asdict(training).items() if value is not None}
    paths = data.get("path", [])
    names = [Path(path).name for path in ([paths] if isinstance(paths, str) else paths)]
    lines = [
        f"# finescale model: {', '.join(model.variables)} at {model.factors}",
        "",
        f"- Factor (time x space): {model.factors}",
        *(f"- Variable: {name} in {one.get('units')}" for name, one in model.variables.items()),
        *(f"- Predictor: {name} in {one.get('units', 'units of its own')}" for name, one in model.predictors.items()),
        f"- Training data: {', '.join(names)}, ranges {data.get('train')}, {crops} crops of {data.get('crop')} cells",
        *_trained(model),
        *_origin(model),
        f"- Parts: {', '.join(f'{part} {model.kinds[part]}' for part in ('mean', 'latent', 'constraint'))}",
        f"- Parameters: {', '.join(f'{n:,} in {part}' for part, n in model.parameters_by_part.items())}",
        f"- Training: {json.dumps(spent)}",
        *(f"- Stage {s}: {r['step']} steps, {r['seconds']} s, validation loss {kept[s]:.4f}" for s, r in last.items()),
        "- Licence: that of the training data applies to what is learned from them; not stated by this file.",
        "- Scores: run `finescale verify` on data kept aside; it says when the truth is among the training data.",
        "",
    ]
    return "\n".join(lines)


def _logged(log: Path) -> Iterator[dict[str, Any]]:
    """Rows of the log; lines that are none, as in a log that was damaged, cost no trained model its card."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    for line in lines:
        with suppress(ValueError, RecursionError):
            row = json.loads(line)
            if (
                isinstance(row, dict)
                and isinstance(row.get("stage"), str)
                and _numbers(row, "step", "seconds", "valid")
            ):
                yield row


def _numbers(row: Mapping[str, Any], *keys: str) -> bool:
    return all(isinstance(row.get(key), int | float) for key in keys)


def _trained(model: Downscaler) -> list[str]:
    """Where and when the training data lie."""
    return [f"- Trained on: {one.text}" for one in parse(model.trained, "the section trained")]


def _origin(model: Downscaler) -> list[str]:
    """What a model was distilled or started from."""
    started = model.config.get("started")
    first = [f"- Started from: {started.get('from')}, with its statistics; losses are before mixing"] if started else []
    origin = model.config.get("distilled")
    steps = f"for {model.process.steps} steps of sampling by default"
    return first + ([f"- Distilled from: {origin.get('from')}, {steps}"] if origin else [])
