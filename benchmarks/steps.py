"""How few network evaluations do? Solvers and distilled models against the number of evaluations, on real radar rain.

    python benchmarks/steps.py DATA --models benchmarks/cache/radar --minutes 4 --seed 0

DATA is a folder with mrms_west.nc; --models is the cache of radar.py, whose trained models of one --system, by default
mean + wavelet 2, are the teachers and are sampled here with every solver (nfe, evaluations a member, counted exactly:
heun takes 2N − 1 for N steps, so its counts are the largest odd ones that fit; dpm also with other noise levels than
the model's). The distilled model is trained here, for --minutes of processor time divided by threads, on the teacher's
training crops, and sampled with noise of several amplitudes.
All systems get the same crops of the test region and the same noise; differences of CRPS from dpm with 32 evaluations
are taken crop by crop, with a bootstrap interval. Seconds a member are timed in turn, in one run, with RainFARM's.

Nothing is trained or scored twice: distilled models lie under --cache, scores in --results/steps.json. Writes
steps.json, steps.md and steps.png; for a system other than the default steps-SYSTEM.json and so on.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from protocol import interleaved, processor, rounded, timed_training
from radar import CROP, scored, test_sets, training_crops
from torch import Tensor

from finescale.cli.allocator import keep_memory
from finescale.config.build import build_model
from finescale.config.load import load
from finescale.diffusion import EDM, Distillation
from finescale.downscaler import Downscaler
from finescale.grids.factor import Factor
from finescale.model.batch import Inputs, Members
from finescale.plots.maps import png
from finescale.samplers import DPM2M, Ancestral, Consistency, Euler, EulerMaruyama, Heun, Sampler
from finescale.training.distill import PICKS, student_config
from finescale.verify import baselines, paired_bootstrap

SYSTEM = "mean+wavelet-2"
NFE = (1, 2, 4, 8, 16, 32)
DISTILLED = (1, 2, 4)
AMPLITUDES = {"distilled": 1.0, "distilled, noise x 1.1": 1.1, "distilled, noise x 1.2": 1.2}
CHECKED = 48
CHECKS = ("dpm 4", "dpm 8", "dpm 32", "dpm, sigma_min 0.1, rho 3 4", "dpm, sigma_min 0.1, rho 3 8")
"""What is scored again, with the distilled models, on more crops."""
REFERENCE = ("dpm", 32)
SOLVERS: dict[str, Sampler] = {
    "euler": Euler(),
    "heun": Heun(),
    "dpm": DPM2M(),
    "ancestral": Ancestral(),
    "euler_maruyama": EulerMaruyama(),
}
LEVELS: dict[str, dict[str, float]] = {
    "dpm, sigma_min 0.1": {"sigma_min": 0.1},
    "dpm, sigma_min 0.3": {"sigma_min": 0.3},
    "dpm, sigma_min 0.1, rho 3": {"sigma_min": 0.1, "rho": 3.0},
}
"""Noise levels other than the model's, for dpm: with few steps, those near 0 may be better spent above."""
Test = tuple[Tensor, Tensor, Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--factors", nargs="+", default=list(CROP), choices=list(CROP))
    parser.add_argument("--models", type=Path, default=Path("benchmarks/cache/radar"))
    parser.add_argument("--system", default=SYSTEM, help="which of radar.py's models")
    parser.add_argument("--teacher-minutes", type=float, default=12.0, help="budget it was trained with")
    parser.add_argument("--minutes", type=float, default=4.0, help="distillation of one model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--crops", type=int, default=12)
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--nfe", type=int, nargs="+", default=list(NFE))
    parser.add_argument("--repeats", type=int, default=5, help="rounds of timing")
    parser.add_argument("--cache", type=Path, default=Path("benchmarks/cache/steps"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    keep_memory()
    results = earlier(args)
    for name in args.factors:
        run(name, args, results)
    write(results, args)
    print(report(results))


def settings(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "teacher": f"{args.system} of radar.py, {args.teacher_minutes:g} minutes", "distillation minutes": args.minutes,
        "seed": args.seed, "members": args.members, "crops": args.crops, "threads": torch.get_num_threads(),
        "processor": processor(), "torch": torch.__version__,
        "split": "mrms: train lon < -94, validation -94 to -90, test lon >= -90",
        "scored": "with the cut of drizzle below 0.05 mm/h and the multiplicative constraint",
    }  # fmt: skip


def stem(args: argparse.Namespace) -> str:
    """The name of the results' files."""
    return "steps" if args.system == SYSTEM else f"steps-{args.system}"


def earlier(args: argparse.Namespace) -> dict[str, Any]:
    """Results of an earlier run with the same settings."""
    file, wanted = args.results / f"{stem(args)}.json", rounded(settings(args))
    found = json.loads(file.read_text()) if file.is_file() else {}
    return found if found.get("settings") == wanted else {"settings": wanted, "factors": {}}


def run(name: str, args: argparse.Namespace, results: dict[str, Any]) -> None:
    """Score, then time, every system at one factor."""
    factor = Factor.parse(name)
    teacher_folder = args.models / f"{name}-seed{args.seed}-{args.teacher_minutes:g}min" / args.system
    teacher = load(teacher_folder)
    place, test = next(iter(test_sets(args, factor, CROP[name])))
    out = results["factors"].setdefault(name, {"rows": {}, "seconds": {}})
    out["test"] = f"{place}: {len(test[0])} crops of {CROP[name]}²"
    runs = list(solvers(teacher, args))
    judge_all(runs, out["rows"], test, results, args)
    student = distilled(teacher, teacher_folder, name, args, out)
    for system, amplitude in AMPLITUDES.items():
        sampler = Consistency(student.process.sampler.levels, amplitude)
        other = with_process(student, dataclasses.replace(student.process, sampler=sampler))
        runs += [(f"{system} {n}", n, other, n) for n in DISTILLED]
    judge_all(runs, out["rows"], test, results, args)
    _, more = next(iter(test_sets(argparse.Namespace(**vars(args) | {"crops": CHECKED}), factor, CROP[name])))
    few = [run for run in runs if run[0].rsplit(" ", 1)[0] in AMPLITUDES or run[0] in CHECKS]
    judge_all(few, out.setdefault("checked", {}), more, results, args)
    if set(out["rows"]) - set(out["seconds"]):
        out["seconds"] = timings(runs, test, factor, args)
        write(results, args)


Run = tuple[str, int, Downscaler, int]
"""Label, evaluations, model, steps."""


def solvers(teacher: Downscaler, args: argparse.Namespace) -> list[Run]:
    """The teacher with every solver and number of evaluations."""
    runs: list[Run] = []
    schedule = teacher.process.schedule
    assert isinstance(schedule, EDM)
    own = {"sigma_max": schedule.sigma_max, "sigma_min": schedule.sigma_min, "rho": schedule.rho}
    systems = [(name, sampler, schedule) for name, sampler in SOLVERS.items()]
    systems += [(name, SOLVERS["dpm"], EDM(**own | changed)) for name, changed in LEVELS.items()]
    for name, sampler, levels in systems:
        process = dataclasses.replace(teacher.process, sampler=sampler, schedule=levels)
        seen = set()
        for wanted in args.nfe:
            steps = max(n for n in range(1, wanted + 1) if sampler.nfe(n) <= wanted)
            if sampler.nfe(steps) in seen:
                continue
            seen.add(sampler.nfe(steps))
            runs.append((f"{name} {sampler.nfe(steps)}", sampler.nfe(steps), with_process(teacher, process), steps))
    return runs


def with_process(model: Downscaler, process: Any) -> Downscaler:
    """The same model with another sampler or schedule; weights are shared."""
    other = model.at(model.factor)
    other.process = process
    return other


def judge_all(runs: list[Run], rows: dict[str, Any], test: Test, results: dict[str, Any], args: Any) -> None:
    fine, coarse, area = test
    for label, nfe, model, steps in runs:
        if label in rows:
            continue
        members = sample(model, coarse, area, args.members, args.seed, steps)
        found = scored(members, fine, coarse, area, model.factor)
        rows[label] = rounded({"system": label.rsplit(" ", 1)[0], "nfe": nfe, "steps": steps} | found)
        print(
            label, {key: round(found[key], 4) for key in ("crps", "spread_skill", "log_spectral_distance")}, flush=True
        )
        write(results, args)


def sample(model: Downscaler, coarse: Tensor, area: Tensor, members: int, seed: int, steps: int) -> Tensor:
    """(B, M, 1, 1, H, W) on the processor; other noise for every crop."""
    origins = [(0, i * model.multiple[1] * 64, 0) for i in range(len(coarse))]
    return model.sample(
        Inputs(coarse, area=area, origin=origins), Members(range(members), seed=seed, steps=steps)
    ).fields.cpu()


def distilled(
    teacher: Downscaler, source: Path, name: str, args: argparse.Namespace, out: dict[str, Any]
) -> Downscaler:
    """The distilled model; trained and saved where it is not there yet, resumed where that was interrupted."""
    trained = f"{name}-seed{args.seed}-{args.teacher_minutes:g}min-{args.minutes:g}min"
    folder = args.cache / trained / ("distilled" if args.system == SYSTEM else f"distilled-{args.system}")
    if not (folder / "weights.safetensors").is_file():
        old, budget = load(source, device="cpu"), {"train.minutes": args.minutes, "train.seed": args.seed}
        torch.manual_seed(args.seed)
        config = student_config(old, source, budget)
        student, train = build_model(config), config["train"]
        student.load_state_dict(old.state_dict())
        sampler = student.process.sampler
        assert isinstance(sampler, Consistency) and old.denoiser is not None
        levels = student.process.sigmas(sampler.levels)
        distillation = Distillation(old.denoiser, DPM2M(), levels, PICKS)
        crops = training_crops(args, Factor.parse(name), CROP[name])
        timed_training(
            student, *crops, args.minutes, folder, args.seed, distillation, batch=train["batch"], lr=train["lr"]
        )
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    spent = json.loads((folder / "time.json").read_text())
    out["training"] = {"last": rows[-1], "first": rows[0], "time": spent, "parameters": teacher.parameters_by_part}
    return load(folder)


def timings(runs: list[Run], test: Test, factor: Factor, args: argparse.Namespace) -> dict[str, float]:
    """Seconds a member of every system and of RainFARM, on one crop."""
    _, coarse, area = (part[:1] for part in test)
    tasks: dict[str, Callable[[], Any]] = {}
    for label, _, model, steps in runs:
        tasks[label] = lambda model=model, steps=steps: sample(model, coarse, area, args.members, args.seed, steps)
    frames = coarse[:, 0, 0].nan_to_num().numpy()
    tasks["RainFARM"] = lambda: baselines.rainfarm(frames, factor, members=args.members)
    found = interleaved(tasks, args.repeats)  # members come to the processor, which waits for the device
    return {label: seconds / args.members for label, seconds in found.items()}


# --- report


def write(results: dict[str, Any], args: argparse.Namespace) -> None:
    args.results.mkdir(parents=True, exist_ok=True)
    (args.results / f"{stem(args)}.json").write_text(json.dumps(rounded(results), indent=1))
    (args.results / f"{stem(args)}.md").write_text(report(results))
    if any(found["seconds"] for found in results["factors"].values()):
        picture(results, args)


def reference(rows: dict[str, Any]) -> dict[str, Any]:
    """The row that others are divided by: dpm with most evaluations."""
    name, nfe = REFERENCE
    own = [row for row in rows.values() if row["system"] == name and row["nfe"] <= nfe]
    return max(own or rows.values(), key=lambda row: row["nfe"])


def picture(results: dict[str, Any], args: argparse.Namespace) -> None:
    """CRPS, relative to the reference, against evaluations and against seconds a member; a row of panels a factor."""
    from matplotlib.figure import Figure

    shown = {name: found for name, found in results["factors"].items() if found["seconds"]}
    figure = Figure(figsize=(10, 3.6 * len(shown)), layout="constrained")
    panels = figure.subplots(len(shown), 2, squeeze=False)
    for (left, right), (name, found) in zip(panels, shown.items(), strict=True):
        best = reference(found["rows"])["crps"]
        systems = dict.fromkeys(row["system"] for row in found["rows"].values())
        for k, system in enumerate(systems):
            rows = {label: row for label, row in found["rows"].items() if row["system"] == system}
            nfe = [row["nfe"] for row in rows.values()]
            crps = [row["crps"] / best for row in rows.values()]
            style: dict[str, Any] = {"color": [*(f"C{n}" for n in range(10)), "k"][k], "marker": "o", "markersize": 4}
            style |= {"linewidth": 2.5} if system in AMPLITUDES else {"linestyle": "--"} if "," in system else {}
            left.plot(nfe, crps, label=system, **style)
            right.plot([found["seconds"][label] for label in rows], crps, **style)
        farm = found["seconds"]["RainFARM"]
        right.axvline(farm, color="0.3", linestyle=":")
        right.text(farm, 1.295, " RainFARM", rotation=90, va="top", color="0.3")
        left.set(
            xlabel="network evaluations a member", ylabel="CRPS / CRPS of dpm with 32", title=f"{name[0]}x{name[2:]}"
        )
        right.set(xlabel="seconds a member")
        left.set_xscale("log", base=2)
        left.set_xticks(NFE, [str(n) for n in NFE])
        right.set_xscale("log")
        for ax in (left, right):
            ax.set_ylim(0.95, 1.3)
            ax.axhline(1.02, color="0.7", linewidth=1)
        left.legend(fontsize=7)
    (args.results / f"{stem(args)}.png").write_bytes(png(figure, limit=150_000))


def table(rows: dict[str, Any], seconds: dict[str, float]) -> list[str]:
    against = reference(rows)
    lines = [
        f"| system | nfe | CRPS | / {against['system']} {against['nfe']} | 95 % | spread–skill "
        "| log-spectral distance | 99.9 % bias | s a member | / RainFARM |",
        "|---" * 10 + "|",
    ]
    for label, row in rows.items():
        _, low, high = paired_bootstrap(row["crps_by_time"], against["crps_by_time"])
        spent = seconds.get(label)
        time = ["", ""] if spent is None else [f"{spent:.4f}", f"{spent / seconds['RainFARM']:.2f}"]
        cells = [
            row["system"], f"{row['nfe']}", f"{row['crps']:.4f}", f"{row['crps'] / against['crps']:.3f}",
            f"{1 + low / against['crps']:.3f} … {1 + high / against['crps']:.3f}", f"{row['spread_skill']:.2f}",
            f"{row['log_spectral_distance']:.3f}", f"{row['p999_bias']:+.2f}", *time,
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def report(results: dict[str, Any]) -> str:
    """The tables in Markdown."""
    lines = ["# Steps", "", *(f"- {key}: {value}" for key, value in results["settings"].items())]
    for name, found in results["factors"].items():
        if not found["rows"]:
            continue
        seconds = found["seconds"]
        lines += ["", f"## {name}, {found['test']}", "", *table(found["rows"], seconds)]
        if found.get("checked"):
            lines += ["", f"{CHECKED} crops:", "", *table(found["checked"], {})]
        if seconds:
            lines += ["", f"RainFARM: {seconds['RainFARM']:.4f} s a member."]
        if "training" in found:
            first, last, spent = (found["training"][key] for key in ("first", "last", "time"))
            sizes = " + ".join(f"{n / 1e6:.2f} M {part}" for part, n in found["training"]["parameters"].items())
            lines += [
                f"Distilled in {last['step']} steps, {spent['wall_seconds']:.0f} s of wall and "
                f"{spent['processor_seconds']:.0f} s of processor time; validation loss {first['valid']:.4f} at step "
                f"{first['step']}, {last['valid']:.4f} at the end. Parameters: {sizes}."
            ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
