"""Inputs and outputs behind URLs: what comes of them is what comes of files, and what goes wrong is one line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import fsspec
import numpy as np
import pytest
import s3fs
import xarray as xr
import zarr

from finescale.cli.commands import main
from finescale.config.load import load
from finescale.data import growing, journal, place, store
from finescale.data.files import open_store
from finescale.data.regions import ZarrRegions
from finescale.downscaler import Downscaler
from finescale.errors import InputError

FACTOR = ["--factor", "1x4"]


@pytest.fixture
def model(built: Callable[..., Downscaler], tmp_path: Path) -> str:
    built().save(tmp_path / "model")
    return str(tmp_path / "model")


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """The address of a web server that shows ``tmp_path``."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def put(bucket: Any, path: Path, name: str) -> str:
    bucket.files.put(str(path), f"{bucket.name}/{name}", recursive=True)
    return f"{bucket.url}/{name}"


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line of a command that is refused."""
    capsys.readouterr()
    assert main([*map(str, words)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("out", ["o.zarr", "o.nc"])
@pytest.mark.parametrize("form", ["zarr2", "zarr3", "nc"])
def test_block_means_from_bucket_to_bucket(s3, rain, tmp_path, form, out):
    """Stores of both formats and files of NetCDF, whole under their names and with nothing left beside them."""
    fine = tmp_path / ("fine.nc" if form == "nc" else "fine.zarr")
    if form == "nc":
        rain().to_netcdf(fine)
    else:
        rain().to_zarr(fine, zarr_format=int(form[-1]), consolidated=form == "zarr2")
    url = put(s3, fine, fine.name)
    assert main(["coarsen", url, *FACTOR, "-o", f"{s3.url}/out/{out}"]) == 0
    assert main(["coarsen", str(fine), *FACTOR, "-o", str(tmp_path / out)]) == 0
    wanted = open_store(tmp_path / out).load()
    found = open_store(f"{s3.url}/out/{out}").load()
    xr.testing.assert_equal(found, wanted)
    assert growing.UNFINISHED not in found.attrs
    assert {name.split("/")[1] for name in s3.names() if name.startswith("out/")} == {out}


def test_members_from_bucket_to_bucket(s3, rain, model, tmp_path):
    """Bits are those of files; anyone reads the store, whose metadata are in one place."""
    rain(t=2, h=8, w=8).to_netcdf(tmp_path / "coarse.nc")
    url = put(s3, tmp_path / "coarse.nc", "coarse.nc")
    words = ["--members", "2", "--window", "1x4"]
    for out in ("o.zarr", "o.nc"):
        assert main(["downscale", model, url, "-o", f"{s3.url}/{out}", *words]) == 0
        assert main(["downscale", model, str(tmp_path / "coarse.nc"), "-o", str(tmp_path / out), *words]) == 0
        a, b = open_store(f"{s3.url}/{out}"), open_store(tmp_path / out)
        np.testing.assert_array_equal(a["rain"].values, b["rain"].values)
        assert {k: v for k, v in a.attrs.items() if k != "history"} == {
            k: v for k, v in b.attrs.items() if k != "history"
        }
    plain = xr.open_zarr(f"{s3.url}/o.zarr", consolidated=True)
    np.testing.assert_array_equal(plain["rain"].values, b["rain"].values)
    assert {name.split("/")[0] for name in s3.names()} == {"coarse.nc", "o.zarr", "o.nc"}


def test_every_command_reads_urls(s3, rain, model, config, data, tmp_path, capsys):
    """…of inputs: verify, info and the data of fit."""
    import yaml

    rain(t=2, h=24, w=32).to_zarr(tmp_path / "truth.zarr", consolidated=False)
    truth = put(s3, tmp_path / "truth.zarr", "truth.zarr")
    assert main(["coarsen", truth, *FACTOR, "-o", f"{s3.url}/c.zarr"]) == 0
    assert main(["downscale", model, f"{s3.url}/c.zarr", "-o", f"{s3.url}/e.zarr", "--members", "2"]) == 0
    report = ["-o", str(tmp_path / "report"), "--coarse", f"{s3.url}/c.zarr", "--baselines", "nearest", "--no-report"]
    assert main(["verify", f"{s3.url}/e.zarr", truth, *report]) == 0
    assert (tmp_path / "report" / "scores.json").is_file()
    capsys.readouterr()
    assert main(["info", f"{s3.url}/e.zarr"]) == 0
    assert "2 members" in capsys.readouterr().out
    settings = config(data, steps=2, warmup=1)
    settings["data"]["path"] = put(s3, data, "rain.nc")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    assert main(["fit", str(tmp_path / "config.yaml"), "-o", str(tmp_path / "trained")]) == 0
    assert "rain.nc" in (tmp_path / "trained" / "README.md").read_text()
    assert load(tmp_path / "trained").trained[0]["files"] == ["rain.nc"]


def test_globs_and_settings_behind_urls(s3, rain, tmp_path):
    """Files that follow each other in time, and what is said of reading them."""
    ds = rain(t=4)
    for n in (0, 2):
        ds.isel(time=slice(n, n + 2)).to_netcdf(tmp_path / f"part{n}.nc")
        put(s3, tmp_path / f"part{n}.nc", f"in/part{n}.nc")
    found = open_store(f"{s3.url}/in/part*.nc?units=mm/day")["rain"]
    np.testing.assert_allclose(found.values, 24 * ds["rain"].values, rtol=1e-6)
    with pytest.raises(InputError, match=r"none\*.nc matches no file"):
        open_store(f"{s3.url}/in/none*.nc")


def test_the_web_and_other_file_systems(web, rain, tmp_path, capsys):
    """http, file and fsspec's memory; the query of a web address is its own."""
    rain().to_netcdf(tmp_path / "fine.nc")
    rain().to_zarr(tmp_path / "fine.zarr", consolidated=True)
    for url in (f"{web}/fine.nc", f"{web}/fine.nc?token=a/b.c", f"{web}/fine.zarr", f"file://{tmp_path}/fine.nc"):
        np.testing.assert_array_equal(open_store(url)["rain"].values, rain()["rain"].values)
    assert main(["coarsen", f"{web}/fine.zarr", *FACTOR, "-o", "memory://test/c.zarr"]) == 0
    assert main(["coarsen", "memory://test/c.zarr", "--factor", "1x1", "-o", f"file://{tmp_path}/c.nc"]) == 0
    xr.testing.assert_equal(open_store("memory://test/c.zarr")["rain"], open_store(tmp_path / "c.nc")["rain"])
    fsspec.filesystem("memory").rm("/test", recursive=True)
    assert "does not exist" in refused(capsys, "info", f"{web}/none.nc")
    assert "does not list its files" in refused(capsys, "info", f"{web}/*.nc")
    assert "to a web server" in refused(capsys, "coarsen", f"{web}/fine.nc", *FACTOR, "-o", f"{web}/o.nc")


