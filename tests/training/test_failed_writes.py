"""Writes of a training that fail: exit code 2, the cause, and nothing of what was learned is lost."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from finescale.cli import main


@pytest.fixture
def command(config: Callable[..., Any], data: Path, tmp_path: Path) -> list[str]:
    settings = config(data)
    settings.pop("variable", None)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    return ["fit", str(tmp_path / "config.yaml"), "-o", str(tmp_path / "model")]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], Callable[[], None]]:
    """``failing(name, number)``: files whose name has ``name`` cannot be written; calling the result mends it."""
    real = Path.write_bytes, Path.write_text

    def fail(name: str, number: int) -> Callable[[], None]:
        def writing(which: int) -> Callable[..., int]:
            def write(path: Path, *arguments: Any, **settings: Any) -> int:
                if name in path.name:
                    real[0](path, b"half of it")
                    raise OSError(number, os.strerror(number), str(path))
                return real[which](path, *arguments, **settings)

            return write

        monkeypatch.setattr(Path, "write_bytes", writing(0))
        monkeypatch.setattr(Path, "write_text", writing(1))
        return monkeypatch.undo

    return fail


def said(capsys: pytest.CaptureFixture[str]) -> str:
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("finescale:")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("name", ["weights", "config", "README"])
@pytest.mark.parametrize(
    ("number", "cause"),
    [(errno.ENOSPC, "the disk is full"), (errno.EACCES, "check the permissions")],
    ids=["full", "denied"],
)
def test_a_model_that_cannot_be_written_is_kept(
    command: list[str],
    failing: Callable[[str, int], Callable[[], None]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    number: int,
    cause: str,
) -> None:
    """The checkpoint stays, and the same command makes the model without a step of training."""
    assert main([*command[:-1], str(tmp_path / "whole")]) == 0
    said_nothing = capsys.readouterr()
    assert "finescale:" not in said_nothing.err
    mend = failing(name, number)
    assert main(command) == 2
    line = said(capsys)
    assert cause in line and "the last checkpoint is kept" in line and str(tmp_path / "model") in line
    assert (tmp_path / "model" / "checkpoint.safetensors").is_file()
    mend()
    monkeypatch.setattr("torch.optim.Adam.step", lambda *_: pytest.fail("trained again"))
    assert main(command) == 0
    whole, model = tmp_path / "whole", tmp_path / "model"
    assert {path.name for path in model.iterdir()} == {path.name for path in whole.iterdir()}
    assert (model / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [*command, "--set", "train.checkpoint=0"]
    real, count, kept = Path.write_bytes, 0, b""
    checkpoint = tmp_path / "model" / "checkpoint.safetensors"

    def write(path: Path, content: bytes) -> int:
        nonlocal count, kept
        count += "checkpoint" in path.name
        if count == 4:
            kept = checkpoint.read_bytes()
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, content)

    monkeypatch.setattr(Path, "write_bytes", write)
    assert main(command) == 2
    assert "checkpoint.safetensors could not be written: the disk is full; the last" in said(capsys)
    assert checkpoint.read_bytes() == kept != b""
    assert not [path for path in (tmp_path / "model").iterdir() if "partial" in path.name]
    monkeypatch.undo()
    assert main(command) == 0


def test_a_folder_that_cannot_be_written_is_told_before_training(
    command: list[str],
    failing: Callable[[str, int], Callable[[], None]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing("probe", errno.EROFS)
    monkeypatch.setattr("finescale.training.fit.Crops", lambda *_, **__: pytest.fail("the data were read"))
    assert main(command) == 2
    assert "the file system is read-only" in said(capsys)
    assert not (tmp_path / "model").exists()


def test_a_disk_with_no_room_for_a_checkpoint(command: list[str]) -> None:
    """The limit of a process on files, which the system itself enforces."""
    code = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (2**14, 2**14))
from finescale.cli import main
sys.exit(main({command}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    lines = [line for line in done.stderr.splitlines() if line.startswith("finescale:")]
    assert done.returncode == 2 and len(lines) == 1 and "could not be written: " in lines[0]
