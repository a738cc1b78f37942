"""Stages of training and their shares of the budget."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from finescale.config.build import build_model
from finescale.training.fit import open_data
from finescale.training.sections import Training
from finescale.training.stages import stages


def test_stages_and_their_shares(head: dict[str, Any], config: Callable[..., Any], data: Path) -> None:
    settings = config(data) | {"variance": head}
    patches, _ = open_data(settings).crops()

    def shares(**changes: Any) -> dict[str, float]:
        training = Training(steps=8, mean_share=0.25, variance_share=0.2, **changes.pop("training", {}))
        model = build_model(settings | changes)
        return {stage.name: round(stage.share, 6) for stage in stages(model, patches, training)}

    assert shares() == {"mean": 0.2, "denoiser": 0.6, "variance": 0.2}
    assert shares(training={"joint": True}) == {"mean": 0.2, "joint": 0.6, "variance": 0.2}
    assert shares(denoiser="none") == {"mean": 0.8, "variance": 0.2}
    assert shares(denoiser="none", mean="interpolation") == {"variance": 1.0}
    assert shares(variance=None) == {"mean": 0.25, "denoiser": 0.75}
