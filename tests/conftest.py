"""What all tests share: one thread a process, fixed seeds whatever the order, few hypothesis examples, small models.

pytest-randomly shuffles the tests; the seed of the order is printed at the end (``--randomly-seed=N`` repeats it,
``-p no:randomly`` keeps the order of the files). The data stay the same in every order: each test, and each fixture of
a wider scope, starts from the random state below.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

# Before thread pools start: two test processes share two cores. More threads if the caller asks for them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

# Before eccodes, which tests and xarray's plugins import: the other way round the process crashes at exit, as
# finescale.data.files says.
if importlib.util.find_spec("pyproj"):
    importlib.import_module("pyproj")

import fsspec
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from hypothesis import HealthCheck, settings
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from finescale.config.build import build_model
from finescale.config.read import read_config
from finescale.data.synthetic import gaussian_field
from finescale.data.writing import write
from finescale.downscaler import Downscaler

# As many as asked for, also where there are fewer cores: sums then go in the order of that many parts.
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"].split(",")[0]))

settings.register_profile(
    "finescale", deadline=None, max_examples=25, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("finescale")


def seed() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def pytest_configure(config: pytest.Config) -> None:
    """The order is random, the data are not."""
    if config.pluginmanager.hasplugin("randomly"):
        config.option.randomly_reset_seed = False


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how to repeat the order, also after ``-q``."""
    if config.pluginmanager.hasplugin("randomly"):
        terminalreporter.write_line(f"in the order of --randomly-seed={config.option.randomly_seed}")


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object]) -> None:
    """A fixture that several tests share is the same whichever of them asks for it first."""
    if fixturedef.scope != "function":
        seed()


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """Every test starts from the same random state, whichever tests ran before it in its process."""
    seed()


