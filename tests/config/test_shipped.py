"""Models by name: which one a name means, what is checked, and what is said."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlparse

import fsspec
import numpy as np
import pytest
import torch
import xarray as xr
import yaml

import finescale
from finescale.cli import main
from finescale.config import shipped
from finescale.errors import InputError


@pytest.fixture
def shelf(generator: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two models, one of which says what it is."""
    folder = tmp_path / "shelf"
    model = generator(**{"variables": {"rain": {"units": "mm h-1"}}, "precision": "float32"})
    model.save(folder / "showers")
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    model.save(folder / "plain")
    files = {name: hashlib.sha256((folder / "showers" / name).read_bytes()).hexdigest() for name in shipped.FILES}
    about = {"summary": "Showers of nowhere.", "data": "none", "licence": "CC0", "scores": "bad", "sha256": files}
    (folder / "showers" / "about.yaml").write_text(yaml.safe_dump(about))
    monkeypatch.setenv("FINESCALE_MODELS", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def coarse(folder: Path) -> Path:
    values = np.random.default_rng(0).gamma(0.5, 2.0, (1, 8, 8)).astype(np.float32)
    field = xr.DataArray(values, dims=("time", "y", "x"), name="rain", attrs={"units": "mm h-1"})
    field.to_dataset().to_netcdf(folder / "coarse.nc")
    return folder / "coarse.nc"


def test_a_name_is_a_model_wherever_one_is_accepted(
    shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    by_name, by_path = finescale.load("showers"), finescale.load(shelf / "showers")
    assert by_name.fingerprint == by_path.fingerprint
    words = ["downscale", "showers", str(coarse(tmp_path)), "-o", "fine.nc", "--members", "2", "--workers", "2"]
    assert main(words) == 0
    assert main(["info", "showers"]) == 0
    assert "showers: a finescale model" in capsys.readouterr().out
    with xr.open_dataset(tmp_path / "fine.nc") as fine:
        again = by_path.downscale(xr.load_dataset(tmp_path / "coarse.nc"), members=2)
        np.testing.assert_array_equal(fine["rain"].transpose(*again["rain"].dims), again["rain"])
        called = f"showers ({by_name.fingerprint})"
        assert fine.attrs["finescale_model"] == called and fine.attrs["source"].endswith(f"model {called}")


def test_a_models_folder_of_the_name_wins(shelf: Path, tmp_path: Path) -> None:
    (tmp_path / "showers").mkdir()  # of something else, such as data
    assert finescale.load("showers").fingerprint == finescale.load(shelf / "showers").fingerprint
    finescale.load("plain").save(tmp_path / "showers")
    assert finescale.load("showers").fingerprint == finescale.load("plain").fingerprint
    (tmp_path / "showers" / "config.yaml").unlink()
    with pytest.raises(finescale.InputError, match=r"no config\.yaml .* hides the model of the name showers$"):
        finescale.load("showers")


def test_models_are_listed_with_what_they_say(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    said = capsys.readouterr().out
    assert "showers: Showers of nowhere." in said and "plain: a model of yours" in said
    assert "1x4" in said and "rain in mm h-1" in said and "licence: CC0" in said and "scores: bad" in said


def test_a_model_whose_files_were_changed_is_refused(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = shelf / "showers" / "weights.safetensors"
    weights.write_bytes((shelf / "plain" / "weights.safetensors").read_bytes())
    assert main(["downscale", "showers", "coarse.nc", "-o", "fine.nc"]) == 2
    with pytest.raises(InputError, match="the hash"):
        finescale.load("showers")


def test_an_unknown_name_is_told_with_those_there_are(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"not a finescale model.*showers"):
        finescale.load("shower")
    with pytest.raises(InputError, match=r"allowed: plain,.* showers"):
        finescale.load("qqqqqq")


@pytest.mark.parametrize("way", ["url", "collection"])
def test_models_lie_behind_urls_too(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], way: str
) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(shelf), "/box/", recursive=True)
    monkeypatch.delenv("FINESCALE_MODELS")
    here = finescale.load(shelf / "showers").fingerprint
    base = next(name for name in ("memory://box", "memory://box/shelf") if memory.exists(f"{name}/showers/config.yaml"))
    try:
        if way == "collection":
            monkeypatch.setenv("FINESCALE_MODELS", base)
            assert "showers" in shipped.names()
            assert finescale.load("showers").called == f"showers ({here})"
        else:
            assert finescale.load(f"{base}/showers").called == f"showers ({here})"
            given = str(coarse(tmp_path))
            assert main(["downscale", f"{base}/showers", given, "-o", "fine.nc", "--members", "1"]) == 0
            assert main(["info", f"{base}/showers"]) == 0
            assert f"{base}/showers: a finescale model" in capsys.readouterr().out
            assert main(["downscale", f"{base}/nothing", given, "-o", "other.nc"]) == 2
            assert "is not a finescale model" in capsys.readouterr().err
    finally:
        memory.rm("/box", recursive=True)


class Hub(BaseHTTPRequestHandler):
    """What huggingface_hub asks a hub for, answered from ``root``: repository group/models has the files below it."""

    root: Path
    api, files = "/api/models/group/models", "/group/models/resolve/main/"

    def do_GET(self) -> None:
        path = urlparse(self.path).path
        if path == self.api:
            self.answer(json.dumps({"id": "group/models", "sha": "0" * 40, "siblings": []}).encode())
        elif path.startswith(tree := f"{self.api}/tree/main") and (self.root / path[len(tree) :].strip("/")).is_dir():
            folder = self.root / path[len(tree) :].strip("/")
            deep = "recursive=true" in self.path.lower()
            self.answer(json.dumps([self.entry(one) for one in folder.glob("**/*" if deep else "*")]).encode())
        elif path.startswith(self.files) and (file := self.root / path[len(self.files) :]).is_file():
            self.answer(file.read_bytes())
        else:
            self.answer(b"", 404, "EntryNotFound" if "group/models" in path else "RepoNotFound")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
        paths = [self.root / one for one in json.loads(asked)["paths"]]
        self.answer(json.dumps([self.entry(one) for one in paths if one.exists()]).encode())

    def entry(self, path: Path) -> dict[str, Any]:
        kind = "directory" if path.is_dir() else "file"
        return {"type": kind, "path": str(path.relative_to(self.root)), "size": path.stat().st_size, "oid": "0" * 40}

    def answer(self, content: bytes, code: int = 200, error: str = "") -> None:
        self.send_response(code)
        for name, value in {"Content-Length": len(content), "ETag": '"0"', "X-Error-Code": error}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def hub(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The shelf as a repository of Hugging Face."""
    pytest.importorskip("huggingface_hub")
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Hub,), {"root": shelf}))
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setitem(fsspec.config.conf, "hf", {"endpoint": f"http://127.0.0.1:{server.server_port}"})
    monkeypatch.delenv("FINESCALE_MODELS")
    yield "hf://group/models"
    server.shutdown()
    server.server_close()


def test_models_lie_on_hugging_face_too(
    hub: str, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here, given = finescale.load(shelf / "showers").fingerprint, str(coarse(tmp_path))
    assert main(["downscale", f"{hub}/showers", given, "-o", "fine.nc", "--members", "1"]) == 0
    assert main(["info", f"{hub}/showers"]) == 0
    assert f"{hub}/showers: a finescale model" in capsys.readouterr().out
    assert main(["info", f"{hub}/nothing"]) == 2
    assert f"{hub}/nothing does not exist" in capsys.readouterr().err
    assert main(["downscale", "hf://group/other/showers", given, "-o", "other.nc"]) == 2
    assert "is not a finescale model" in capsys.readouterr().err
    monkeypatch.setenv("FINESCALE_MODELS", hub)
    assert {"showers", "plain"} < set(shipped.names())
    assert finescale.load("showers").called == f"showers ({here})"


def test_a_model_of_the_package_is_not_written_into(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "MODELS", shelf)
    with pytest.raises(InputError, match="name a new folder"):
        finescale.calibrate("showers", coarse(shelf.parent))
