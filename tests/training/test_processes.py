"""Trainings that several processes share, as torchrun starts them: two, over gloo, by the real command."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.torch import load_file

from finescale.cli import main

SCRIPT = """
import json, os, signal, sys
from pathlib import Path
import torch
from finescale.cli import main
from finescale.training import crops

torch.set_num_threads(1)
# Whatever is ignored where the tests run: a shell ignores SIGINT for what it starts in the background.
signal.signal(signal.SIGTERM, signal.SIG_DFL)
rank, steps = int(os.environ["RANK"]), 0
{prelude}
sys.exit(max(main(words) for words in json.loads(sys.argv[1])))
"""
AT_STEP = """
step = torch.optim.Adam.step

def counted(self, *arguments, **settings):
    global steps
    steps += 1
    if steps == 3 and rank == 1:
        {what}
    return step(self, *arguments, **settings)

torch.optim.Adam.step = counted
"""
FULL = """
write = Path.write_bytes

def full(path, content):
    if rank == 0 and "checkpoint" in path.name:
        raise OSError(28, os.strerror(28), str(path))
    return write(path, content)

Path.write_bytes = full
"""
UNREADABLE = """
draw = crops.Crops.draw

def unreadable(self, count, *key, **settings):
    if rank == 1 and key[-1] == 2:
        raise OSError(5, os.strerror(5), "rain.nc")
    return draw(self, count, *key, **settings)

crops.Crops.draw = unreadable
"""
NAN = AT_STEP.format(what="[p.data.fill_(torch.nan) for group in self.param_groups for p in group['params']]")

Torchrun = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def torchrun(tmp_path_factory: pytest.TempPathFactory) -> Torchrun:
    """``torchrun(commands, prelude="")``: command lines, one after the other, in two processes of one thread."""

    def run(commands: list[list[str]], prelude: str = "") -> subprocess.CompletedProcess[str]:
        script = tmp_path_factory.mktemp("torchrun") / "script.py"
        script.write_text(SCRIPT.format(prelude=prelude))
        # Ten minutes to end in, so that nothing hangs on how busy the machine is.
        words = [
            "--standalone",
            "--nproc-per-node",
            "2",
            "--shutdown-timeout",
            "600",
            str(script),
            json.dumps(commands),
        ]
        return subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", *words],
            capture_output=True,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    return run


def said(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What finescale said on stderr, but for progress bars; torchrun says more."""
    return re.findall(r"finescale: .*", done.stderr)


def rows(folder: Path) -> list[dict[str, Any]]:
    """The log but for the time."""
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


