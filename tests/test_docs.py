"""README and docs: every ``bash`` block runs as it is written, page by page, on small made-up files.

- The commands of a page run in one folder, in order, as somebody does who follows it; each must end with exit code 0.
- Files and models that a page reads and does not make are given: `given`, under the names the docs use.
- Networks, budgets and members are made smaller by words that are appended to a command (`SMALLER`); of two settings
  the later one counts.
- A ``yaml`` block that begins with ``# NAME.yaml`` is written to that file.
- A command of `ONCE` runs on one page.
- A block that cannot run here says so, and why, in the line above: ``<!-- not run: installs -->``.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from finescale.cli import main
from finescale.data.synthetic import gaussian_field, synthetic_rain
from finescale.data.writing import write

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BUDGET = ["--set", "train.minutes=null", "--set", "train.steps=2", "--set", "train.batch=2"]
SMALLER = {
    "fit": [*BUDGET, "--set", "mean.backbone.width=8", "--set", "denoiser.backbone.width=8"],
    "fit --distill": BUDGET,
    "fit --start": BUDGET,
    "calibrate": ["--crops", "2"],
    "downscale": ["--members", "2"],
    "verify": ["--baselines", "nearest", "--no-report"],
}
"""Words appended to a command; ``--members 0`` stays."""
ONCE = {"demo --real"}
"""Commands that depend on nothing and take long: those of the README alone are run."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and why it is not run, if so."""

    language: str
    text: str
    excuse: str


def blocks(page: str) -> Iterator[Block]:
    pattern = r"(?:^<!-- not run: (?P<excuse>[^\n]+) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$"
    for found in re.finditer(pattern, page, re.MULTILINE | re.DOTALL):
        yield Block(found["language"], found["text"], found["excuse"] or "")


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command of a block, without comments."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            yield words


def smaller(words: list[str]) -> list[str]:
    """A command's words with those that make it small."""
    name = " ".join(words[1:3]) if " ".join(words[1:3]) in SMALLER else words[1]
    if name == "downscale" and "--members" in words:
        at = words.index("--members")
        return words if words[at + 1] == "0" else [*words[:at], *words[at + 2 :], *SMALLER[name]]
    settings = SMALLER.get(name, [])
    if "conservative-cnn" in words:  # which has no denoiser
        settings = [*BUDGET, "--set", "mean.backbone.width=8"]
    if "one-step" in words:  # nor has this
        settings = [*BUDGET, "--set", "generator.backbone.width=8"]
    if "mean=none" in words:  # which has no width
        at = settings.index("mean.backbone.width=8")
        settings = [*settings[: at - 1], *settings[at + 1 :]]
    return [*words, *settings]


def rain(start: str, seed: int) -> xr.Dataset:
    """Six hours, every ten minutes, of 160 × 160 cells of .01°."""
    da = synthetic_rain((36, 160, 160), seed=seed, cadence_minutes=10.0, start=start)
    lat = ("lat", 45 + 0.01 * np.arange(160), {"units": "degrees_north"})
    lon = ("lon", 5 + 0.01 * np.arange(160), {"units": "degrees_east"})
    return da.drop_vars(["y", "x"]).rename(y="lat", x="lon").assign_coords(lat=lat, lon=lon).to_dataset()


def sst() -> xr.Dataset:
    """Temperatures of 64 × 96 cells, every month from 2007 to 2012."""
    time = np.arange("2007-01", "2013-01", dtype="datetime64[M]").astype("datetime64[ns]")
    coords = {
        "time": time,
        "lat": ("lat", 30 + 0.25 * np.arange(64), {"units": "degrees_north"}),
        "lon": ("lon", 0.25 * np.arange(96), {"units": "degrees_east"}),
    }
    values = 290 + 3 * gaussian_field((time.size, 64, 96), seed=5, outer_km=20.0)
    return xr.Dataset({"sst": (("time", "lat", "lon"), values.astype(np.float32), {"units": "K"})}, coords)


