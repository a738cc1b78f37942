"""Trainings interrupted as a user's are: by a signal, in a process of their own, and the same command again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from finescale.cli import main

INTERRUPTED = """
import os, signal, sys
import torch
from finescale.cli import main
from finescale.training import loop

# Told so as the tests are, or MKL takes as many threads as it likes, and sums come in another order.
torch.set_num_threads({threads})
# Whatever is ignored where the tests run: a shell ignores SIGINT for what it starts in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
save, count = loop.save_checkpoint, 0

def save_and_signal(*arguments):
    global count
    save(*arguments)
    count += 1
    if count == {after}:
        os.kill(os.getpid(), {number})

loop.save_checkpoint = save_and_signal
sys.exit(main({arguments}))
"""


def rows(folder: Path) -> list[dict[str, Any]]:
    """The log but for the time."""
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


@pytest.mark.parametrize(
    ("number", "after"),
    [(signal.SIGKILL, 3), (signal.SIGKILL, 7), (signal.SIGTERM, 5), (signal.SIGINT, 2)],
    ids=lambda value: getattr(value, "name", f"step {value} of 8"),
)
def test_the_same_command_goes_on(
    config: Callable[..., Any], data: Path, tmp_path: Path, number: signal.Signals, after: int
) -> None:
    """Weights, the log, and so which weights were kept, are those of an unbroken run, to the bit."""
    settings = config(data)
    settings.pop("variable", None)  # as a user's configuration, which does not say what the data do
    settings["train"] |= {"checkpoint": 0}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    arguments = ["fit", str(tmp_path / "config.yaml"), "-o", str(broken)]
    assert main([*arguments[:-1], str(whole)]) == 0

    code = INTERRUPTED.format(after=after, number=int(number), arguments=arguments, threads=torch.get_num_threads())
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if number == signal.SIGKILL:
        assert done.returncode == -number
    else:
        assert done.returncode == 128 + number
        said = [line for line in done.stderr.splitlines() if line.startswith("finescale:")]
        assert len(said) == 1 and f"finescale {' '.join(arguments)}" in said[0] and "is saved" in said[0]
    assert not (broken / "weights.safetensors").exists()

    assert main(arguments) == 0
    assert (broken / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()
    assert rows(broken) == rows(whole)
    assert {path.name for path in broken.iterdir()} == {path.name for path in whole.iterdir()}


def test_another_configuration_does_not_go_on(
    config: Callable[..., Any], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """…and loses nothing: the checkpoint is as it was."""
    settings = config(data)
    settings["train"] |= {"checkpoint": 0}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    arguments = ["fit", str(tmp_path / "config.yaml"), "-o", str(tmp_path / "model")]
    code = INTERRUPTED.format(after=3, number=int(signal.SIGKILL), arguments=arguments, threads=torch.get_num_threads())
    subprocess.run([sys.executable, "-c", code], capture_output=True)
    before = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    assert main([*arguments, "--set", "constraint=additive"]) == 2
    assert "begun with another constraint" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before
