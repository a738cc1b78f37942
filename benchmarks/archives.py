"""Every file of rain in an archive through the commands: cut, coarsen, fit (a moment), downscale, verify.

    python benchmarks/archives.py DATA --work FOLDER [--results benchmarks/results]

Rain is what `finescale.data.units.is_rain` takes for it, in every file of DATA and DATA/readers that opens, read as
READING says. Of each variable the wettest times and square are cut out by ``coarsen --factor 1x1 --select``, so that a
file takes seconds; what is asked is whether the commands go through, and whether members average to the coarse field,
which ``coarsen`` says again of the members themselves:

    residual = max |A x − c| / max |c|        over members, times and coarse cells

A command runs in a process of its own, forked from one that has imported what the commands import: its seconds are
without that. It must succeed, or end with exit code 2 and one line. Writes archives.json and archives.md as it goes;
what archives.json holds is not done again. Needs the extras geo and grib.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np

from finescale.cli import main as main_of_finescale
from finescale.data.files import gridded, open_field, open_store
from finescale.data.units import in_mm_per_hour, is_rain
from finescale.errors import InputError
from finescale.grids.dimensions import texts

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["finescale.training.fit", "finescale.verify.report", "finescale.verbs", "netCDF4"])
CELLS, TIMES, BLOCK, LOOKED = 96, 4, 4, 12
"""Of the part that is cut out; cells of a coarse one; times that are looked at."""
READING = {
    "small_rotPole": "?units=mm d-1",
    "pr_day": "?units=mm d-1",
    "arome_PRECIP": "?units=mm h-1",
    "hrrr": "?stepRange=11-12",
    "ST4": "?units=mm h-1",
    "MRMS_Reflectivity": "?missing=-999&undetect=-99&zr=200,1.6",
    "201609281620": "?zr=200,1.6",
}
"""What is said of reading, by the start of a file's name."""
SETTINGS = {
    "factor": f"1x{BLOCK}",
    "data.crop": 16,
    "data.min_valid": 0.5,
    "data.min_wet": 0,
    "train.minutes": "null",
    "train.steps": 20,
    "train.batch": 2,
    "train.warmup": 2,
    "mean.backbone.width": 8,
    "denoiser.backbone.width": 8,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder with the files")
    parser.add_argument("--work", type=Path, required=True, help="a folder for what is made")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    path = args.results / "archives.json"
    rows = json.loads(path.read_text())["files"] if path.is_file() else []
    known = {(row["file"], row["variable"]) for row in rows}
    for file, variable, reason in apart(rains, args.data):
        if (file.name, variable) in known:
            continue
        row = {"file": file.name, "variable": variable}
        row |= {"reason": reason} if reason else through(file, variable, args.work / f"{file.name}.{variable}")
        rows.append(row)
        print(json.dumps(row), flush=True)
        path.write_text(json.dumps({"settings": SETTINGS, "files": rows}, indent=1) + "\n")
        (args.results / "archives.md").write_text(table(rows))
    wrong = [row["file"] for row in rows if any(one["code"] not in (0, 2) or one["lines"] > 1 for one in ran(row))]
    sys.exit(f"neither done nor refused in one line: {', '.join(wrong)}" if wrong else 0)


def apart(function: Callable[..., Any], *given: Any) -> Any:
    """What a function returns, called in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=FORKS, max_tasks_per_child=1) as pool:
        return pool.submit(function, *given).result()


def rains(data: Path) -> list[tuple[Path, str, str]]:
    """(file, variable, why it is left out) of every variable that is rain, and of files that cannot be opened."""
    found = []
    for path in sorted(p for folder in (data, data / "readers") for p in folder.glob("*") if p.is_file()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                ds = open_store(f"{path}{reading(path)}")
            except InputError as error:
                found.append((path, "", str(error).replace(f"{path.parent}/", "")))
                continue
            found += [(path, str(name), "") for name in gridded(ds) if is_rain(ds[name])]
    return found


def reading(path: Path) -> str:
    return next((text for start, text in READING.items() if path.name.startswith(start)), "")


def through(path: Path, variable: str, folder: Path) -> dict[str, Any]:
    """What came of each command, by its name; those after a failed one are left out."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    fine, coarse, out, again = (folder / f"{name}.nc" for name in ("fine", "coarse", "out", "again"))
    read = f"{path}{reading(path)}"
    part = json.dumps(apart(ranges, read, variable))
    settings = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    commands: dict[str, list[object]] = {
        "cut": ["coarsen", read, "-o", fine, "--factor", "1x1", "--variable", variable, "--select", part],
        "coarsen": ["coarsen", fine, "-o", coarse, "--factor", f"1x{BLOCK}"],
        "fit": ["fit", "wavelet", "-o", folder / "model", "--set", f"data.path={fine}", *settings],
        "downscale": ["downscale", folder / "model", coarse, "-o", out, "--members", 4, "--steps", 4],
        "verify": ["verify", out, fine, "--coarse", coarse, "-o", folder / "report"],
        "again": ["coarsen", out, "-o", again, "--factor", f"1x{BLOCK}"],
    }
    row: dict[str, Any] = {"part": part}
    for name, words in commands.items():
        row[name] = run(folder, *words)
        if row[name]["code"]:
            return row
    row["residual"] = apart(residual, again, coarse, variable)
    return row


def ranges(read: str, variable: str) -> dict[str, list[Any]]:
    """The `TIMES` times and `CELLS` x `CELLS` cells with the most rain, as --select has them; whole blocks."""
    warnings.simplefilter("ignore")
    da = open_field(read, variable)
    da = da.isel(realization=0) if "realization" in da.dims else da
    *_, time, y, x = da.dims
    frames = np.asarray(in_mm_per_hour(da.isel({time: slice(LOOKED)})).clip(0, 100).mean([y, x]).values)
    t = window(frames, min(TIMES, frames.size))
    part = da.isel({time: slice(*t)}).mean(time).fillna(0.0)
    rows = window(np.asarray(part.mean(x).values), whole(da.sizes[y]))
    columns = window(np.asarray(part.isel({y: slice(*rows)}).mean(y).values), whole(da.sizes[x]))
    found = {}
    for dim, (first, last) in ((time, t), (y, rows), (x, columns)):
        if dim in da.coords and last - first < da.sizes[dim]:
            values = texts(da[dim]) if dim == time and da[dim].dtype.kind in "MO" else da[dim].values.tolist()
            edge = [values[first], values[last] if last < len(values) else None]
            if len(values) > 1 and values[0] > values[-1]:
                edge = [values[last - 1], values[first - 1] if first else None]
            found[str(dim)] = edge
    return found


def whole(cells: int) -> int:
    """Cells that are cut out of so many."""
    return min(CELLS, cells) // BLOCK * BLOCK


def window(values: np.ndarray, size: int) -> tuple[int, int]:
    """First and one past the last of the ``size`` neighbours with the largest sum."""
    sums = np.convolve(np.nan_to_num(values), np.ones(size), "valid")
    first = int(np.argmax(sums))
    return first, first + size


def residual(again: Path, coarse: Path, variable: str) -> float:
    found, wanted = open_field(again, variable).values, open_field(coarse, variable).values
    return float(np.nanmax(np.abs(found - wanted)) / np.nanmax(np.abs(wanted)))


def run(folder: Path, *words: object) -> dict[str, Any]:
    """Exit code, seconds and what a command says on stderr; progress bars are overwritten lines."""
    try:
        code, seconds, said = apart(command, [str(word) for word in words])
    except BrokenProcessPool:
        code, seconds, said = -1, 0.0, "the process was ended"
    lines = [line.removeprefix("finescale: ") for line in said.splitlines() if line.startswith("finescale: ")]
    # Names of files, without the folders of one machine.
    for parent in {f"{folder}/", *(f"{Path(str(word)).parent}/" for word in words if str(word).startswith("/"))}:
        lines = [line.replace(parent, "") for line in lines]
    refused = [line for line in lines if not line.startswith("warning: ")]
    return {
        "code": code,
        "seconds": round(seconds, 1),
        "lines": len(refused) if refused or not code else len(said.splitlines()),
        "says": (refused or lines or [""])[0],
    }


def command(words: list[str]) -> tuple[int, float, str]:
    """Exit code, seconds, and what is said on stderr, by libraries in C too."""
    with tempfile.TemporaryFile() as err:
        os.dup2(err.fileno(), 2)
        os.dup2(err.fileno(), 1)
        started = time.perf_counter()
        code = main_of_finescale(words)
        sys.stderr.flush()
        err.seek(0)
        return code, time.perf_counter() - started, err.read().decode(errors="replace")


def ran(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The commands of a row."""
    return [one for one in row.values() if isinstance(one, dict)]


def table(rows: list[dict[str, Any]]) -> str:
    """A row a variable: exit codes, the residual, seconds, what is said."""
    commands = ("cut", "coarsen", "fit", "downscale", "verify", "again")
    lines = [f"| file | variable | {' | '.join(commands[:5])} | residual | s | what is said |"]
    lines.append("|---" * 10 + "|")
    for row in rows:
        codes = [str(row[name]["code"]) if name in row else "–" for name in commands[:5]]
        told = [f"{name}: {row[name]['says']}" for name in commands if name in row and row[name]["code"]]
        said = (row.get("reason") or "; ".join(told)).replace("|", "/")
        seconds = f"{sum(one['seconds'] for one in ran(row)):.0f}" if ran(row) else "–"
        left = f"{row['residual']:.1e}" if "residual" in row else "–"
        lines.append(f"| `{row['file']}` | {row['variable']} | {' | '.join(codes)} | {left} | {seconds} | {said} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
