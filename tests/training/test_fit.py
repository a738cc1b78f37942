"""Training: what it leaves behind, what it refuses, and that an interruption or a second run changes nothing."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from finescale.config.build import build_model
from finescale.config.load import load
from finescale.data.files import open_store
from finescale.data.writing import write
from finescale.downscaler import Downscaler
from finescale.errors import InputError
from finescale.model.batch import Inputs, Members
from finescale.training import loop
from finescale.training.checkpoint import NAME
from finescale.training.fit import fit, open_data, train
from finescale.training.sections import Training

Run = Callable[..., tuple[Downscaler, list[tuple[str, int]]]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """``run(settings, folder, stop_after=None)``: train, with a checkpoint a step, to the end or until it is killed.

    That is after step ``stop_after`` of all stages together. Returns the model and the steps done.
    """
    save = loop.save_checkpoint

    def run(settings: dict[str, Any], folder: Path, stop_after: int | None = None) -> tuple[Downscaler, list]:
        opened = open_data(settings)
        patches, valid = opened.crops()
        budget = Training(**settings["train"], checkpoint=0.0)
        torch.manual_seed(budget.seed)
        model = build_model(opened.told | settings)
        folder.mkdir(exist_ok=True)
        steps: list[tuple[str, int]] = []

        def note(*saved: Any) -> None:
            save(*saved)
            steps.append((saved[-1]["stage"], saved[-1]["step"]))
            if len(steps) == stop_after:
                raise KeyboardInterrupt

        monkeypatch.setattr(loop, "save_checkpoint", note)
        train(model, patches, valid, budget, folder)
        return model, steps

    return run


def test_fit_leaves_a_model_folder(config: Callable[..., Any], data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    model = fit(config(data), folder)
    assert {path.name for path in folder.iterdir()} == {"config.yaml", "weights.safetensors", "README.md", "log.jsonl"}
    card = (folder / "README.md").read_text()
    for words in ("rain at 1x4", "mm h-1", "rain.nc", "wavelet", "multiplicative", "Stage mean: 4 steps", "Licence"):
        assert words in card
    assert str(data.parent) not in card
    loaded, coarse = load(folder), torch.rand(1, 1, 1, 6, 5)
    assert torch.equal(
        loaded.sample(Inputs(coarse), Members(range(2))).fields, model.sample(Inputs(coarse), Members(range(2))).fields
    )
    assert not model.training and all(p.device.type == "cpu" for p in model.parameters())
    # Statistics come from the data: the transform's output and the latent are white.
    assert model.transform.parts[1].std != 1 and (model.latent.scale != 1).all()  # type: ignore[union-attr]


def test_two_runs_with_one_seed_are_equal(
    config: Callable[..., Any], equal: Callable[..., Any], data: Path, tmp_path: Path
) -> None:
    first, second = (fit(config(data), tmp_path / name) for name in "ab")
    equal(first, second, rtol=0, atol=0)
    other = fit(config(data, seed=1), tmp_path / "c")
    assert not torch.equal(other.denoiser.backbone.stem.weight, first.denoiser.backbone.stem.weight)  # type: ignore[union-attr,operator]


@pytest.mark.parametrize("stop_after", [2, 4, 5, 7], ids=lambda n: f"after {n} of 8 steps")
def test_a_resumed_run_equals_an_unbroken_one(
    config: Callable[..., Any],
    log: Callable[..., Any],
    equal: Callable[..., Any],
    run: Run,
    data: Path,
    tmp_path: Path,
    stop_after: int,
) -> None:
    """Interrupted within the mean's four steps, between the stages, and within the denoiser's."""
    settings = config(data)
    whole, steps = run(settings, tmp_path / "whole")
    assert steps == [(stage, n) for stage in ("mean", "denoiser") for n in (1, 2, 3, 4)]
    with pytest.raises(KeyboardInterrupt):
        run(settings, tmp_path / "broken", stop_after)
    assert (tmp_path / "broken" / NAME).is_file()
    torch.manual_seed(123)  # whatever the new process's random state
    resumed, rest = run(settings, tmp_path / "broken")
    assert rest == steps[stop_after:]
    equal(resumed, whole, rtol=0, atol=0)
    wanted, got = log(tmp_path / "whole"), log(tmp_path / "broken")
    assert wanted.keys() == got.keys()
    for key, row in wanted.items():
        assert (got[key]["valid"], got[key]["loss"]) == (row["valid"], row["loss"])


def test_fit_resumes_from_a_checkpoint(
    config: Callable[..., Any], equal: Callable[..., Any], run: Run, data: Path, tmp_path: Path
) -> None:
    whole = fit(config(data), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(config(data), tmp_path / "broken", 6)
    equal(fit(config(data), tmp_path / "broken"), whole, rtol=0, atol=0)
    assert not (tmp_path / "broken" / NAME).exists()


@pytest.mark.parametrize(
    ("changes", "best"),
    # The least loss is 0. Three seeds ended at 0.06 to 0.07 and at 0.42 to 0.53 of the first loss; rounding makes less
    # of a difference than another seed.
    [({"denoiser": "none"}, 0.25), ({"mean": "none", "latent": "pixel"}, 0.75)],
    ids=["mean", "denoiser"],
)
def test_the_loss_decreases(
    config: Callable[..., Any],
    log: Callable[..., Any],
    waves: Path,
    tmp_path: Path,
    changes: dict[str, Any],
    best: float,
) -> None:
    linear = {"transform": ["standardize"], "constraint": "none"}
    fit(config(waves, steps=80, batch=8, lr=3e-3, ema=0.9) | linear | changes, tmp_path / "model")
    losses = [row["valid"] for _, row in sorted(log(tmp_path / "model").items())]
    assert losses[-1] < best * losses[0]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])


@pytest.mark.parametrize(
    "changes", [{"mean": "interpolation"}, {"mean": "none"}, {"denoiser": "none"}], ids=lambda c: str(c)
)
def test_models_of_one_stage_get_the_whole_budget(
    config: Callable[..., Any], log: Callable[..., Any], data: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    model = fit(config(data) | changes, tmp_path / "model")
    stage = "mean" if "denoiser" in changes else "denoiser"
    assert max(log(tmp_path / "model")) == (stage, 8)
    assert model.sample(Inputs(torch.rand(1, 1, 1, 4, 4)), Members()).fields.isfinite().all()


def test_a_budget_in_minutes(
    config: Callable[..., Any], log: Callable[..., Any], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that goes on by 0.05 s at every look: both stages get half of the 3 s, and as many steps."""
    ticks = itertools.count()
    monkeypatch.setattr(Training, "now", lambda self: 0.05 * next(ticks))
    fit(config(data, steps=None, minutes=0.05), tmp_path / "model")
    last = dict(sorted(log(tmp_path / "model")))
    assert last.keys() == {"mean", "denoiser"} and 5 < last["mean"] <= 30
    assert abs(last["mean"] - last["denoiser"]) <= 1, "0.05 is no binary number"
    with pytest.raises(InputError, match="both 8 steps and 1 minutes"):
        fit(config(data, minutes=1), tmp_path / "other")