@pytest.fixture(scope="module")
def gaps(stored: Callable[[np.ndarray, Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rain of which three quarters are missing in one half: crops have a quarter of their cells, or all."""
    values = np.random.default_rng(0).gamma(2.0, 1.0, (4, 48, 64))
    values[:, :, 32:][:, np.arange(48) % 4 != 0] = np.nan
    return stored(values, tmp_path_factory.mktemp("gaps") / "rain.nc")


STEPS, RATE = 12, 1e-3
SETTINGS: dict[str, dict[str, Any]] = {
    "stages": {"train": {"folds": 2, "variance_share": 0.3}, "process": {"tv": 1e-4}},
    "joint": {"train": {"joint": True}, "data": {"favour": 1.0, "weighted": True}},
    "penalty": {"denoiser": "none", "constraint": {"kind": "penalty", "weight": 0.1}},
    "generator": {
        "mean": "interpolation",
        "latent": {"kind": "lapped", "side": 4},
        "denoiser": "none",
        "generator": {"backbone": {"kind": "unet", "width": 8, "multipliers": [1, 1], "blocks": 1}, "width": 8},
        "constraint": {"kind": "smooth", "least": 0.05},
    },
}


@pytest.fixture(scope="module")
def trained(
    config: Callable[..., Any],
    head: dict[str, Any],
    gaps: Path,
    torchrun: Torchrun,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder with every training by one process (``stages-1``) and by two, twice (``stages-2``, ``stages-again``)."""
    folder, lines = tmp_path_factory.mktemp("trained"), []
    for name, changes in SETTINGS.items():
        settings = config(gaps, steps=STEPS, lr=RATE)
        for key, value in changes.items():
            settings[key] = settings[key] | value if key in ("train", "data", "process") else value
        if name == "stages":
            settings["variance"] = head
        settings["data"] |= {"min_valid": 0.2}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(settings))
        lines.append((name, ["fit", str(folder / f"{name}.yaml")]))
    # All pupils have one teacher.
    teacher = ["fit", "--distill", str(folder / "joint-1"), "--set", f"train.steps={STEPS}", "--set", "train.batch=4"]
    lines.append(("distill", teacher))
    for name, words in lines:
        assert main([*words, "-o", str(folder / f"{name}-1")]) == 0
    two = [[*words, "-o", str(folder / f"{name}-2")] for name, words in lines]
    again = [[*words, "-o", str(folder / f"{name}-again")] for name, words in lines]
    done = torchrun([*two, *again])
    assert done.returncode == 0 and not said(done), done.stderr
    return folder


@pytest.mark.parametrize("name", [*SETTINGS, "distill"])
def test_two_processes_learn_what_one_does(trained: Path, name: str) -> None:
    """Losses of every step and validation, and weights; a second run of the two has the same bits.

    Sums of n ≤ 4 · 16² cells in float32 round to n · 6e-8 = 6e-5 of the sum of their magnitudes at worst: losses agree
    to twice that. In a gradient positive and negative terms cancel, say to a hundredth: its error is 6e-3 of it. Adam
    moves a weight by the ratio of gradients, at most the rate a step: weights agree to steps · rate · 6e-3 = 7e-5.
    """
    one, two = (rows(trained / f"{name}-{n}") for n in "12")
    assert [(row["stage"], row["step"]) for row in two] == [(row["stage"], row["step"]) for row in one]
    for key in ("loss", "valid"):
        np.testing.assert_allclose([row[key] for row in two], [row[key] for row in one], rtol=1.2e-4)
    weights = [load_file(trained / f"{name}-{n}" / "weights.safetensors") for n in "12"]
    assert weights[0].keys() == weights[1].keys()
    for key, value in weights[0].items():
        np.testing.assert_allclose(weights[1][key], value, rtol=6e-5, atol=STEPS * RATE * 6e-3, err_msg=key)
    for file in ("weights.safetensors", "config.yaml"):
        assert (trained / f"{name}-again" / file).read_bytes() == (trained / f"{name}-2" / file).read_bytes()
    assert {path.name for path in (trained / f"{name}-2").iterdir()} == {
        "config.yaml",
        "weights.safetensors",
        "README.md",
        "log.jsonl",
    }


@pytest.mark.parametrize("target", ["os.getpid()", "os.getppid()"], ids=["one process", "torchrun"])
def test_all_end_at_the_step_of_a_signal_and_go_on(trained: Path, torchrun: Torchrun, target: str) -> None:
    """…which one process alone may have heard, with one line; two go on to the bits of an unbroken run, one to it."""
    folder = trained / ("rank" if "pp" not in target else "torchrun")
    words = ["fit", str(trained / "joint.yaml"), "-o", str(folder)]
    done = torchrun([words], AT_STEP.format(what=f"os.kill({target}, signal.SIGTERM)"))
    assert done.returncode != 0
    (line,) = said(done)
    assert re.search(
        r"interrupted; step \d+ of training mean is saved; .*torchrun --nproc-per-node 2 -m finescale fit", line
    )
    assert not (folder / "weights.safetensors").exists()
    if "pp" not in target:  # it hears of both ends; after a signal of its own it tells of none
        assert len(re.findall(r"exitcode +: 143", done.stderr)) == 2 and "step 3 of" in line
        assert torchrun([words]).returncode == 0
        weights = [(trained / name / "weights.safetensors").read_bytes() for name in ("rank", "joint-2")]
        assert weights[0] == weights[1] and rows(folder) == rows(trained / "joint-2")
    else:
        assert main(words) == 0
        np.testing.assert_allclose(
            [row["valid"] for row in rows(folder)], [row["valid"] for row in rows(trained / "joint-1")], rtol=1.2e-4
        )


@pytest.mark.parametrize(
    ("prelude", "words"),
    [
        (FULL, "the disk is full; the last checkpoint is kept"),
        (UNREADABLE, "rain.nc cannot be used"),
        (NAN, "the loss of training mean is nan at step 4: lower train.lr"),
        # The other may notice itself, or be ended by torchrun before.
        (
            AT_STEP.format(what="os.kill(os.getpid(), signal.SIGKILL)"),
            r"another process of this training has ended|interrupted; ",
        ),
    ],
    ids=["full disk", "unreadable file", "nan", "killed"],
)
def test_one_that_fails_ends_all_with_one_line(
    trained: Path, torchrun: Torchrun, tmp_path: Path, prelude: str, words: str
) -> None:
    command = ["fit", str(trained / "joint.yaml"), "-o", str(tmp_path / "model"), "--set", "train.checkpoint=0"]
    done = torchrun([command], prelude)
    assert done.returncode != 0
    (line,) = said(done)
    assert re.search(words, line) and not (tmp_path / "model" / "weights.safetensors").exists()


def test_a_batch_that_cannot_be_shared_is_refused(trained: Path, torchrun: Torchrun, tmp_path: Path) -> None:
    done = torchrun([["fit", str(trained / "joint.yaml"), "-o", str(tmp_path / "model"), "--set", "train.batch=5"]])
    assert done.returncode != 0 and len(said(done)) == 1 and "--set train.batch=4 or 6" in said(done)[0]
    assert not (tmp_path / "model").exists()
