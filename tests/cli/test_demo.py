"""Which folders ``finescale demo`` takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from finescale.cli import main


@pytest.fixture(autouse=True)
def unfinished(monkeypatch: pytest.MonkeyPatch) -> None:
    """A demo that is interrupted when its data are made."""

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("finescale.cli.demo.synthetic_rain", stop)


@pytest.mark.parametrize("there", [False, True], ids=["new", "empty"])
def test_its_own_folder_again_and_again(tmp_path: Path, there: bool) -> None:
    folder = tmp_path / "demo"
    if there:
        folder.mkdir()
    for _ in range(2):
        assert main(["demo", "-o", str(folder)]) == 130
        assert {path.name for path in folder.iterdir()} == {"finescale-demo.txt"}


@pytest.mark.parametrize("name", ["config.yaml", "truth.nc", "weights.safetensors", ".hidden"])
def test_no_folder_of_others(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    (tmp_path / name).write_text("mine")
    assert main(["demo", "-o", str(tmp_path)]) == 2
    assert "name another folder with -o" in capsys.readouterr().err
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: "mine"}


def test_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "demo").write_text("mine")
    assert main(["demo", "-o", str(tmp_path / "demo")]) == 2
    assert "is a file" in capsys.readouterr().err and (tmp_path / "demo").read_text() == "mine"
