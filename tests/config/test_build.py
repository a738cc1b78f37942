"""From configurations to models: what is understood, and what is refused with a line that helps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from finescale.config.build import build_model
from finescale.config.load import load
from finescale.config.read import presets, read_config
from finescale.errors import InputError
from finescale.latents import Lapped
from finescale.model.batch import Inputs, Members


@pytest.mark.parametrize("native", [False, True], ids=["float32", "bfloat16"], indirect=True)
@pytest.mark.parametrize("name", presets())
def test_presets_build_and_sample(name: str, native: bool) -> None:
    small: dict[str, Any] = {"denoiser.backbone.width": 8, "process.steps": 2}
    if name == "conservative-cnn":
        small = {"mean.backbone": {"kind": "edsr", "width": 8, "blocks": 2}}
    if name == "one-step":
        small = {"generator.backbone.width": 8}
    model = build_model(read_config(name, small))
    coarse = torch.rand(1, 1, 1, 8, 8)
    t, y, x = model.factor
    fine = model.sample(Inputs(coarse), Members(range(2))).fields
    assert fine.shape == (1, 2, 1, t, 8 * y, 8 * x) and fine.isfinite().all() and fine.dtype == torch.float32


def test_a_configuration_may_start_from_a_preset() -> None:
    config = read_config({"preset": "wavelet", "latent": {"side": 8}, "constraint": "additive"}, {"factor": "1x10"})
    model = build_model(config)
    assert isinstance(model.latent, Lapped) and model.latent.stride == (1, 8, 8) and str(model.factor) == "1x10"
    assert type(model.constraint).__name__ == "Additive"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latent": {"kind": "wavelet", "lvels": 2}}, r"latent\.lvels.*did you mean 'levels'"),
        ({"latent": {"kind": "wavelet", "levels": 4}}, r"latent\.levels is 4.*1, 2 or 3"),
        ({"latent": {"kind": "wavelet", "frames": 0}}, r"latent\.frames is 0.*greater than or equal to 1"),
        ({"latent": "wavlet"}, "did you mean 'wavelet'"),
        ({"latnet": "pixel"}, "did you mean 'latent'"),
        ({"constraint": "multiplicitive"}, "did you mean 'multiplicative'"),
        ({"transform": [{"kind": "log1p", "scale": -1}]}, r"transform\[0\]\.scale is -1.*greater than 0"),
        ({"transform": [{"kind": "log1p", "scale": "big"}]}, r"transform\[0\]\.scale is 'big'"),
        ({"process": {"sampler": "huen"}}, "did you mean 'heun'"),
        ({"process": {"stepz": 3}}, "did you mean 'steps'"),
        ({"latent": "pixel", "process": {"tv": 1e-5}}, "which this latent does not have"),
        ({"process": {"tv": -1.0}}, r"process\.tv\.strength is -1\.0.*greater than 0"),
        ({"process": {"tv": {"strength": 1e-5, "relable": True}}}, r"process\.tv\.relable.*did you mean 'reliable'"),
        ({"process": {"noise": "schedule"}}, "vp or vp_sde"),
        ({"mean": {"kind": "netwrk"}}, "did you mean 'network'"),
        ({"factor": "eight"}, "TIMExSPACE"),
        ({"denoiser": {"backbone": {"kind": "unet", "wdth": 3}}}, "did you mean 'width'"),
    ],
)
def test_what_is_wrong_is_named(tiny: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        build_model(read_config(tiny | changes))
    assert "\n" not in str(caught.value)


def test_files_and_overrides_that_are_wrong(tiny: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'wavelet'"):
        read_config("wavelt")
    (tmp_path / "broken.yaml").write_text("a: [1,")
    with pytest.raises(InputError, match="not readable YAML"):
        read_config(tmp_path / "broken.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(InputError, match="no configuration"):
        read_config(tmp_path / "list.yaml")
    with pytest.raises(InputError, match="factor is '1x4', which has no keys"):
        read_config(tiny, {"factor.time": 3})


def test_a_saved_model_gives_the_same_output(tiny: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build_model(tiny).eval()
    model.transform.fit([torch.rand(4, 1, 1, 16, 16) * 5])
    model.latent.fit([torch.randn(4, 1, 1, 16, 16)])
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    model.save(tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"config.yaml", "weights.safetensors"}
    loaded, coarse = load(tmp_path / "model"), torch.rand(1, 1, 1, 4, 6)
    assert torch.equal(
        loaded.sample(Inputs(coarse), Members(range(3), seed=5)).fields,
        model.sample(Inputs(coarse), Members(range(3), seed=5)).fields,
    )


def test_damaged_and_foreign_folders(tiny: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no config\.yaml"):
        load(tmp_path)
    model = build_model(tiny)
    model.save(tmp_path / "model")
    weights = tmp_path / "model" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match="truncated"):
        load(tmp_path / "model")
    model.save(tmp_path / "model")
    (tmp_path / "model" / "config.yaml").write_text(yaml.safe_dump(tiny | {"latent": {"kind": "wavelet", "levels": 2}}))
    with pytest.raises(InputError, match=r"latent is .*trained with"):
        load(tmp_path / "model")
    (tmp_path / "model" / "config.yaml").write_text("!!python/object/apply:os.system ['true']")
    with pytest.raises(InputError, match="not readable YAML"):
        load(tmp_path / "model")


def test_the_recipe_fills_in_what_is_left_open() -> None:
    config = read_config("space-time", {"factor": "2x10"})
    assert "recipe" not in config and config["data"]["frames"] == 6 and config["process"]["persistent"]
    assert config["process"]["schedule"]["sigma_max"] == 10.0
    faithful = read_config("scale-adaptive", {"constraint.tau": 0.5})
    assert faithful["process"]["schedule"]["beta_max"] == pytest.approx(0.02) and faithful["data"]["frames"] == 4
    assert faithful["constraint"] == {"kind": "tapered", "scope": "block", "power": 1.0, "tau": 0.5}
    horizon = {"recipe": {"cadence": "10min", "horizon": "3h"}, "data.crop": 125}
    many = read_config("space-time", {"factor": {"time": [1, 6], "space": [1, 25]}} | horizon)
    assert many["data"]["horizon"] == 18
    assert many["process"]["schedule"]["sigma_max"] == pytest.approx(2 * (3750 / 16) ** 0.5)
    with pytest.raises(InputError, match="did you mean 'cadence'"):
        read_config("space-time", {"recipe.cadense": "1h"})
