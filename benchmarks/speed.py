"""Speed of the whole path in one run: pixel against wavelet latents, networks against matmul, the command against both.

    python benchmarks/speed.py

All networks have the same widths (64, 64·2, 64·2) and untrained weights, which cost as much as trained ones; the field
is 256 x 256 fine cells of synthetic rain at 1x8, and 12 x 160 x 160 at 3x10 for space and time. Everything that is
compared is timed in turn, round by round, after a round that does not count; medians are given. Measured are

    network   a denoiser's evaluation, per member of a batch; its floating-point operations as torch counts them
    matmul    a large product of matrices (as such and as a convolution, the faster) in each number type: the peak
    member    conditions, mean network, 12 steps of dpm, latent to field, constraint, per member
    memory    peak of a fresh process while it samples, less that before
    command   `predict` from file to file, 8 members of 512 x 512 fine cells, and what part of it networks take

Works on CUDA as well, where there is one (--device). Writes speed.json and speed.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from protocol import interleaved, processor, rounded
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from finescale.cli.allocator import keep_memory
from finescale.config.build import build_model
from finescale.config.load import load
from finescale.data.coarsen import coarsen
from finescale.data.synthetic import synthetic_rain
from finescale.diffusion import persistence
from finescale.downscaler import Downscaler
from finescale.grids.factor import Factor
from finescale.model.batch import Inputs, Members
from finescale.model.precision import has_bfloat16
from finescale.operators.coarsen import Coarsen
from finescale.verbs import downscale
from finescale.verify import baselines

LATENTS: dict[str, Any] = {
    "pixel": "pixel",
    "wavelet 1": {"kind": "wavelet", "levels": 1},
    "wavelet 2": {"kind": "wavelet", "levels": 2},
    "wavelet 3": {"kind": "wavelet", "levels": 3},
}
IN_TIME: dict[str, Any] = {
    "pixel": "pixel",
    "wavelet 2, frames apart": {"kind": "wavelet", "levels": 2, "frames": 1},
    "wavelet 2, 3 frames together": {"kind": "wavelet", "levels": 2, "frames": 3},
}
BACKBONE = {"kind": "unet", "width": 64, "multipliers": [1, 2, 2]}
MEAN = {"kind": "network", "fold": 4, "backbone": {"kind": "unet", "width": 48, "multipliers": [1, 2, 2]}}
STEPS = 12
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="fine cells a side, a multiple of 32")
    parser.add_argument("--command-size", type=int, default=512, help="fine cells a side of the file")
    parser.add_argument("--time-size", type=int, default=160, help="fine cells a side at 3x10, a multiple of 80")
    parser.add_argument("--members", type=int, default=8, help="in a batch of wavelet models")
    parser.add_argument("--pixel-members", type=int, default=2, help="in a batch of the pixel model")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--memory", help=argparse.SUPPRESS)  # a fresh process that measures one system
    args = parser.parse_args()
    keep_memory()
    if args.memory:
        print("MiB", peak(args.memory, args))
        return
    results: dict[str, Any] = {"settings": settings(args)}
    for part in (networks, memory, command, space_time):
        results |= part(args)
        write(results, args)
    print(report(rounded(results)))


def settings(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "field": f"{args.size} x {args.size} fine cells, 1x8", "steps": f"{STEPS} (dpm, {STEPS} nfe)",
        "networks": "untrained; unet, denoiser 64 x [1, 2, 2], mean 48 x [1, 2, 2]",
        "repeats": args.repeats, "device": device_name(args), "threads": torch.get_num_threads(),
        "networks' number type": number_type(args), "torch": torch.__version__,
    }  # fmt: skip


def device_name(args: argparse.Namespace) -> str:
    return torch.cuda.get_device_name() if args.device.startswith("cuda") else processor()


def number_type(args: argparse.Namespace) -> str:
    return "bfloat16" if has_bfloat16(torch.device(args.device)) else "float32"


def build(latent: Any, args: argparse.Namespace, factor: str = "1x8", frames: int = 1) -> Downscaler:
    """An untrained model; nothing is tiled, so that all latents see the field in one piece."""
    torch.manual_seed(0)
    model = build_model(
        {
            "factor": factor,
            "variables": {"precipitation_rate": {"units": "mm h-1"}},
            "data": {"frames": frames},
            "transform": [{"kind": "log1p", "scale": 0.1, "threshold": 0.05}, "standardize"],
            "mean": MEAN,
            "latent": latent,
            "denoiser": {"backbone": BACKBONE},
            "process": {"schedule": {"kind": "edm", "sigma_max": 20, "sigma_min": 0.02}, "steps": STEPS},
            "constraint": "multiplicative",
        }
    )
    model.tile = None
    return model.to(args.device).eval().requires_grad_(False)


def members_of(system: str, args: argparse.Namespace) -> int:
    return int(args.pixel_members if system == "pixel" else args.members)


def coarse_rain(size: int, factor: str = "1x8", frames: int = 1) -> Tensor:
    """(1, 1, t, h, w), mm/h."""
    fine = torch.from_numpy(synthetic_rain((frames, size, size), seed=1).values)[None, None]
    return Coarsen(Factor.parse(factor))(fine)


def waiting(args: argparse.Namespace) -> Callable[[], Any] | None:
    return torch.cuda.synchronize if args.device.startswith("cuda") else None


def evaluation(model: Downscaler, members: int, shape: tuple[int, int, int], cast: bool = True) -> Callable[[], Tensor]:
    """One evaluation of the denoiser on a field (T, H, W) of fine cells, for a batch of members."""
    inside = [n // s for n, s in zip(shape, model.latent.stride, strict=True)]
    assert model.denoiser is not None
    z = torch.randn(members, model.latent.channels, *inside, device=model.device)
    # Interpolated and replicated coarse field, mask, and the mean.
    cond = model.latent.fold(torch.randn(members, 4, *shape, device=model.device))
    sigma = torch.ones(members, device=model.device)

    def run() -> Tensor:
        assert model.denoiser is not None
        with torch.no_grad(), model.autocast(model.device) if cast else contextlib.nullcontext():
            estimate: Tensor = model.denoiser(z, sigma, cond)
            return estimate

    return run


def operations(function: Callable[[], Any]) -> int:
    """Floating-point operations of products and convolutions, two for a multiplication and addition."""
    counter = FlopCounterMode(display=False)
    with counter:
        function()
    return int(counter.get_total_flops())


def products(dtype: torch.dtype, args: argparse.Namespace) -> tuple[dict[str, Callable[[], Tensor]], int]:
    """A product of square matrices, as such and as a 1 x 1 convolution, and its operations.

    On processors the two may come from different libraries; the faster one is the peak.
    """
    n = 8192 if args.device.startswith("cuda") else 2048
    a, b = (torch.randn(n, n, device=args.device).to(dtype) for _ in range(2))
    x = a.T.reshape(1, n, 32, n // 32).contiguous(memory_format=torch.channels_last)
    weight = b[:, :, None, None].contiguous(memory_format=torch.channels_last)

    def convolution() -> Tensor:
        with torch.no_grad():
            return torch.nn.functional.conv2d(x, weight)

    return {"product": lambda: a @ b, "convolution": convolution}, 2 * n**3


def neighbours(dtype: torch.dtype, args: argparse.Namespace) -> tuple[Callable[[], Tensor], int]:
    """A 3 x 3 convolution of 128 channels, of which networks mostly consist, and its operations."""
    channels, side = 128, 128
    x, weight = (
        torch.randn(shape, device=args.device).to(dtype).contiguous(memory_format=torch.channels_last)
        for shape in ((2, channels, side, side), (channels, channels, 3, 3))
    )

    def convolution() -> Tensor:
        with torch.no_grad():
            return torch.nn.functional.conv2d(x, weight, padding=1)

    return convolution, 2 * 2 * 9 * (channels * side) ** 2


def networks(args: argparse.Namespace) -> dict[str, Any]:
    """Evaluations, members, products and RainFARM, all in turn."""
    coarse = coarse_rain(args.size)
    rows: dict[str, dict[str, Any]] = {}
    tasks: dict[str, Callable[[], Any]] = {}
    for name, latent in LATENTS.items():
        model, count = build(latent, args), members_of(name, args)
        model.batch = count
        run = evaluation(model, count, (1, args.size, args.size))
        rows[name] = {
            "batch": count,
            "parameters": model.parameters_by_part["denoiser"],
            "operations": operations(run) / count,
        }
        tasks[f"{name}: network"] = run
        tasks[f"{name}: network in float32"] = evaluation(model, count, (1, args.size, args.size), cast=False)
        tasks[f"{name}: members"] = lambda model=model, count=count: (
            model.sample(Inputs(coarse), Members(range(count), steps=STEPS)).fields
        )
    peaks, around = {}, {}
    for name, dtype in TYPES.items():
        ways, peaks[name] = products(dtype, args)
        tasks |= {f"matmul {name} {way}": task for way, task in ways.items()}
        tasks[f"3 x 3 {name}"], around[name] = neighbours(dtype, args)
    frames, factor = coarse[0, 0].numpy(), Factor.parse("1x8")
    tasks["RainFARM"] = lambda: baselines.rainfarm(frames, factor, members=args.members)
    seconds = interleaved(tasks, args.repeats, waiting(args))
    rates = {
        name: count / min(spent for task, spent in seconds.items() if task.startswith(f"matmul {name} "))
        for name, count in peaks.items()
    }
    for name, row in rows.items():
        row["ms_an_evaluation"] = 1e3 * seconds[f"{name}: network"] / row["batch"]
        row["ms_an_evaluation_float32"] = 1e3 * seconds[f"{name}: network in float32"] / row["batch"]
        row["seconds_a_member"] = seconds[f"{name}: members"] / row["batch"]
        row["megapixels_members_a_second"] = args.size**2 / 1e6 / row["seconds_a_member"]
        row["share_of_peak"] = row["operations"] / (row["ms_an_evaluation"] / 1e3) / rates[number_type(args)]
        row["share_of_peak_float32"] = (
            row["operations"] / (row["ms_an_evaluation_float32"] / 1e3) / rates["float32"]
        )  # fmt: skip
    return {
        "systems": rows,
        "matmul_gflops": {name: rate / 1e9 for name, rate in rates.items()},
        "convolution_gflops": {name: count / seconds[f"3 x 3 {name}"] / 1e9 for name, count in around.items()},
        "rainfarm_seconds_a_member": seconds["RainFARM"] / args.members,
    }


# --- memory


def memory(args: argparse.Namespace) -> dict[str, Any]:
    """Peak memory of each system, as many members in a batch everywhere."""
    found = {}
    for name in LATENTS:
        words = [sys.executable, __file__, "--memory", name, "--device", args.device]
        words += ["--size", str(args.size), "--pixel-members", str(args.pixel_members)]
        out = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        found[name] = float(out.split("MiB")[1])
    return {"memory_mib": found}


def peak(name: str, args: argparse.Namespace) -> float:
    """MiB that sampling takes at its peak, over what the process has when the model is ready."""
    coarse, model = coarse_rain(args.size), build(LATENTS[name], args)
    if args.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.max_memory_allocated() / 2**20
    else:
        model.sample(Inputs(coarse[..., :4, :4]), Members(range(1), steps=1))  # libraries are loaded
        before = resident()
    model.batch = args.pixel_members
    model.sample(Inputs(coarse), Members(range(args.pixel_members), steps=3))
    after = torch.cuda.max_memory_allocated() / 2**20 if args.device.startswith("cuda") else resident()
    return after - before


def resident() -> float:
    """MiB of the largest resident set so far of this process alone (ru_maxrss starts at its parent's, on Linux)."""
    status = Path("/proc/self/status")
    if status.is_file():
        return int(re.findall(r"VmHWM:\s*(\d+) kB", status.read_text())[0]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


# --- the command


def command(args: argparse.Namespace) -> dict[str, Any]:
    """From file to file: `predict` with the time in networks and elsewhere, and the command in a fresh process."""
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rain = synthetic_rain((1, args.command_size, args.command_size), seed=1)
        coarsen(rain, Factor.parse("1x8")).to_netcdf(folder / "coarse.nc")
        names = ("wavelet 2", "wavelet 3")
        for system in names:
            build(LATENTS[system], args).save(folder / system)
        parts: dict[str, list[dict[str, float]]] = {system: [] for system in names}
        for _ in range(args.repeats + 1):
            for system in names:
                parts[system].append(predicted(folder, system, args))
        for system in names:
            rows[system] = {key: statistics.median(run[key] for run in parts[system][1:]) for key in parts[system][0]}
            rows[system]["overhead"] = 1 - rows[system]["network"] / rows[system]["total"]
        words = [sys.executable, "-m", "finescale", "downscale", folder / "wavelet 2", folder / "coarse.nc"]
        words += ["-o", folder / "out.nc", "--members", str(args.members), "--overwrite"]

        def whole() -> None:
            subprocess.run([str(word) for word in words], check=True, capture_output=True)

        process = interleaved({"whole": whole}, min(3, args.repeats))["whole"]
    return {"command": {"members": args.members, "size": args.command_size, "systems": rows, "process": process}}


def predicted(folder: Path, system: str, args: argparse.Namespace) -> dict[str, float]:
    """Seconds of one prediction from file to file: total, in networks, and in what else is named."""
    model = load(folder / system, args.device)
    spent = {"network": 0.0, "noise": 0.0, "latent to field": 0.0, "constraint": 0.0}
    with contextlib.ExitStack() as stack:
        assert model.denoiser is not None
        stack.enter_context(timed(model.mean, "forward", spent, "network", args))
        stack.enter_context(timed(model.denoiser, "forward", spent, "network", args))
        stack.enter_context(timed(model, "decode", spent, "latent to field", args))
        stack.enter_context(timed(model, "finish", spent, "constraint", args))
        stack.enter_context(timed(persistence, "noise_source", spent, "noise", args, deferred=True))
        started = time.perf_counter()
        downscale(
            model,
            folder / "coarse.nc",
            folder / "out.nc",
            members=args.members,
            steps=STEPS,
            overwrite=True,
            progress=False,
        )
        total = time.perf_counter() - started
    return spent | {"rest": total - sum(spent.values()), "total": total}


@contextlib.contextmanager
def timed(
    owner: Any, name: str, spent: dict[str, float], part: str, args: argparse.Namespace, deferred: bool = False
) -> Iterator[None]:
    """Add the time in ``owner.name`` to a part; of what it returns, where that is a function (deferred)."""
    function, wait, own = getattr(owner, name), waiting(args) or (lambda: None), name in vars(owner)

    def counted(called: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any, **more: Any) -> Any:
            wait()
            started = time.perf_counter()
            out = called(*given, **more)
            wait()
            spent[part] += time.perf_counter() - started
            return out

        return run

    def outer(*given: Any, **more: Any) -> Any:
        return counted(function(*given, **more))

    setattr(owner, name, outer if deferred else counted(function))
    try:
        yield
    finally:
        if own:
            setattr(owner, name, function)
        else:
            delattr(owner, name)


# --- space and time


def space_time(args: argparse.Namespace) -> dict[str, Any]:
    """A denoiser's evaluation at 3x10 on 12 fine frames, per frame, with the frames of a coarse one together or not."""
    shape = (12, args.time_size, args.time_size)
    rows: dict[str, dict[str, Any]] = {}
    tasks: dict[str, Callable[[], Any]] = {}
    for name, latent in IN_TIME.items():
        model = build(latent, args, "3x10", frames=4)
        tasks[name] = evaluation(model, 1, shape)
        rows[name] = {"parameters": model.parameters_by_part["denoiser"]}
        rows[name]["operations_a_frame"] = operations(tasks[name]) / shape[0]
    seconds = interleaved(tasks, args.repeats, waiting(args))
    for name, row in rows.items():
        row["ms_a_frame"] = 1e3 * seconds[name] / shape[0]
        row["pixel_over_this"] = seconds["pixel"] / seconds[name]
    return {"space_time": {"size": args.time_size, "systems": rows}}


# --- report


def write(results: dict[str, Any], args: argparse.Namespace) -> None:
    args.results.mkdir(parents=True, exist_ok=True)
    (args.results / "speed.json").write_text(json.dumps(rounded(results), indent=1))
    (args.results / "speed.md").write_text(report(rounded(results)))


def report(results: dict[str, Any]) -> str:
    """The tables in Markdown."""
    lines = ["# Speed", "", *(f"- {key}: {value}" for key, value in results["settings"].items()), ""]
    rates, around = (
        ", ".join(f"{rate:.0f} GFLOP/s in {name}" for name, rate in results[f"{kind}_gflops"].items())
        for kind in ("matmul", "convolution")
    )
    farm = results["rainfarm_seconds_a_member"]
    lines += [
        f"The faster of two products of large matrices: {rates}; a 3 x 3 convolution of 128 channels: {around}, which "
        f"may be faster, so that shares above 100 % are possible. RainFARM: {farm:.4f} s a member.",
    ]
    lines += [
        "", "| latent | batch | parameters | GFLOP | ms an evaluation | share of matmul | float32: ms | share "
        "| s a member | pixel / this | megapixels × members a second | / RainFARM's | peak memory, MiB |",
        "|---" * 13 + "|",
    ]  # fmt: skip
    pixel = results["systems"]["pixel"]["seconds_a_member"]
    for name, row in results["systems"].items():
        peak_mib = results.get("memory_mib", {}).get(name, float("nan"))
        cells = [
            name, row["batch"], f"{row['parameters'] / 1e6:.2f} M", f"{row['operations'] / 1e9:.2f}",
            f"{row['ms_an_evaluation']:.2f}", f"{row['share_of_peak']:.0%}", f"{row['ms_an_evaluation_float32']:.2f}",
            f"{row['share_of_peak_float32']:.0%}", f"{row['seconds_a_member']:.4f}",
            f"{pixel / row['seconds_a_member']:.1f}", f"{row['megapixels_members_a_second']:.2f}",
            f"{row['seconds_a_member'] / farm:.1f}", f"{peak_mib:.0f}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += ["", "Memory: batches of the pixel model's size everywhere.", ""]
    if "command" in results:
        lines += command_table(results["command"])
    if "space_time" in results:
        found = results["space_time"]
        lines += [f"## 3x10, 12 frames of {found['size']}²", ""]
        lines += [
            "| latent | parameters | GFLOP a frame | ms a frame and evaluation | pixel / this |",
            "|---" * 5 + "|",
        ]
        for name, row in found["systems"].items():
            lines.append(
                f"| {name} | {row['parameters'] / 1e6:.2f} M | {row['operations_a_frame'] / 1e9:.2f} "
                f"| {row['ms_a_frame']:.2f} | {row['pixel_over_this']:.1f} |"
            )
    return "\n".join([*lines, *verdict(results), ""])


def verdict(results: dict[str, Any]) -> list[str]:
    """What was aimed for and what was found."""
    systems = results["systems"]
    faster = systems["pixel"]["seconds_a_member"] / systems["wavelet 2"]["seconds_a_member"]
    share = systems["wavelet 2"]["share_of_peak"]
    lines = ["", "## Aims", "", "| of wavelet 2 | aim | found |", "|---|---|---|"]
    lines.append(f"| a member at equal steps, times faster than pixel | ≥ 9 | {faster:.1f} |")
    lines.append(f"| share of the matmul rate | ≥ 50 % | {share:.0%} |")
    if "command" in results:
        overhead = results["command"]["systems"]["wavelet 2"]["overhead"]
        lines.append(f"| time outside networks, file to file | ≤ 10 % | {overhead:.1%} |")
    return lines


def command_table(found: dict[str, Any]) -> list[str]:
    columns = ("total", "network", "noise", "latent to field", "constraint", "rest")
    lines = [
        f"## From file to file: {found['members']} members of {found['size']}², {STEPS} nfe",
        "",
        f"| latent | {', s | '.join(columns)}, s | outside networks |",
        "|---" * 8 + "|",
    ]
    for name, row in found["systems"].items():
        lines.append(f"| {name} | {' | '.join(f'{row[key]:.3f}' for key in columns)} | {row['overhead']:.1%} |")
    fresh = f"{found['process']:.2f} s"
    return [*lines, "", f"The command in a fresh process, wavelet 2, with start and imports: {fresh}.", ""]


if __name__ == "__main__":
    main()
