"""The command line: what it writes, and one line with exit code 2 for whatever the user can mend."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from finescale.cli import commands, runner
from finescale.data.files import open_store
from finescale.data.writing import write


@pytest.fixture
def fine(rain, tmp_path):
    write(rain(), tmp_path / "fine.nc")
    return tmp_path / "fine.nc"


def run(capfd, *words) -> tuple[int, str, list[str]]:
    code = commands.main([str(word) for word in words])
    out, err = capfd.readouterr()
    return code, out, err.splitlines()


def test_help_lists_the_commands_and_loads_nothing_heavy():
    """What makes it quick, whatever the machine; how quick: benchmarks/startup.py."""
    code = (
        "import sys; from finescale import cli; code = cli.main(['--help']); "
        "print(*{name.split('.')[0] for name in sys.modules}, file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for name in ("coarsen", "fit", "downscale", "verify", "info", "demo"):
        assert name in done.stdout
    heavy = {"torch", "xarray", "pandas", "dask", "scipy", "matplotlib", "zarr", "netCDF4", "pydantic"}
    assert not heavy & set(done.stderr.split())


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_coarsen(fine, tmp_path, capfd, suffix):
    out = tmp_path / f"coarse{suffix}"
    assert run(capfd, "coarsen", fine, "-o", out, "--factor", "2x4") == (0, "", [])
    ds = open_store(out)
    assert ds["rain"].dims == ("time", "lat", "lon") and ds["rain"].shape == (2, 3, 5)
    assert ds["rain"].attrs["units"] == "mm h-1"
    assert (
        ds.attrs["input_title"] == "test rain"
        and ds.attrs["finescale_factor"] == "2x4"
        and "coarsen --factor 2x4" in ds.attrs["history"]
    )
    assert {"lat_bnds", "lon_bnds", "time_bnds"} <= set(ds.variables)
    assert ds["lat"].encoding.get("_FillValue") is None
    assert run(capfd, "coarsen", fine, "-o", out, "--factor", "1x2", "--overwrite")[0] == 0
    assert open_store(out)["rain"].shape == (4, 6, 10)


def test_coarsen_crops_on_request(fine, tmp_path, capfd):
    assert run(capfd, "coarsen", fine, "-o", tmp_path / "c.nc", "--factor", "1x5", "--crop")[0] == 0
    assert open_store(tmp_path / "c.nc")["rain"].shape == (4, 2, 4)


def test_info(fine, capfd):
    code, out, err = run(capfd, "info", fine)
    assert code == 0 and not err
    for words in ("rain [mm h-1]", "12 x 20 cells (lat x lon)", "every 300 s", "2, 3, 4, 6, 12", "missing"):
        assert words in out


@pytest.fixture
def forecast(tmp_path):
    """A GRIB file of 2 members and 3 hours under a name that says NetCDF."""
    codes = pytest.importorskip("eccodes")
    pytest.importorskip("cfgrib")
    keys = {
        "Ni": 8, "Nj": 6, "latitudeOfFirstGridPointInDegrees": 50, "latitudeOfLastGridPointInDegrees": 45,
        "longitudeOfFirstGridPointInDegrees": 0, "longitudeOfLastGridPointInDegrees": 7,
        "iDirectionIncrementInDegrees": 1, "jDirectionIncrementInDegrees": 1, "dataDate": 20200101, "dataTime": 0,
        "productDefinitionTemplateNumber": 1,
    }  # fmt: skip
    path = tmp_path / "forecast.nc"
    with path.open("wb") as file:
        for member in range(2):
            for step in (1, 2, 3):
                message = codes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
                for key, value in (keys | {"perturbationNumber": member, "stepRange": str(step)}).items():
                    codes.codes_set(message, key, value)
                codes.codes_set(message, "shortName", "2t")
                codes.codes_set_values(message, np.arange(48.0) + 100 * member + step)
                codes.codes_write(message, file)
    return path


def test_grib_under_any_name_and_a_clean_exit(forecast, tmp_path):
    words = ["coarsen", forecast, "-o", tmp_path / "o.nc", "--factor", "3x2"]
    done = subprocess.run([sys.executable, "-m", "finescale", *map(str, words)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    t2m = open_store(tmp_path / "o.nc")["t2m"]
    assert t2m.dims == ("valid_time", "realization", "latitude", "longitude") and t2m.shape == (1, 2, 3, 4)
    assert str(t2m.valid_time.values[0])[:16] == "2020-01-01T02:00" and t2m.latitude[0] > t2m.latitude[-1]


def test_grib_and_projections_in_one_process_exit_cleanly(forecast, tmp_path):
    """eccodes and pyproj each bring a PROJ; read in this order they used to free the same objects at exit."""
    pytest.importorskip("pyproj")
    write(open_store(forecast)[["t2m"]].isel(number=0, drop=True), tmp_path / "truth.nc")
    words = ["verify", forecast, tmp_path / "truth.nc", "-o", tmp_path / "report", "--baselines", "none"]
    done = subprocess.run([sys.executable, "-m", "finescale", *map(str, words)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_info_of_a_model(tmp_path, capfd):
    torch_file = pytest.importorskip("safetensors.numpy")
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.yaml").write_text(
        "factor: 1x8\nvariable: {name: rain, units: mm h-1}\nlatent: {kind: wavelet, levels: 2}\n"
    )
    torch_file.save_file(
        {"mean.a": np.zeros((3, 4), np.float32), "denoiser.b": np.zeros(5, np.float32)}, model / "weights.safetensors"
    )
    code, out, _ = run(capfd, "info", model)
    assert code == 0 and "factor: 1x8" in out and "17 numbers (" in out and "levels: 2" in out
    whole = (model / "weights.safetensors").read_bytes()
    for broken in (whole[:-7], whole[:5], b"not at all safetensors"):
        (model / "weights.safetensors").write_bytes(broken)
        code, _, err = run(capfd, "info", model)
        assert code == 2 and len(err) == 1


def bad_inputs(ds, tmp_path):
    """(words of the command line, what the line on stderr says) for every mendable fault of a file."""
    fine, out = tmp_path / "fine.nc", tmp_path / "out.nc"
    write(ds, fine)
    (tmp_path / "text.nc").write_text("no NetCDF")
    (tmp_path / "cut.nc").write_bytes(fine.read_bytes()[:2000])
    xr.Dataset({"rain": (("a", "b"), np.zeros((4, 4)))}).to_netcdf(tmp_path / "dims.nc", engine="netcdf4")
    write(ds.assign_coords(lat=("lat", np.cumsum(1 + np.arange(12.0)), ds.lat.attrs)), tmp_path / "uneven.nc")
    write(ds.assign(wind=ds["rain"]), tmp_path / "two.nc")
    (tmp_path / "there.nc").write_text("keep me")
    coarsen = ("--factor", "1x4", "-o", out)
    return [
        (("coarsen", tmp_path / "fien.nc", *coarsen), "does not exist; did you mean 'fine.nc'"),
        (("coarsen", tmp_path / "text.nc", *coarsen), "is not a NetCDF"),
        (("coarsen", tmp_path / "cut.nc", *coarsen), "truncated or damaged"),
        (("coarsen", fine, *coarsen, "--variable", "snow"), "no variable 'snow'; it has rain"),
        (
            ("fit", "wavelet", "-o", tmp_path / "new", "--set", f"data.path={tmp_path / 'two.nc'}"),
            "rain, wind; name one with --variable",
        ),
        (("coarsen", tmp_path / "dims.nc", *coarsen), "it has rain (a, b)"),
        (
            ("coarsen", tmp_path / "dims.nc", *coarsen, "--variable", "rain"),
            "no y and no x dimension among (a: 4, b: 4)",
        ),
        (("coarsen", tmp_path / "uneven.nc", *coarsen), "lat is not evenly spaced"),
        (("coarsen", fine, "--factor", "1x5", "-o", out), "a crop to 4 x 10 x 20 would be"),
        (("coarsen", fine, "--factor", "2.5", "-o", out), "factor '2.5' is not understood"),
        (
            ("coarsen", fine, "--factor", "1x4", "-o", tmp_path / "there.nc"),
            "exists: choose another name or give --overwrite",
        ),
        (("coarsen", fine, "--factor", "1x4", "-o", tmp_path / "out.txt"), "must end in .nc or .zarr"),
        (("coarsen", fine, "-o", out), "--factor"),
        (("coarsen", fine, *coarsen, "--frobnicate"), "--frobnicate"),
        (("coarse", fine), 'Did you mean "coarsen"'),
        (("downscale", tmp_path / "model", tmp_path / "fien.nc", "-o", out), "does not exist"),
        (("downscale", tmp_path / "model", fine, "-o", tmp_path / "there.nc"), "--overwrite"),
        (("downscale", tmp_path / "model", fine, "-o", out, "--members", "two"), "--members"),
        (("downscale", tmp_path / "model", fine, "-o", out, "--variance=psychic"), "--variance"),
        (
            ("downscale", tmp_path / "model", fine, "-o", out, "--variance", "psychic"),
            "--variance is 'psychic', but must be one of auto, head, members, denoiser",
        ),
        (("downscale", tmp_path / "model", fine, "-o", out, "--window", "0x4"), "--window is '0x4', but must be"),
        (("downscale", tmp_path / "model", fine, "-o", out, "--window", "big"), "--window is 'big', but must be"),
        (("fit", "rain", "-o", tmp_path / "model", "--set", "epochs"), "key=value"),
        (("fit", "rain", "-o", tmp_path / "model", "--set", "a={"), "--set a is not readable YAML"),
        (("info", tmp_path / "nowhere"), "does not exist"),
    ]


def test_bad_input_is_one_line_and_exit_code_2(rain, tmp_path, capfd):
    cases = bad_inputs(rain(), tmp_path)
    before = sorted(p.name for p in tmp_path.iterdir())
    for words, said in cases:
        code, out, err = run(capfd, *words)
        assert code == 2, (words, err)
        assert len(err) == 1 and err[0].startswith("finescale: ") and said in err[0], (words, err)
        assert "Traceback" not in err[0] and not out
        assert sorted(p.name for p in tmp_path.iterdir()) == before, words
    assert (tmp_path / "there.nc").read_text() == "keep me"


def test_a_subprocess_exits_with_2(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "finescale", "info", str(tmp_path / "no.nc")], capture_output=True, text=True
    )
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and not done.stdout


def test_what_a_prediction_needs_loads_no_compiler():
    """A model is first built without values, to see its size; benchmarks/startup.py has the seconds."""
    code = (
        "import sys, finescale.verbs, finescale.data.files, finescale.inference.predict;"
        "from finescale.config.build import build_model; from finescale.config.read import read_config;"
        "small = {'denoiser.backbone': {'kind': 'unet', 'width': 8, 'attention': True}, 'factor': '3x4'};"
        "build_model(read_config('wavelet', small)); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"torch", "xarray"} <= loaded
    assert not loaded & {"torch._dynamo", "sympy", "scipy.spatial", "distributed", "matplotlib", "pysteps"}


def test_what_an_event_loop_says_of_the_others_is_not_said(fine, tmp_path):
    """Several arrays' metadata are read at once: the first error ends the command, the others come at its end."""
    store = tmp_path / "half.zarr"
    open_store(fine).to_zarr(store, consolidated=False)
    metadata = sorted(store.glob("*/zarr.json"))
    for path in metadata:
        path.write_bytes(path.read_bytes()[:200])
    done = subprocess.run([sys.executable, "-m", "finescale", "info", str(store)], capture_output=True, text=True)
    assert len(metadata) > 2 and done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and "damaged" in done.stderr, done.stderr


