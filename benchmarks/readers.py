"""Which files of others are read, and what is said of those that are not: every file through the commands.

    python benchmarks/readers.py DATA

DATA holds a folder ``readers`` with files of weather services as they publish them (GRIB 1 and 2, ODIM HDF5, GeoTIFF,
other calendars, rotated poles), and cordex_iberia_eur44_djf.nc. Each goes through `finescale info` as it is, and
through `coarsen` as FILES says, with what has to be said of reading; those with more than one time also through `fit`
(a few steps of a small network), `downscale` and `verify`. A command must succeed, or end with exit code 2 and one
line.

Writes readers.json and readers.md. Needs the extras geo and grib.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SMALL = {
    "factor": "1x2",
    "data.crop": 16,
    "data.min_valid": 0.02,
    "data.min_wet": 0,
    "train.minutes": "null",
    "train.steps": 5,
    "train.batch": 2,
    "mean.backbone.width": 8,
    "denoiser.backbone.width": 8,
}
"""Settings of `fit`: whether it goes through, not how good it is."""


@dataclass(frozen=True)
class File:
    """A file, and how it is read.

    Attributes:
        name: below DATA.
        kind: what it is.
        reading: what is said after its name, for all commands but info.
        variable: the variable, where there are several.
        times: whether it has more than one time.
    """

    name: str
    kind: str
    reading: str = ""
    variable: str = ""
    times: bool = False


_DAILY = "na10kgrid_qm-moving-50bins-detrend_2095.nc"
FILES = (
    File("cordex_iberia_eur44_djf.nc", "NetCDF, rotated pole, two variables", "", "pr", True),
    File("readers/small_rotPole_precipitation.nc", "NetCDF, rotated pole", "?units=mm d-1", times=True),
    File(f"readers/pr_day_CanESM2_rcp85_r1i1p1_{_DAILY}", "NetCDF, no-leap calendar", "?units=mm d-1", times=True),
    File(
        f"readers/pr_day_HadGEM2-CC_rcp85_r1i1p1_{_DAILY}", "NetCDF, calendar of 360 days", "?units=mm d-1", times=True
    ),
    File("readers/era5-2mt-2019-03-uk.grib", "GRIB 1, 744 hours of ERA5", times=True),
    File(
        "readers/arome_PRECIP_SE_20180501000000.grib",
        "GRIB 1, AROME's rain since the start of the forecast",
        "?units=mm h-1",
        times=True,
    ),
    File(
        "readers/Z__C_RJTD_20160822020000_NOWC_GPV_Ggis10km_Pphw10_FH0000-0100_grib2.bin",
        "GRIB 2 with tables of its own (JMA), 7 times",
        times=True,
    ),
    File("readers/arome_antilles_sp1_01h_20221112.grib2", "GRIB 2, 15 variables at 4 kinds of level", "", "t2m"),
    File("readers/hrrr_20201214_t00z_f12_apcp.grib2", "GRIB 2, Lambert, sums over 1 and 12 h", "?stepRange=11-12"),
    File("readers/ST4.2002030112.06h.grb", "GRIB 1, polar stereographic, a sum over 6 h", "?units=mm h-1"),
    File("readers/MRMS_PrecipFlag_00.00_20260219-042400.grib2.gz", "GRIB 2 in gzip, classes of precipitation"),
    File(
        "readers/MRMS_ReflectivityAtLowestAltitude_00.50_20230406-120039.grib2.gz",
        "GRIB 2 in gzip, dBZ without units",
        "?missing=-999&undetect=-99&zr=200,1.6",
    ),
    File("readers/201609281620_FINUTM.tif", "GeoTIFF, dBZ by gain and offset in its tags", "?zr=200,1.6"),
    File("readers/2024-10-08T120000Z-rainfall_rate-composite-opera.h5", "ODIM HDF5, a composite of Europe"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder with the files")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    rows = []
    for file in FILES:
        with tempfile.TemporaryDirectory() as folder:
            rows.append({"file": Path(file.name).name, "kind": file.kind, "reading": file.reading})
            rows[-1] |= through(file, args.data / file.name, Path(folder))
            print(json.dumps(rows[-1]), flush=True)
    args.results.mkdir(exist_ok=True)
    (args.results / "readers.json").write_text(json.dumps({"settings": SMALL, "files": rows}, indent=1) + "\n")
    (args.results / "readers.md").write_text(table(rows))
    wrong = [row["file"] for row in rows if any(one["code"] not in (0, 2) or one["lines"] > 1 for one in ran(row))]
    sys.exit(f"neither read nor refused in one line: {', '.join(wrong)}" if wrong else 0)


def through(file: File, path: Path, folder: Path) -> dict[str, Any]:
    """What became of each command, by its name; one that needs a failed one is left out."""
    read, named = f"{path}{file.reading}", ["--variable", file.variable] if file.variable else []
    done = {"info": run("info", str(path))}
    done["coarsen"] = run("coarsen", read, *named, "--factor", "1x2", "--crop", "-o", str(folder / "coarse.nc"))
    if not file.times or done["coarsen"]["code"]:
        return done
    settings = SMALL | {"data.path": f"'{read}'"} | ({"data.variable": file.variable} if file.variable else {})
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    done["fit"] = run("fit", "wavelet", "-o", str(folder / "model"), *words)
    out = str(folder / "fine.nc")
    if not done["fit"]["code"]:
        done["downscale"] = run(
            "downscale", str(folder / "model"), str(folder / "coarse.nc"), "-o", out, "--members", "2", "--steps", "2"
        )
        if not done["downscale"]["code"]:
            words = ["--baselines", "nearest", "-o", str(folder / "report")]
            done["verify"] = run("verify", out, read, *named, *words)
    return done


def run(*words: str) -> dict[str, Any]:
    """Exit code, seconds and what a command says on stderr; progress bars are overwritten lines."""
    started = time.perf_counter()
    ended = subprocess.run([sys.executable, "-m", "finescale", *words], capture_output=True, text=True, check=False)
    lines = [line for line in ended.stderr.splitlines() if line.startswith("finescale: ")]
    said = [line.removeprefix("finescale: ").replace(f"{Path(words[1]).parent}/", "") for line in lines]
    warned = [line for line in said if line.startswith("warning: ")]
    refused = [line for line in said if not line.startswith("warning: ")]
    return {
        "code": ended.returncode,
        "seconds": round(time.perf_counter() - started, 1),
        "lines": len(refused),
        "says": refused[0] if refused else warned[0] if warned else "",
    }


def ran(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The commands of a row."""
    return [one for one in row.values() if isinstance(one, dict)]


def table(rows: list[dict[str, Any]]) -> str:
    """One row a file; yes, or refused, and what is said."""
    commands = ("info", "coarsen", "fit", "downscale", "verify")
    lines = [f"| file | what | read with | {' | '.join(commands)} | what is said |"]
    lines.append("|---" * (len(commands) + 4) + "|")
    for row in rows:
        marks = ["–" if name not in row else "refused" if row[name]["code"] else "yes" for name in commands]
        # Of a model trained on its own truth there is more to say, but not of reading.
        told = [row[name] for name in commands if name in row and (name in ("info", "coarsen") or row[name]["code"])]
        said = "; ".join(dict.fromkeys(one["says"] for one in told if one["says"])).replace("|", "/")
        reading = f"`{row['reading']}`" if row["reading"] else "–"
        lines.append(f"| `{row['file']}` | {row['kind']} | {reading} | {' | '.join(marks)} | {said} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
