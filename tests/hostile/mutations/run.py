"""Mutations one after the other, what came of each, and a table.

    python -m tests.hostile.mutations [--count 2000] [--seed 0] [--seconds 1800] [--data FOLDER]
                                      [--results benchmarks/results] [--only NUMBER ...] [--keep FOLDER]
                                      [--whole] [--light]

Mutation NUMBER of SEED, with or without ``--light`` (info and coarsen alone, which take no model and little time), is
the same whenever it is made. With ``--results`` what is found is written there as it goes (mutations.json and .md), and
what is right there is not done again. ``--data`` adds the files of a folder to those that are made; ``--keep`` keeps
the mutated files of what was wrong. Exits with 1 if anything was.

A command is right if it ends by itself within `isolated.SECONDS` of the processor and `isolated.MEMORY`; with exit
code 0 and its output there, or with 2, one line that begins with finescale: (warnings may stand before it), and
nothing written; and the mutated file is as it was.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import random
import re
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.hostile.cases import contents, names
from tests.hostile.mutations import changes, isolated, subjects
from tests.hostile.mutations.subjects import Subject

WARNED = r"finescale: warning: |[\w ]+: +\d+%\|"
"""What a command may say on stderr and succeed: warnings and progress bars."""
WEIGHTS = {"info": 4, "coarsen": 6, "downscale": 3, "fit": 1, "verify": 1}
"""How often a command is drawn, where a subject has it: those that read alike, and cost more, less often."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1800, help="begin no mutation later than that")
    parser.add_argument("--data", type=Path, help="a folder with real files")
    parser.add_argument("--results", type=Path, help="a folder for mutations.json and mutations.md")
    parser.add_argument("--only", type=int, nargs="+", help="these mutations alone")
    parser.add_argument("--subject", help="those of this subject alone, by the start of its name")
    parser.add_argument("--light", action="store_true", help="info and coarsen alone")
    parser.add_argument("--whole", action="store_true", help="first, every command on what is not mutated")
    parser.add_argument("--keep", type=Path, help="a folder for the mutated files of what was wrong")
    args = parser.parse_args()
    began, folder = time.monotonic(), Path(tempfile.mkdtemp(prefix="mutations-"))
    try:
        made = folder / "made"
        made.mkdir()
        ready(made, args.light)
        rows = read(args.results)
        known = subjects.subjects() + (subjects.real(args.data) if args.data else [])
        if args.light:
            known = [replace(one, commands=light) for one in known if (light := subjects.light(one))]
        if args.whole:
            wholes(known, made, folder)
        run = f"{'light ' if args.light else ''}{args.seed}"
        for number in args.only or range(args.count):
            if time.monotonic() - began > args.seconds:
                break
            chosen, key = known[number % len(known)].name, (run, number)
            if (key in rows and not rows[key]["fault"]) or not chosen.startswith(args.subject or ""):
                continue
            rows[key] = {"run": run} | mutation(known, args.seed, number, made, folder / "case", args.keep)
            if rows[key]["fault"]:
                print(json.dumps(rows[key]), flush=True)
            if args.results and number % 20 == 19:
                write(args.results, rows)
        if args.results:
            write(args.results, rows)
        print(table(list(rows.values())))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(any(row["fault"] for row in rows.values()))


def ready(made: Path, light: bool) -> None:
    """Make the files in ``made``, and import here what the commands import, in their order."""

    def make() -> int:
        from finescale.cli import main as command

        plain = str(made / "plain.nc")
        if light:
            subjects.formats(made)
        else:
            subjects.make(made)
            assert command(["verify", str(made / "ensemble.nc"), plain, "--baselines", "none", "-o", "v"]) == 0
        assert command(["info", plain]) == command(["coarsen", plain, "--factor", "1x4", "-o", "c.zarr"]) == 0
        (made / "modules").write_text("\n".join(sys.modules))
        return 0

    done = isolated.run(make, made)
    if done.code:
        sys.exit(f"files could not be made: {done.err}")
    for name in (made / "modules").read_text().split("\n"):
        if name.split(".")[0] not in ("__main__", "__mp_main__", "tests") and name not in sys.modules:
            try:
                importlib.import_module(name)
            except ImportError:
                continue  # a name that a module gave itself
    gc.collect()
    gc.freeze()  # so that processes share what is imported


def wholes(known: Sequence[Subject], made: Path, folder: Path) -> None:
    """Every command must succeed on what is not mutated."""
    for subject in known:
        for variants in subject.commands.values():
            for words in variants[:1]:
                row = attempt(subject, words, made, folder / "whole", None)
                if (row["fault"] or row["code"]) and not subject.target.is_absolute():
                    sys.exit(f"{subject.name}, not mutated: {json.dumps(row)}")


