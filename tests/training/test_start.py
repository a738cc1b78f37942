"""Going on from a trained model on other data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from scipy.ndimage import gaussian_filter

import finescale
from finescale.cli import main
from finescale.config.read import read_config
from finescale.data.synthetic import synthetic_rain
from finescale.downscaler import Downscaler
from finescale.errors import Interrupted
from finescale.model.calibrated import Calibrated
from finescale.training.start import MIXING, RATE, fingerprint

DATA: dict[str, Any] = {"crop": 32, "min_wet": 0.0, "smoothing": 1.0}


@pytest.fixture(scope="module")
def there(generating: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of one factor and of several, and fields that they have not seen, in other units under another name."""
    folder = tmp_path_factory.mktemp("start")
    train: dict[str, Any] = {"steps": 6, "minutes": None, "batch": 4, "lr": 1e-2}
    settings = generating | {"latent.side": 4, "data": DATA, "train": train}
    fine = synthetic_rain((4, 48, 64), seed=1)
    finescale.fit(read_config("one-step", settings), folder / "one", data=fine)
    one = finescale.load(folder / "one")
    one.calibrated = Calibrated(1.0, 1.4, lifetime=600.0)
    one.config["calibrated"] = one.calibrated.plain()
    one.save(folder / "one")
    many = settings | {"factor": {"time": [1, 2], "space": [2, 8]}}
    finescale.fit(read_config("one-step", many), folder / "many", data=fine)
    other = synthetic_rain((4, 48, 64), seed=2) / 3600
    other.attrs = {"units": "kg m-2 s-1", "standard_name": "rainfall_flux"}
    other.rename("pr").to_dataset().to_netcdf(folder / "mine.nc", engine="netcdf4")
    return folder


def words(there: Path, start: str, *sets: str) -> list[str]:
    pairs = [f"data.path={there / 'mine.nc'}", "train.steps=5", *sets]
    return ["fit", "--start", str(there / start), *(part for pair in pairs for part in ("--set", pair))]


def test_weights_and_statistics_are_the_starts_and_the_data_ones_own(there: Path, tmp_path: Path) -> None:
    assert main([*words(there, "one", "train.lr=1e-9"), "-o", str(tmp_path / "mine")]) == 0
    start, mine = finescale.load(there / "one"), finescale.load(tmp_path / "mine")
    for name, value in start.state_dict().items():
        if name == "conditions.usual":  # how smooth these fields are
            continue
        torch.testing.assert_close(mine.state_dict()[name], value, rtol=1e-4, atol=1e-6)
    assert mine.config["started"] == {"from": "one", "lr": 1e-2, "weights": fingerprint(start)}
    assert (
        list(mine.variables) == ["pr"]
        and mine.variables["pr"]["units"] == start.variables["precipitation_rate"]["units"]
    )
    assert len(mine.trained) >= 1 and mine.remembers != start.remembers
    assert mine.calibrated == Calibrated(lifetime=600.0)  # what was measured of the start's spread is no longer true
    assert "Started from: one" in (tmp_path / "mine" / "README.md").read_text()
    # It takes fields as the user has them.
    coarse = finescale.coarsen(there / "mine.nc", "1x4")
    made = mine.downscale(coarse, members=1)["pr"]
    assert made.attrs["units"] == "kg m-2 s-1"
    assert float(made.max()) < 0.1


@pytest.mark.parametrize("start", ["one", "many"])
def test_networks_are_told_how_smooth_the_new_fields_are(there: Path, tmp_path: Path, start: str) -> None:
    rain = synthetic_rain((4, 48, 64), seed=2)
    smooth = rain.copy(data=gaussian_filter(rain.values, (0, 1.5, 1.5)))
    smooth.to_dataset().to_netcdf(tmp_path / "smooth.nc", engine="netcdf4")
    sets = (f"data.path={tmp_path / 'smooth.nc'}", "train.steps=1")
    assert main([*words(there, start, *sets), "-o", str(tmp_path / "mine")]) == 0
    before, mine = finescale.load(there / start), finescale.load(tmp_path / "mine")
    wanted = mine.smoothness_of(torch.from_numpy(smooth.values)[None, None].float())
    assert wanted is not None and float(wanted) > float(before.conditions.usual) + 0.2
    assert float(mine.conditions.usual) == pytest.approx(float(wanted), abs=0.1)