def test_training_data_may_have_gaps(config: Callable[..., Any], data: Path, tmp_path: Path) -> None:
    holes = open_store(data)["rain"].load()
    holes = holes.where(np.random.default_rng(0).random(holes.shape) > 0.03)
    holes[:, 8:16, 8:16] = np.nan
    write(holes.to_dataset(), tmp_path / "holes.nc")
    model = fit(
        config(tmp_path / "holes.nc") | {"data": {"path": str(tmp_path / "holes.nc"), "crop": 16, "min_valid": 0.5}},
        tmp_path / "model",
    )
    assert all(value.isfinite().all() for value in model.state_dict().values())


def test_folders_that_are_not_for_training(
    config: Callable[..., Any], equal: Callable[..., Any], data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    first = fit(config(data), folder)
    with pytest.raises(InputError, match=r"finished model.*--overwrite"):
        fit(config(data), folder)
    again = fit(config(data, seed=1), folder, overwrite=True)
    assert not torch.equal(again.denoiser.backbone.stem.weight, first.denoiser.backbone.stem.weight)  # type: ignore[union-attr,operator]
    equal(load(folder), again, rtol=0, atol=0)
    assert (folder / "log.jsonl").read_text().count('"stage": "mean", "step": 1,') == 1, "the old log is gone"
    foreign = tmp_path / "letters"
    foreign.mkdir()
    (foreign / "letter.txt").write_text("dear all")
    with pytest.raises(InputError, match="holds other files"):
        fit(config(data), foreign)
    with pytest.raises(InputError, match="is a file"):
        fit(config(data), data)
    empty = tmp_path / "empty"
    empty.mkdir()
    fit(config(data), empty)


def test_a_damaged_checkpoint_is_named(config: Callable[..., Any], run: Run, data: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(config(data), tmp_path / "broken", 6)
    checkpoint = tmp_path / "broken" / NAME
    checkpoint.write_bytes(checkpoint.read_bytes()[:-50])
    with pytest.raises(InputError, match=r"damaged.*--overwrite"):
        fit(config(data), tmp_path / "broken")


def test_overrides_and_wrong_data_are_told(config: Callable[..., Any], data: Path, tmp_path: Path) -> None:
    model = fit(config(data), tmp_path / "model", {"train.steps": 4, "process.steps": 2})
    assert model.config["train"]["steps"] == 4 and model.process.steps == 2
    for changes, message in (
        ({"data.variable": "snow"}, "the section variables names rain"),
        ({"variables.snow.units": "mm h-1"}, "no variable 'snow'"),
        ({"data.path": str(tmp_path / "none.nc")}, "does not exist"),
        ({"data.crop": 18}, "not divisible by the factor"),
        ({"data.crop": 512}, "smaller than the training crop"),
        ({"data.train": {"lon": [400, None]}}, "no cell has lon"),
        ({"train.stepz": 4}, r"train\.stepz.*did you mean 'steps'"),
        ({"variables.rain.units": "K"}, "mm h-1"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            fit(config(data), tmp_path / "wrong", changes)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "wrong").exists()


@pytest.mark.parametrize(
    ("how", "stages"),
    [
        ({"folds": 2, "steps": 18}, ["mean", "mean of fold 0", "mean of fold 1", "denoiser"]),
        ({"joint": True, "steps": 8}, ["mean", "joint"]),
    ],
)
def test_other_ways_to_train_two_networks(
    config: Callable[..., Any], run: Run, how: dict[str, Any], stages: list[str], data: Path, tmp_path: Path
) -> None:
    settings = config(data, **how)
    model, steps = run(settings, tmp_path / "whole")
    assert list(dict.fromkeys(stage for stage, _ in steps)) == stages
    before = build_model(settings).state_dict()
    changed = {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {"mean", "denoiser"} <= changed and set(model.state_dict()) == set(before)
    with pytest.raises(KeyboardInterrupt):
        run(settings, tmp_path / "parts", stop_after=len(steps) - 2)
    resumed, _ = run(settings, tmp_path / "parts")
    for name, value in model.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0, msg=name)


def test_folds_do_not_see_each_other(config: Callable[..., Any], data: Path) -> None:
    patches, _ = open_data(config(data)).crops()
    first, rest = patches.fold(0, 2), patches.fold(0, 2, inside=False)
    reach = patches.stride // 2
    assert len(first) and len(rest)
    assert (first.positions[:, 3] + 16 + reach).max() <= 32 <= (rest.positions[:, 3] - reach).min()


@pytest.mark.parametrize(
    ("stop_after", "keep"), [(None, "best"), (2, "best"), (6, "best"), (None, "last")], ids=lambda v: str(v)
)
def test_the_weights_with_the_least_validation_loss_are_kept(
    config: Callable[..., Any],
    run: Run,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop_after: int | None,
    keep: str,
) -> None:
    """Of averaged weights whose loss is made to be least after the third of four steps, resumed or not; or the last."""
    offer, there = loop.Best.offer, {}

    def third_is_best(self: loop.Best, network: torch.nn.Module, loss: float) -> None:
        row = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
        there[row["stage"], row["step"]] = {name: v.clone() for name, v in network.state_dict().items()}
        offer(self, network, float(abs(row["step"] - 3)))

    monkeypatch.setattr(loop.Best, "offer", third_is_best)
    settings = config(data, keep=keep)
    if stop_after is not None:
        with pytest.raises(KeyboardInterrupt):
            run(settings, tmp_path, stop_after)
    model, _ = run(settings, tmp_path)
    for stage, network in (("mean", model.mean), ("denoiser", model.denoiser)):
        for name, value in network.state_dict().items():
            torch.testing.assert_close(value, there[stage, 3 if keep == "best" else 4][name], rtol=0, atol=0)
    assert not torch.equal(there["mean", 3]["backbone.stem.weight"], there["mean", 4]["backbone.stem.weight"])