def test_debug_shows_the_traceback(tmp_path, capfd):
    code, _, err = run(capfd, "info", tmp_path / "no.nc", "--debug")
    assert code == 2 and any("Traceback" in line for line in err)


def test_a_fault_of_our_own_is_1_and_an_interruption_130(fine, tmp_path, capfd, monkeypatch):
    def raising(error):
        def fail(*_, **__):
            raise error

        return fail

    words = ("coarsen", fine, "-o", tmp_path / "o.nc", "--factor", "1x4")
    monkeypatch.setattr("finescale.verbs.coarsen", raising(ZeroDivisionError("a\nb")))
    assert run(capfd, *words) == (
        1,
        "",
        ["finescale: fault of finescale's own: ZeroDivisionError: a b; --debug shows where"],
    )
    monkeypatch.setattr("finescale.verbs.coarsen", raising(KeyboardInterrupt()))
    code, _, err = run(capfd, *words)
    assert code == 130 and len(err) == 1 and not (tmp_path / "o.nc").exists()


def test_overrides():
    assert runner.overrides(["a.b=1", "c=[x, y]", "d=true", "e=a=b"]) == {
        "a.b": 1,
        "c": ["x", "y"],
        "d": True,
        "e": "a=b",
    }


@pytest.mark.parametrize("words", [["info", "fine.nc"], ["--help"]])
def test_a_reader_that_ends_is_no_fault(fine, tmp_path, words):
    """As that of ``finescale info fine.nc | head -1``."""
    with subprocess.Popen(
        [sys.executable, "-m", "finescale", *words], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode != 0