def weather() -> tuple[xr.Dataset, xr.Dataset]:
    """Rain and temperature of six times, and another source's at the same times on coarser cells."""
    fine = rain("2020-06-01", 3).isel(time=slice(6)).rename(precipitation_rate="rain")
    shape = fine.rain.shape
    fine["t2m"] = fine.rain.copy(data=280 + 3 * gaussian_field(shape, seed=7, outer_km=30.0).astype(np.float32))
    fine.t2m.attrs = {"units": "K"}
    coords = {
        "time": fine.time,
        "lat": ("lat", 44.9 + 0.07 * np.arange(27), {"units": "degrees_north"}),
        "lon": ("lon", 4.9 + 0.07 * np.arange(27), {"units": "degrees_east"}),
    }
    values = np.abs(np.random.default_rng(4).normal(size=(3, 6, 27, 27))).astype(np.float32)
    scales = {"pr": (2e-4, 0, "kg m-2 s-1"), "t2m": (3, 5, "degC"), "msl": (8, 1010, "hPa")}
    fields = {
        name: (("time", "lat", "lon"), a * x + b, {"units": units})
        for x, (name, (a, b, units)) in zip(values, scales.items(), strict=True)
    }
    return fine, xr.Dataset(fields, coords)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pages may read: fine fields (FINE.nc and radar.nc are the same, and so are fine.nc and truth.nc, of another
    year, whose first hours are hour_00.nc and hour_01.nc), and, by the commands, block means of fine.nc, a model and
    its ensemble."""
    folder = tmp_path_factory.mktemp("given")
    write(rain("2019-12-31T21:00", 1), folder / "FINE.nc")
    write(rain("2021-06-01", 2), folder / "fine.nc")
    write(sst(), folder / "sst.nc")
    for hour in range(2):
        write(rain("2021-06-01", 2).isel(time=slice(6 * hour, 6 * hour + 6)), folder / f"hour_{hour:02}.nc")
    fine, other = weather()
    write(fine, folder / "weather.nc")
    write(other, folder / "reanalysis.nc")
    several = xr.concat([fine * np.float32(scale) for scale in (0.9, 1.0, 1.1)], "realization", coords="minimal")
    write(several.assign_coords(realization=range(3)), folder / "members.nc")
    mask = rain("2021-06-01", 2).precipitation_rate[0, :, :].drop_vars("time").rename("valid")
    write(mask.copy(data=np.broadcast_to(mask.lat.values[:, None] < 45.8, mask.shape)).astype(np.float32).to_dataset(),
          folder / "mask.nc")  # fmt: skip
    shutil.copy(folder / "FINE.nc", folder / "radar.nc")
    shutil.copy(folder / "fine.nc", folder / "truth.nc")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for line in (
            "finescale coarsen fine.nc -o coarse.nc --factor 1x8",
            "finescale fit wavelet -o model --set data.path=radar.nc",
            "finescale downscale model coarse.nc -o ensemble.nc",
        ):
            assert main(smaller(line.split())[1:]) == 0
    return folder


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_the_commands_of_a_page_run(
    page: Path, given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for block in blocks(page.read_text(encoding="utf-8")):
        name = re.match(r"# (\w+\.yaml)\n", block.text)
        if block.language == "yaml" and name:
            text = re.sub(r"(?<![\w.])(\w+\.nc)\b", lambda found: str(given / found[1]), block.text)
            (tmp_path / name[1]).write_text(text, encoding="utf-8")
        if block.language != "bash" or block.excuse:
            continue
        for words in commands(block.text):
            assert words[0] == "finescale", f"{words}: only finescale's own commands run here; say why this is not run"
            if " ".join(words[1:]) in ONCE and page.name != "README.md":
                continue
            for word in re.findall(r"[\w.]+", " ".join(words)):
                made = tmp_path / word
                outputs = {words[k + 1] for k, option in enumerate(words[:-1]) if option in ("-o", "--output")}
                if (given / word).exists() and word not in outputs and not made.exists():
                    made.symlink_to(given / word)
            capfd.readouterr()
            code = main(smaller(words)[1:])
            assert code == 0, f"finescale {' '.join(words[1:])}: exit code {code}: {capfd.readouterr().err}"


ELSEWHERE = ("a bucket", "a server", "SLURM", "a cluster", "torchrun")
"""What a test's machine does not have; the tests of these things bring servers and processes of their own."""


def test_what_is_not_run_is_little_and_says_why() -> None:
    found = [block for page in PAGES for block in blocks(page.read_text(encoding="utf-8")) if block.language == "bash"]
    excused = [block.excuse for block in found if block.excuse]
    here = [excuse for excuse in excused if not any(thing in excuse for thing in ELSEWHERE)]
    assert len(found) - len(excused) >= 20 and len(here) <= 3


@pytest.mark.parametrize(
    ("line", "made"),
    [
        ("finescale downscale m c -o o --members 16 --steps 4", "finescale downscale m c -o o --steps 4 --members 2"),
        ("finescale downscale m c -o o --members 0", "finescale downscale m c -o o --members 0"),
        ("finescale info m", "finescale info m"),
    ],
)
def test_what_makes_a_command_smaller(line: str, made: str) -> None:
    assert smaller(line.split()) == made.split()