def test_usual_smoothness_is_of_crops_as_they_are_drawn(there: Path, tmp_path: Path) -> None:
    """A few rough fields and many smooth ones, of which training draws as many."""
    rain = synthetic_rain((8, 48, 64), seed=3) + 1  # wet everywhere, so that every crop has an exponent
    rain.attrs["units"] = "mm h-1"
    rough, smooth = rain[-1:], rain[:7].assign_coords(y=rain.y + 1e5)  # of another place: fields of their own
    smooth = smooth.copy(data=gaussian_filter(smooth.values, (0, 1.5, 1.5)))
    for name, rain in (("rough", rough), ("smooth", smooth)):
        rain.to_dataset().to_netcdf(tmp_path / f"{name}.nc", engine="netcdf4")

    def usual(*files: str, balance: float) -> float:
        paths = ",".join(str(tmp_path / f"{name}.nc") for name in files)
        sets = (f"data.path=[{paths}]", "train.steps=1", "data.favour=0", f"data.balance={balance}")
        assert main([*words(there, "one", *sets), "--overwrite", "-o", str(tmp_path / "mine")]) == 0
        return float(finescale.load(tmp_path / "mine").conditions.usual)

    apart = [usual(name, balance=0) for name in ("rough", "smooth")]
    both = usual("rough", "smooth", balance=1)
    assert apart[1] > apart[0] + 0.2 and both == pytest.approx(sum(apart) / 2, abs=0.03)
    assert usual("rough", "smooth", balance=0) > both + 0.05


def test_training_goes_on_from_the_start_and_more_gently(there: Path, tmp_path: Path) -> None:
    assert main([*words(there, "one"), "-o", str(tmp_path / "mine")]) == 0
    config = yaml.safe_load((tmp_path / "mine" / "config.yaml").read_text())
    assert config["train"]["lr"] == pytest.approx(RATE * 1e-2) and config["train"]["steps"] == 5
    assert config["data"]["crop"] == 32 and config["data"]["path"] == str(there / "mine.nc")
    start, mine = finescale.load(there / "one"), finescale.load(tmp_path / "mine")
    moved = max(float((b - a).abs().max()) for a, b in zip(start.parameters(), mine.parameters(), strict=True))
    assert 0 < moved < 5 * RATE * 1e-2 * 5
    assert torch.equal(start.latent.scale, mine.latent.scale)
    again = [
        "fit",
        "--start",
        str(tmp_path / "mine"),
        "--set",
        f"data.path={there / 'mine.nc'}",
        "--set",
        "train.steps=1",
    ]
    assert main([*again, "-o", str(tmp_path / "again")]) == 0  # as gently as once, not more
    assert yaml.safe_load((tmp_path / "again" / "config.yaml").read_text())["train"]["lr"] == config["train"]["lr"]