def test_what_is_wrong_with_a_url_is_said_in_one_line(s3, rain, model, tmp_path, capsys, monkeypatch):
    rain().to_netcdf(tmp_path / "fine.nc")
    url = put(s3, tmp_path / "fine.nc", "fine.nc")
    coarsen = ["coarsen", url, *FACTOR, "-o"]
    assert "there is no bucket no-such-bucket" in refused(capsys, "info", "s3://no-such-bucket/a.nc")
    assert "there is no bucket no-such-bucket" in refused(capsys, *coarsen, "s3://no-such-bucket/o.zarr")
    assert "does not exist" in refused(capsys, "info", f"{s3.url}/none.nc")
    assert "nosuch:// is not known" in refused(capsys, "info", "nosuch://b/a.nc")
    assert "must end in .nc or .zarr" in refused(capsys, *coarsen, f"{s3.url}/o.grib")
    assert "is the input itself" in refused(capsys, *coarsen, url, "--overwrite")
    assert "is not a finescale model" in refused(capsys, "downscale", f"{s3.url}/m", url, "-o", "o.nc")
    assert "a report is a folder of this machine" in refused(capsys, "verify", url, url, "-o", f"{s3.url}/report")
    assert main([*coarsen, f"{s3.url}/o.zarr"]) == 0
    before = s3.names()
    assert "exists: choose another name" in refused(capsys, *coarsen, f"{s3.url}/o.zarr")
    s3.files.pipe_file(f"{s3.name}/mine.zarr/notes.txt", b"mine")
    assert "is not overwritten" in refused(capsys, *coarsen, f"{s3.url}/mine.zarr", "--overwrite")
    assert s3.names() == sorted([*before, "mine.zarr/notes.txt"])
    assert main([*coarsen, f"{s3.url}/o.zarr", "--overwrite"]) == 0
    monkeypatch.setitem(sys.modules, "s3fs", None)
    assert "needs s3fs: pip install 'finescale[cloud]'" in refused(capsys, "info", url)


def test_a_url_that_became_a_path_is_told(rain):
    with pytest.raises(InputError, match=r"became a path: give it as text, 's3://b/a.nc'"):
        open_store(Path("s3://b/a.nc"))


def test_a_server_that_lets_nobody_in(s3, capsys, monkeypatch):
    """No credentials; a refusal, as the server's library says it."""

    async def refuse(*_: object, **__: object) -> None:
        from botocore.exceptions import ClientError

        raise PermissionError("Access Denied") from ClientError({"Error": {}}, "GetObject")

    async def unknown(*_: object, **__: object) -> None:
        from botocore.exceptions import NoCredentialsError

        raise NoCredentialsError

    for doing, says in ((refuse, "its server refuses (Access Denied)"), (unknown, "there are no credentials")):
        monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", doing)
        assert says in refused(capsys, "info", f"{s3.url}/a.nc")