@pytest.fixture(autouse=True)
def native(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the processor is said to multiply bfloat16 natively, which decides what ``precision: auto`` is.

    Tests are told that it does not, so that networks run in the same number type on every machine; what must hold in
    bfloat16 as well says so with ``parametrize("native", [False, True], indirect=True)``. Either runs everywhere.
    """
    is_native = bool(getattr(request, "param", False))
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: is_native)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: is_native)
    return is_native


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


# --- models


@pytest.fixture(scope="session")
def tiny() -> dict[str, Any]:
    """The configuration of a model that is trained and sampled in a second."""
    return {
        "factor": "1x4",
        "variables": {"rain": {"units": "mm h-1"}},
        "transform": [{"kind": "log1p", "scale": 0.1, "threshold": 0.05}, "standardize"],
        "mean": {
            "kind": "network",
            "fold": 2,
            "backbone": {"kind": "unet", "width": 8, "multipliers": [1, 1], "blocks": 1},
        },
        "latent": {"kind": "wavelet", "levels": 1},
        "denoiser": {"backbone": {"kind": "unet", "width": 8, "multipliers": [1, 1], "blocks": 1}},
        "process": {"schedule": {"kind": "edm", "sigma_max": 10}, "sampler": "heun", "steps": 3},
        "constraint": "multiplicative",
        "precision": "float32",
    }


@pytest.fixture(scope="session")
def generating() -> dict[str, Any]:
    """What makes of the preset one-step a model that is trained and evaluated in a moment."""
    return {
        "factor": "1x4",
        "generator.backbone.width": 8,
        "generator.backbone.multipliers": [1, 2],
        "generator.width": 8,
        "generator.blocks": 1,
    }


@pytest.fixture(scope="session")
def generator(generating: dict[str, Any]) -> Callable[..., Downscaler]:
    """``generator(**changes)``: an untrained one all of whose layers say something: some start at zero."""

    def build(**changes: Any) -> Downscaler:
        model = build_model(read_config("one-step", generating | changes)).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        return model

    return build


@pytest.fixture(scope="session")
def head(tiny: dict[str, Any]) -> dict[str, Any]:
    """Settings of a variance head as small."""
    return {"loss": "nll", "backbone": tiny["denoiser"]["backbone"]}


@pytest.fixture(scope="session")
def built(tiny: dict[str, Any]) -> Callable[..., Downscaler]:
    """``built(**changes)``: an untrained tiny model in which every weight does something."""

    def build(**changes: object) -> Downscaler:
        torch.manual_seed(0)
        model = build_model(tiny | changes).eval()
        for parameter in model.parameters():
            if parameter.abs().max() == 0:
                torch.nn.init.normal_(parameter, std=0.1)
        return model

    return build


# --- data


@pytest.fixture(scope="session")
def rain() -> Callable[..., xr.Dataset]:
    """``rain(t, h, w, seed)``: a dataset of rain every five minutes, with coordinates, attributes and gaps."""

    def made(t: int = 4, h: int = 12, w: int = 20, seed: int = 0) -> xr.Dataset:
        values = np.random.default_rng(seed).gamma(0.3, 2, (t, h, w)).astype(np.float32)
        values[0, :3, :5] = np.nan
        values[1, 7, 7] = np.nan
        return xr.Dataset(
            {"rain": (("time", "lat", "lon"), values, {"units": "mm h-1", "cell_methods": "time: point"})},
            coords={
                "time": ("time", pd.date_range("2020-01-01", periods=t, freq="5min"), {"standard_name": "time"}),
                "lat": ("lat", 40 + 0.1 * np.arange(h), {"units": "degrees_north", "standard_name": "latitude"}),
                "lon": ("lon", 5 + 0.1 * np.arange(w), {"units": "degrees_east", "standard_name": "longitude"}),
            },
            attrs={"title": "test rain"},
        )

    return made


@pytest.fixture(scope="session")
def rotated() -> Callable[..., xr.Dataset]:
    """``rotated(h, w, step, bare)``: rain about a rotated pole, with latitude and longitude of each cell.

    ``bare`` leaves out the rotated coordinates and the grid mapping: nothing but each cell's place is known.
    """

    def made(h: int = 16, w: int = 24, step: float = 0.44, bare: bool = False) -> xr.Dataset:
        rlat, rlon = step * (np.arange(h) + 0.5) + 20.0, step * (np.arange(w) + 0.5) - 8.0
        phi, lam, pole = np.deg2rad(rlat)[:, None], np.deg2rad(rlon)[None], np.deg2rad(39.25)
        lat = np.arcsin(np.sin(pole) * np.sin(phi) + np.cos(pole) * np.cos(phi) * np.cos(lam))
        east = np.arctan2(
            np.cos(phi) * np.sin(lam), np.sin(pole) * np.cos(phi) * np.cos(lam) - np.cos(pole) * np.sin(phi)
        )
        values = np.random.default_rng(1).gamma(0.5, 2, (2, h, w)).astype(np.float32)
        time = np.datetime64("2020-01-01", "ns") + np.arange(2) * np.timedelta64(1, "D")
        dims = ("y", "x") if bare else ("rlat", "rlon")
        degrees = {"units": "degrees_north", "standard_name": "latitude"}
        ds = xr.Dataset(
            {"rain": (("time", *dims), values, {"units": "mm h-1"})},
            coords={
                "time": ("time", time, {"standard_name": "time"}),
                "lat": (dims, np.rad2deg(lat), degrees),
                "lon": (dims, np.rad2deg(east) + 18.0, {"units": "degrees_east", "standard_name": "longitude"}),
            },
        )
        if bare:
            return ds
        pole_of = {"grid_north_pole_latitude": 39.25, "grid_north_pole_longitude": -162.0}
        ds["rain"].attrs["grid_mapping"] = "pole"
        return ds.assign_coords(
            rlat=("rlat", rlat, {"units": "degrees", "standard_name": "grid_latitude", "axis": "Y"}),
            rlon=("rlon", rlon, {"units": "degrees", "standard_name": "grid_longitude", "axis": "X"}),
            pole=((), 0, {"grid_mapping_name": "rotated_latitude_longitude"} | pole_of),
        )

    return made


@pytest.fixture(scope="session")
def field() -> Callable[..., xr.DataArray]:
    """``field(times, height, width, lat)``: distinct values, so that a part tells where it was cut."""

    def made(times: int = 3, height: int = 40, width: int = 56, lat: float = 50.0) -> xr.DataArray:
        values = np.arange(times * height * width, dtype=np.float32).reshape(times, height, width)
        return xr.DataArray(
            values,
            dims=("time", "lat", "lon"),
            coords={
                "time": np.datetime64("2020-06-01", "ns") + np.arange(times) * np.timedelta64(1, "h"),
                "lat": ("lat", lat + np.arange(height) * 0.5, {"units": "degrees_north"}),
                "lon": ("lon", np.arange(width) * 0.5, {"units": "degrees_east"}),
            },
            name="rain",
        )

    return made


@pytest.fixture(scope="session")
def stored() -> Callable[[np.ndarray, Path], Path]:
    """``stored(values, path)``: a file of hourly rain (time, y, x) on cells of side 1, and its path."""

    def made(values: np.ndarray, path: Path) -> Path:
        coords = {
            "time": np.datetime64("2020-06-01", "ns") + np.arange(len(values)) * np.timedelta64(1, "h"),
            "y": np.arange(float(values.shape[1])),
            "x": np.arange(float(values.shape[2])),
        }
        da = xr.DataArray(values.astype(np.float32), coords, name="rain", attrs={"units": "mm h-1"})
        write(da.to_dataset(), path)
        return path

    return made


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A file to train on: smooth positive amounts, latitude falling as in many files."""
    values = np.exp(gaussian_field((4, 48, 64), seed=3, outer_km=12.0)).astype(np.float32)
    coords = {
        "time": np.datetime64("2020-06-01", "ns") + np.arange(4) * np.timedelta64(1, "h"),
        "lat": ("lat", 60 - np.arange(48) * 0.01, {"units": "degrees_north"}),
        "lon": ("lon", np.arange(64) * 0.01, {"units": "degrees_east"}),
    }
    da = xr.DataArray(values, dims=("time", "lat", "lon"), coords=coords, name="rain", attrs={"units": "mm h-1"})
    write(da.to_dataset(), tmp_path / "rain.nc")
    return tmp_path / "rain.nc"


# --- servers


class Server:
    """An S3 server on this machine, which can be stopped and started at the same address; what it holds stays."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.app = DomainDispatcherApplication(create_backend_app)
        self.port = 0
        self.start()

    def start(self) -> None:
        self.server = make_server("127.0.0.1", self.port, self.app, threaded=True, request_handler=MotoRequestHandler)
        self.port = self.server.server_port
        self.thread = Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()


class Bucket:
    """A bucket of a server.

    Attributes:
        url: such as s3://bucket.
        server: the server.
    """

    def __init__(self, server: Server, name: str) -> None:
        self.server, self.name, self.url = server, name, f"s3://{name}"
        self.files = fsspec.filesystem("s3")
        self.files.mkdir(name)

    def names(self) -> list[str]:
        """Of all that lies in it."""
        self.files.invalidate_cache()
        return [str(name).removeprefix(f"{self.name}/") for name in self.files.find(self.name)]


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Server]:
    """An S3 server, and an environment in which it is the one that everybody knows."""
    server = Server()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.port}")
        for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(key, "made-up")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        environment.setenv("AWS_MAX_ATTEMPTS", "1")
        fsspec.get_filesystem_class("s3").clear_instance_cache()  # one that knew no credentials would be kept
        yield server
    server.stop()


@pytest.fixture
def s3(s3_server: Server, request: pytest.FixtureRequest) -> Bucket:
    """A bucket of its own for every test."""
    return Bucket(s3_server, f"b-{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]}")


@pytest.fixture(scope="session")
def config(tiny: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    """``config(data, **train)``: a tiny model's configuration with the file it is trained on and a budget."""

    def made(data: Path, **train: Any) -> dict[str, Any]:
        budget = {"steps": 8, "batch": 4, "mean_share": 0.5, "warmup": 2} | train
        return tiny | {"data": {"path": str(data), "crop": 16}, "train": budget}

    return made