def test_a_start_whose_learning_rate_is_none_is_refused(
    there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(there / "one", tmp_path / "odd")
    text = (tmp_path / "odd" / "config.yaml").read_text()
    (tmp_path / "odd" / "config.yaml").write_text(text + "started: {from: one, lr: fast}\n")
    assert main([*words(tmp_path, "odd"), "-o", str(tmp_path / "mine")]) == 2
    assert "learning rate that is none, 'fast'" in capsys.readouterr().err


def test_a_start_of_many_factors_may_serve_fewer(there: Path, tmp_path: Path) -> None:
    model = tmp_path / "mine"
    assert main([*words(there, "many", "factor=1x4"), "-o", str(model)]) == 0
    mine = finescale.load(model)
    assert mine.factor == finescale.Factor(1, 4)  # the only one: none has to be named
    coarse = finescale.coarsen(there / "mine.nc", "1x4")
    coarse.to_netcdf(tmp_path / "coarse.nc")
    assert (
        main(["downscale", str(model), str(tmp_path / "coarse.nc"), "-o", str(tmp_path / "o.nc"), "--members", "1"])
        == 0
    )


@pytest.mark.parametrize(
    ("start", "pair", "said"),
    [
        ("one", "factor=1x8", "serves 1x4"),
        ("many", "factor=3x4", "serves 1-2 in time"),
        ("one", "generator.width=16", "keeps the generator.width of"),
        ("one", "transform=standardize", "keeps the transform"),
        ("one", "data.neighbours=1", "keeps the smoothing, neighbours"),
        ("one", "data.smoothing=0", "keeps the smoothing, neighbours"),
        ("absent", "data.crop=32", "not a finescale model"),
    ],
)
def test_what_the_weights_do_not_allow_is_refused(
    there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], start: str, pair: str, said: str
) -> None:
    assert main([*words(there, start, pair), "-o", str(tmp_path / "mine")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("mixing", [None, 0.0, 0.25])
def test_weights_are_mixed_with_the_starts(there: Path, tmp_path: Path, mixing: float | None) -> None:
    mixed = [] if mixing is None else [f"train.mixing={mixing}"]
    assert main([*words(there, "one", "train.mixing=1"), "-o", str(tmp_path / "whole")]) == 0
    assert main([*words(there, "one", *mixed), "-o", str(tmp_path / "mine")]) == 0
    first, whole, mine = (finescale.load(path) for path in (there / "one", tmp_path / "whole", tmp_path / "mine"))
    share = MIXING if mixing is None else mixing
    ends = zip(first.named_parameters(), whole.parameters(), mine.parameters(), strict=True)
    for (name, a), b, found in ends:
        torch.testing.assert_close(found, (1 - share) * a + share * b, rtol=1e-4, atol=1e-6, msg=name)
    pairs = zip(first.parameters(), whole.parameters(), strict=True)
    assert 0 < MIXING < 1 and any(not torch.equal(*pair) for pair in pairs)


def test_stages_begin_where_those_before_have_ended(tiny: dict[str, Any], head: dict[str, Any], tmp_path: Path) -> None:
    """What comes after learns what the mixed mean network leaves: with α of 0 the mean network is the start's."""
    fine = synthetic_rain((4, 32, 32), seed=1).rename("rain")
    train = {"steps": 6, "batch": 2, "lr": 1e-2}
    first = finescale.fit(
        tiny | {"variance": head, "data": {"crop": 16}, "train": train}, tmp_path / "first", data=fine
    )
    before = {name: value.clone() for name, value in first.state_dict().items()}
    seen: dict[str, list[torch.Tensor]] = {}
    loss = Downscaler.loss

    def watched(model: Downscaler, kind: str, *args: Any, **context: Any) -> torch.Tensor:
        seen.setdefault(kind, []).append(next(model.mean.parameters()).detach().clone())
        return loss(model, kind, *args, **context)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Downscaler, "loss", watched)
        changes = {"train.steps": 9, "train.mixing": 0}
        mine = finescale.fit(None, tmp_path / "mine", changes, data=fine, start=tmp_path / "first")
    weight = next(first.mean.parameters())
    assert set(seen) == {"mean", "denoiser", "variance"} and not torch.equal(seen["mean"][-1], weight)
    assert all(torch.equal(one, weight) for kind in ("denoiser", "variance") for one in seen[kind])
    for name, value in mine.named_parameters():
        torch.testing.assert_close(value, before[name])


def test_a_training_goes_on_from_the_start_that_it_began_with(
    there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from finescale.training import loop

    shutil.copytree(there / "one", tmp_path / "one")
    save = loop.save_checkpoint

    def stopping(*arguments: Any) -> None:
        save(*arguments)
        raise Interrupted(15)

    command = [*words(tmp_path, "one", "train.checkpoint=0"), "-o", str(tmp_path / "mine")]
    command[command.index(f"data.path={tmp_path / 'mine.nc'}")] = f"data.path={there / 'mine.nc'}"
    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", stopping)
        assert main(command) == 143
    other = finescale.load(tmp_path / "one")
    with torch.no_grad():
        next(other.parameters()).add_(1.0)
    other.save(tmp_path / "one")
    assert main(command) == 2  # between weights of two trainings
    assert "begun with another started" in capsys.readouterr().err
    assert main([*command[:-1], str(tmp_path / "one"), "--overwrite"]) == 2
    assert "is the model to start from" in capsys.readouterr().err
    assert (tmp_path / "one" / "weights.safetensors").is_file()


def test_a_started_models_configuration_trains_from_nothing(there: Path, tmp_path: Path) -> None:
    assert main([*words(there, "one"), "-o", str(tmp_path / "mine")]) == 0
    assert main(["fit", str(tmp_path / "mine" / "config.yaml"), "-o", str(tmp_path / "anew")]) == 0
    assert "started" not in finescale.load(tmp_path / "anew").config


def test_without_a_start_there_is_nothing_to_mix_with(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = there / "none"
    sets = [f"data.path={there / 'mine.nc'}", "factor=1x4", "train.mixing=0.5"]
    assert main(["fit", "one-step", "-o", str(out), *(word for pair in sets for word in ("--set", pair))]) == 2
    assert "no start to mix with" in capsys.readouterr().err and not out.exists()


def test_what_is_minimised_may_be_another(there: Path, tmp_path: Path) -> None:
    weights = []
    for sides in ("[]", "[8]"):
        changes = (f"generator.score.directions={sides}", "generator.members=3")
        assert main([*words(there, "one", *changes), "--overwrite", "-o", str(tmp_path / "mine")]) == 0
        weights.append(finescale.load(tmp_path / "mine").state_dict()["generator.centre.weight"])
    config = yaml.safe_load((tmp_path / "mine" / "config.yaml").read_text())
    assert config["generator"]["score"]["directions"] == [8] and config["generator"]["members"] == 3
    assert not torch.equal(*weights)


def test_one_source_of_a_model_is_named(there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "one-step", "--start", str(there / "one"), "-o", str(tmp_path / "m")]) == 2
    assert "one of" in capsys.readouterr().err
    assert main(["fit", "-o", str(tmp_path / "m")]) == 2


def test_an_interrupted_training_goes_on_and_may_be_a_start_itself(
    there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finescale.training import loop

    whole = words(there, "one", "train.steps=8", "train.checkpoint=0")
    assert main([*whole, "-o", str(tmp_path / "whole")]) == 0
    save, count = loop.save_checkpoint, [0]

    def stopping(*arguments: Any) -> None:
        save(*arguments)
        count[0] += 1
        if count[0] == 4:
            raise Interrupted(15)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", stopping)
        assert main([*whole, "-o", str(tmp_path / "parts")]) == 143
    assert not (tmp_path / "parts" / "weights.safetensors").exists()
    other = ["fit", "--start", str(tmp_path / "parts"), "-o", str(tmp_path / "third")]
    assert (
        main([*other, "--set", f"data.path={there / 'mine.nc'}", "--set", "train.steps=2", "--set", "train.lr=1e-9"])
        == 0
    )
    third = finescale.load(tmp_path / "third")
    start = finescale.load(there / "one")
    moved = max(float((b - a).abs().max()) for a, b in zip(start.parameters(), third.parameters(), strict=True))
    assert moved > 1e-5
    assert main([*whole, "-o", str(tmp_path / "parts")]) == 0
    states = [finescale.load(tmp_path / name).state_dict() for name in ("whole", "parts")]
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-4, atol=1e-5)
    last = [json.loads(line) for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()][-1]
    assert last["step"] == 8 and np.isfinite(last["valid"])