def stopping(bucket: Any, monkeypatch: pytest.MonkeyPatch, at: int, do: Callable[[], None]) -> None:
    """Let a prediction do something before it writes a task."""
    write = store.ZarrStore.write

    def stops(self: Any, task: int, *rest: Any) -> None:
        if task == at:
            do()
        write(self, task, *rest)

    monkeypatch.setattr(store.ZarrStore, "write", stops)


def test_a_run_is_resumed_behind_a_url(s3, rain, model, tmp_path, capsys, monkeypatch):
    """Its store is marked, refused as an input, kept from other runs, and whole in the end: the same bits."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    rain(t=3, h=8, w=8).to_netcdf(tmp_path / "coarse.nc")
    out, words = f"{s3.url}/o.zarr", ["--members", "2", "--window", "1x4"]
    run = ["downscale", model, str(tmp_path / "coarse.nc"), "-o", out, *words]
    with monkeypatch.context() as patch:
        stopping(s3, patch, 4, interrupt)
        assert main(run) == 130
    assert "--resume continues" in capsys.readouterr().err
    assert growing.UNFINISHED in xr.open_zarr(out, consolidated=False).attrs
    assert "is not finished" in refused(capsys, "info", out)
    assert "an interrupted run left" in refused(capsys, *run)
    assert "an interrupted run left a part" in refused(capsys, "coarsen", tmp_path / "coarse.nc", *FACTOR, "-o", out)
    assert "is of another run" in refused(capsys, *run, "--seed", "1", "--resume")
    sampled = []
    monkeypatch.setattr(store.ZarrStore, "note", lambda self, task, note, _note=store.ZarrStore.note: (
        sampled.append(task), _note(self, task, note)))  # fmt: skip
    assert main([*run, "--resume"]) == 0
    assert sampled and not {0, 1, 2, 3} & set(sampled)
    assert main([*run[:4], str(tmp_path / "o.zarr"), *words]) == 0
    np.testing.assert_array_equal(open_store(out)["rain"].values, open_store(tmp_path / "o.zarr")["rain"].values)
    assert {name.split("/")[0] for name in s3.names()} == {"o.zarr"}


def test_a_server_that_stops_ends_a_run_which_goes_on_when_it_is_back(s3, rain, model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(journal, "EVERY", 0.0)
    rain(t=3, h=8, w=8).to_netcdf(tmp_path / "coarse.nc")
    out, words = f"{s3.url}/o.zarr", ["--members", "2", "--window", "1x4"]
    run = ["downscale", model, str(tmp_path / "coarse.nc"), "-o", out, *words]
    with monkeypatch.context() as patch:
        stopping(s3, patch, 3, s3.server.stop)
        try:
            line = refused(capsys, *run)
            assert "its server does not answer" in line and "--resume continues" in line
            assert "its server does not answer" in refused(capsys, "info", out)
        finally:
            s3.server.start()
    assert main([*run, "--resume"]) == 0
    assert main([*run[:4], str(tmp_path / "o.zarr"), *words]) == 0
    np.testing.assert_array_equal(open_store(out)["rain"].values, open_store(tmp_path / "o.zarr")["rain"].values)


def test_one_run_at_a_time_begins_behind_a_url(s3):
    """Two that begin at once: the second meets the journal of the first."""
    where = place.place(f"{s3.url}/o.zarr")
    journal.journal(where).begin({"seed": 0})
    with pytest.raises(InputError, match="another process is writing"):
        journal.journal(where).begin({"seed": 0})


def test_regions_are_written_by_whoever_knows_the_url(s3):
    """…which is all that travels."""
    import pickle

    zarr.create_array(place.place(f"{s3.url}/o.zarr").zarr(), name="a", shape=(4, 6), chunks=(2, 3), dtype="f4")
    regions = ZarrRegions(f"{s3.url}/o.zarr")
    regions.array("a")
    there = pickle.loads(pickle.dumps(regions))
    there.write([("a", (slice(0, 2), slice(3, 6)), np.full((2, 3), 7, dtype=np.float32))])
    assert float(regions.array("a")[:].sum()) == 42


@pytest.mark.slow
def test_workers_write_behind_a_url(s3, rain, model, tmp_path):
    """Processes that know the store by its URL, and how it is packed: the bits of this process."""
    rain(t=3, h=8, w=8).to_netcdf(tmp_path / "coarse.nc")
    run = ["downscale", model, str(tmp_path / "coarse.nc"), "--members", "2", "--window", "1x4", "--precision", "0.01"]
    assert main([*run, "-o", f"{s3.url}/o.zarr", "--workers", "2"]) == 0
    assert main([*run, "-o", str(tmp_path / "o.zarr")]) == 0
    np.testing.assert_array_equal(
        open_store(f"{s3.url}/o.zarr")["rain"].values, open_store(tmp_path / "o.zarr")["rain"].values
    )