def mutation(
    known: Sequence[Subject], seed: int, number: int, made: Path, folder: Path, keep: Path | None
) -> dict[str, Any]:
    """What came of one of them."""
    rng = random.Random(f"{seed} {number}")
    subject = known[number % len(known)]
    command = rng.choices([*subject.commands], [WEIGHTS[name] for name in subject.commands])[0]
    row = attempt(subject, rng.choice(subject.commands[command]), made, folder, rng, keep and keep / str(number))
    return {"number": number, "subject": subject.name, "file": subject.target.name, "command": command} | row


def attempt(
    subject: Subject,
    words: Sequence[str],
    made: Path,
    folder: Path,
    rng: random.Random | None,
    keep: Path | None = None,
) -> dict[str, Any]:
    """Run a command on a copy of what is mutated, which stands alone in an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    target = folder / subject.target.name
    changes.copied(made / subject.target, target)
    done = changes.change(target, rng) if rng else ""
    before, there = contents(target), names(folder)
    given = [word.format(target=target.name, made=made) for word in words]

    def command() -> int:
        from finescale.cli import main as run

        return run(given)

    ended = isolated.run(command, folder)
    fault = wrong(ended, given, folder, {} if subject.grows else {target: before}, there, subject.grows)
    if fault and keep:
        keep.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(keep, ignore_errors=True)
        shutil.copytree(folder, keep, symlinks=True)
    said = next((one for one in ended.err.splitlines() if one.startswith("finescale: ") and "warning:" not in one), "")
    return {
        "change": done,
        "words": " ".join(given),
        "code": ended.code,
        "seconds": round(ended.seconds, 1),
        "MiB": ended.memory >> 20,
        "says": said[:300].replace(f"{made}/", ""),
        "fault": fault.replace(f"{made}/", ""),
    }


def wrong(
    ended: isolated.Ended,
    words: Sequence[str],
    folder: Path,
    kept: dict[Path, dict[str, bytes]],
    there: set[str],
    grows: bool,
) -> str:
    """What is wrong with how a command ended, in words; nothing if all is right."""
    lines = [one for one in ended.err.splitlines() if one.strip() and not re.match(WARNED, one)]
    out, new = words[words.index("-o") + 1] if "-o" in words else None, names(folder) - there
    found = []
    if ended.signal:
        found.append(f"ended by {ended.signal} after {ended.seconds:.0f} s")
    elif ended.code not in (0, 2):
        found.append(f"exit code {ended.code}")
    if ended.memory > isolated.MEMORY:
        found.append(f"{ended.memory / 2**30:.1f} GiB")
    if ended.code == 2 and (len(lines) != 1 or not lines[0].startswith("finescale: ")):
        found.append(f"{len(lines)} lines on stderr")
    if ended.code == 0 and lines:
        found.append(f"{len(lines)} lines on stderr without an error")
    if "Traceback" in ended.err:
        found.append("a traceback")
    if ended.code == 2 and "the memory is full" in ended.err:
        found.append("asked for more memory than there is")
    if ended.code == 2 and new and not grows:
        found.append(f"leaves {', '.join(sorted(new)[:3])}")
    if ended.code == 0 and out and not (folder / out).exists():
        found.append("no output")
    if ended.code == 0 and any(".partial" in name for name in new):
        found.append("leaves a part beside its output")
    found += [f"{path.name} is changed" for path, before in kept.items() if contents(path) != before]
    return "; ".join(found) + (f"; printed: {ended.err.strip()[-1500:]}" if found else "")


def read(results: Path | None) -> dict[tuple[str, int], dict[str, Any]]:
    """What was found before, by run and number."""
    path = results and results / "mutations.json"
    if not path or not path.is_file():
        return {}
    return {(row["run"], row["number"]): row for row in json.loads(path.read_text())}


def write(results: Path, rows: dict[tuple[str, int], dict[str, Any]]) -> None:
    listed = [rows[key] for key in sorted(rows)]
    text = ",\n".join(map(json.dumps, listed))
    (results / "mutations.json").write_text(f"[\n{text}\n]\n")
    (results / "mutations.md").write_text(table(listed))


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A row for each kind of file: of each command how many were tried and right, and how many of all were refused."""
    commands = ("info", "coarsen", "downscale", "fit", "verify")
    found: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        found[row["subject"]][row["command"]].append(row)
        found["all"][row["command"]].append(row)
    lines = [f"| tried / right | {' | '.join(commands)} | all | refused in one line | most s | most MiB |"]
    lines.append("|---" * (len(commands) + 5) + "|")
    for name in [*(name for name in found if name != "all"), "all"]:
        own = [found[name][command] for command in commands]
        every = [row for some in own for row in some]
        if not every:
            continue
        cells = [f"{len(some)} / {sum(not row['fault'] for row in some)}" if some else "" for some in (*own, every)]
        refused = sum(row["code"] == 2 and not row["fault"] for row in every)
        most = max(row["seconds"] for row in every), max(row["MiB"] for row in every)
        lines.append(f"| {name} | {' | '.join(cells)} | {refused} | {most[0]} | {most[1]} |")
    return "\n".join(lines) + "\n"
