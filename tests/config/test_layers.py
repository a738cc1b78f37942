"""What a preset, a file and overrides say together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import finescale
from finescale.cli import main
from finescale.config.read import read_config
from finescale.errors import InputError


def test_nested_mappings_are_merged_in_python(data: Path, tmp_path: Path) -> None:
    """…and what they do not name stays as the preset has it."""
    narrow = {"backbone": {"width": 8, "multipliers": [1, 1]}}
    model = finescale.fit(
        "wavelet",
        tmp_path / "model",
        {
            "data": {"path": str(data), "crop": 32},
            "train": {"steps": 2, "batch": 2},
            "mean": narrow,
            "denoiser": narrow,
        },
    )
    assert model.config["data"] == {
        "crop": 32, "min_valid": 0.95, "min_wet": 0.05, "wet": 0.1, "favour": 0.5, "rescale": 0.4, "smoothing": 1.5,
        "path": str(data),
    }  # fmt: skip
    assert model.config["train"] == {"batch": 2, "steps": 2}
    assert model.config["mean"]["fold"] == 4 and model.config["mean"]["backbone"]["kind"] == "unet"


def test_nested_mappings_are_merged_on_the_command_line(data: Path, tmp_path: Path) -> None:
    words = ["data={path: " + str(data) + ", crop: 16}", "train={steps: 1, batch: 1}", "mean=interpolation",
             "denoiser={backbone: {width: 8, multipliers: [1, 1]}}", "process.schedule={sigma_max: 5}"]  # fmt: skip
    out = tmp_path / "model"
    assert main(["fit", "wavelet", "-o", str(out), *(word for pair in words for word in ("--set", pair))]) == 0
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["data"]["min_wet"] == 0.05 and config["data"]["crop"] == 16
    assert config["denoiser"] == {"backbone": {"kind": "unet", "width": 8, "multipliers": [1, 1]}}
    assert config["process"]["schedule"] == {"kind": "edm", "sigma_max": 5, "sigma_min": 0.02, "rho": 7}


PROCESS = {
    "schedule": {"kind": "edm", "sigma_max": 20, "sigma_min": 0.02, "rho": 7},
    "noise": {"mean": -0.4, "std": 1.2},
    "sampler": "dpm",
    "steps": 8,
}
"""Of the preset `wavelet`."""


@pytest.mark.parametrize(
    ("overrides", "section", "wanted"),
    [
        ({"process": {"steps": 4}}, "process", PROCESS | {"steps": 4}),
        ({"process.steps": 4}, "process", PROCESS | {"steps": 4}),
        ({"latent.side": 8}, "latent", {"kind": "lapped", "side": 8}),
        ({"latent": {"kind": "lapped", "side": 8}}, "latent", {"kind": "lapped", "side": 8}),
        ({"constraint": {"kind": "smooth", "rounds": 2}}, "constraint", {"kind": "smooth", "least": 0.05, "rounds": 2}),
        # another kind, another section
        ({"latent": {"kind": "patch_pod"}}, "latent", {"kind": "patch_pod"}),
        ({"latent.kind": "pixel"}, "latent", {"kind": "pixel"}),
        ({"latent.modes": 4, "latent.kind": "patch_pod"}, "latent", {"kind": "patch_pod", "modes": 4}),
        ({"latent.kind": "patch_pod", "latent.modes": 4}, "latent", {"kind": "patch_pod", "modes": 4}),
        ({"latent.modes": 4, "latent": "patch_pod"}, "latent", {"kind": "patch_pod", "modes": 4}),
        ({"latent": "pixel"}, "latent", "pixel"),
        ({"denoiser.backbone.kind": "vit"}, "denoiser", {"backbone": {"kind": "vit"}}),
        ({"constraint.kind": "bounded"}, "constraint", {"kind": "bounded"}),
        ({"denoiser": "none"}, "denoiser", "none"),
        # one of steps and minutes
        ({"train.steps": 5}, "train", {"steps": 5, "batch": 16}),
        ({"train": {"steps": 5}}, "train", {"steps": 5, "batch": 16}),
        ({"train.minutes": 5}, "train", {"minutes": 5, "batch": 16}),
        ({"train.minutes": None, "train.steps": 5}, "train", {"steps": 5, "batch": 16}),
        ({"train.minutes": 1, "train.steps": 5}, "train", {"minutes": 1, "steps": 5, "batch": 16}),
    ],
)
def test_overrides_of_a_preset(overrides: dict[str, Any], section: str, wanted: object) -> None:
    assert read_config("wavelet", overrides)[section] == wanted


def test_bare_names_are_kinds() -> None:
    wanted = {"kind": "multiplicative", "scope": "frame"}
    assert read_config("space-time", {"constraint.scope": "frame"})["constraint"] == wanted
    assert read_config("space-time", {"constraint.kind": "bounded"})["constraint"] == {"kind": "bounded"}


def test_the_later_of_steps_and_minutes_wins(tmp_path: Path) -> None:
    """A file's over its preset's, and the command line's over the file's; overrides may come in any order."""
    (tmp_path / "steps.yaml").write_text("preset: wavelet\ntrain: {steps: 5}")
    assert read_config(tmp_path / "steps.yaml")["train"] == {"steps": 5, "batch": 16}
    assert read_config(tmp_path / "steps.yaml", {"train.minutes": 1})["train"] == {"batch": 16, "minutes": 1}


def test_presets_in_a_circle_are_told(tmp_path: Path) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / f"{name}.yaml").write_text(f"preset: {tmp_path / other}.yaml")
    with pytest.raises(InputError, match="names itself as its preset"):
        read_config(tmp_path / "a.yaml")


def test_what_is_given_is_left_as_it_is() -> None:
    given = {"preset": "wavelet", "data": {"path": "x.nc", "crop": 16}}
    overrides = {"data": {"crop": 32}}
    config = read_config(given, overrides)
    config["data"]["crop"] = 64
    assert given == {"preset": "wavelet", "data": {"path": "x.nc", "crop": 16}} and overrides == {"data": {"crop": 32}}
