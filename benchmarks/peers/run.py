"""Other tools beside finescale: the same crops, minutes of one core and members; scores, cost, size, lines to write.

    python benchmarks/peers/run.py DATA [--minutes 12] [--seeds 1] [--peers CorrDiff RainFARM …]

DATA is the folder of one_step.py. Each peer is a script beside this one, run with one thread in an environment of its
own, which is made from requirements/ where it is not there yet. All learn from the same crops of MRMS west of -94
degrees, drawn, turned and multiplied as finescale's own training draws them, and make members of the crops that
one_step.py scores; finescale's rows are those of one_step.json. RainFARM of one_step.py is made again here, and has to
have the scores that it has there: then the crops are the same. Rows `+ constraint` are a peer's members after
finescale's constraint. What peers.json and --cache hold is not done again. Writes peers.json and peers.md as it goes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))

import environments
import torch
from export import export
from one_step import farm, kept
from one_step_systems import CROP, FACTOR, Test, ensemble, scored, tests
from protocol import processor, rounded
from report import lines_of, report, sources

import finescale
from finescale.cli.allocator import keep_memory
from finescale.config.load import load
from finescale.constraints import Smooth
from finescale.model.batch import Inputs
from finescale.operators.coarsen import Coarsen

HERE = Path(__file__).parent
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
LEAST = 0.05
"""Amount in mm/h below which a cell is dry, as in the presets."""


@dataclass(frozen=True)
class Peer:
    """A tool.

    Attributes:
        script: beside this one.
        environment: of requirements/.
        also: modules that its script imports and a user would have to write too.
        learns: whether a seed is a training.
        use: what its documentation has a user write, where that is all; elsewhere the script is.
    """

    script: str
    environment: str
    also: tuple[str, ...] = ()
    learns: bool = True
    use: str | None = None

    @property
    def lines(self) -> int:
        """Of code that a user writes."""
        return lines_of([self.use] if self.use else sources(HERE / f"{self.script}.py", self.also))


RAINFARM = """\
from pysteps.downscaling import rainfarm
members = [rainfarm.downscale(rain, ds_factor=8, threshold=None) for _ in range(8)]
"""
RESIZE = """\
from skimage.transform import resize
fine = resize(rain, (128, 128), order=3, mode="edge", anti_aliasing=False).clip(0)
"""
PEERS = {
    "RainFARM (pysteps)": Peer("rainfarm", "pysteps", learns=False, use=RAINFARM),
    "bicubic (scikit-image)": Peer("bicubic", "scikit-image", learns=False, use=RESIZE),
    "bicubic + noise (scikit-image)": Peer("noise", "scikit-image", ("bicubic",), learns=False),
    "GAN (NLR-sup3r)": Peer("gan", "sup3r"),
    "U-Net (diffusers)": Peer("unet", "diffusers", ("torch_training",)),
    "CorrDiff (physicsnemo)": Peer("corrdiff", "physicsnemo", ("torch_training", "physicsnemo_cpu")),
    "EDM (physicsnemo)": Peer("edm", "physicsnemo", ("torch_training", "physicsnemo_cpu")),
}
OURS = ("one-step", "wavelet")
OUR_USE = """\
finescale fit {preset} -o model --set data.path=fine.nc --set train.minutes=12
finescale downscale model coarse.nc -o members.nc --members 8
"""
"""What a user of finescale writes; its files are read and written by it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--minutes", type=float, default=12.0, help="of processor time")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--crops", type=int, default=48, help="of each test")
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--training-crops", type=int, default=8192)
    parser.add_argument("--cache", type=Path, default=Path("benchmarks/cache/peers"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    keep_memory()
    file = args.results / "peers.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {"places": {}, "trained": {}}
    found["settings"] = settings(args)
    there = crops(args)
    arrays = args.cache / "data"
    if not (arrays / "coarse.npy").is_file():
        export(args.data / "mrms_west.nc", there, args.training_crops, CROP, arrays)
    ours(there, args, found)
    for seed in args.seeds:
        for name in args.peers:
            if PEERS[name].learns or not seed:
                row(name, seed, there, args, found)


def crops(args: argparse.Namespace) -> dict[str, Test]:
    """What is scored, of each place; kept, since the whole fields take gigabytes while peers are waited for."""
    file = args.cache / f"tests-{args.crops}.pt"
    if not file.is_file():
        args.cache.mkdir(parents=True, exist_ok=True)
        torch.save(dict(tests(args.data, FACTOR, args.crops)), file)
    found: dict[str, Test] = torch.load(file)
    return found


def settings(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "training": f"{args.minutes:g} minutes of processor time of one thread; {args.training_crops} crops of MRMS "
        "west of −94°, drawn, turned and multiplied as finescale draws its own",
        "members": args.members,
        "s a member": f"processor seconds for a member of {CROP}² fine cells, {args.members} at a time, one thread",
        "installed": "what pip puts into an empty environment, with the CPU build of torch",
        "lines": "of code that a user writes beside reading and writing files; finescale's two commands do that too",
        "one field": "scikit-image and sup3r's GAN make one of a coarse field: its CRPS is its absolute error, it has "
        "no spread",
        "folded": "networks built on torch see squares of 4 × 4 cells as 16 channels, peers' as finescale's; at full "
        "resolution a step of SongUNet takes four times as long",
        "physicsnemo": "torchvision, which it imports, fails beside the CPU build of torch unless two operators that "
        "are not used are declared (physicsnemo_cpu.py)",
        "+ constraint": "the peer's members after finescale's constraint `smooth`",
        "processor": processor(),
        "torch": torch.__version__,
    }


# --- finescale's rows


def ours(there: dict[str, Test], args: argparse.Namespace, found: dict[str, Any]) -> None:
    """Rows of one_step.json, once RainFARM's there has been made again, with what they cost here."""
    known = json.loads((args.results / "one_step.json").read_text())
    cost = found.setdefault("ours", {})
    for preset in OURS:
        if preset not in cost:
            cost[preset] = our_cost(preset, there["mrms"], args)
    for place, test in there.items():
        earlier = known["scores"]["1x8"][place]["systems"]
        here = found["places"].setdefault(place, {})
        if not here:  # nothing of this place is known yet
            again = rounded(kept(scored(farm(test[1], FACTOR, args.members), test, FACTOR)))
            differs = [key for key, value in earlier["RainFARM"].items() if not same(value, again.get(key))]
            if differs:
                raise SystemExit(f"RainFARM on {place} is not what one_step.json has: {differs}")
            truth = {key.removesuffix("_truth"): value for key, value in again.items() if key.endswith("_truth")}
            here |= {"crops": len(test[0]), "side": test[0].shape[-1], "truth": truth, "systems": {}}
        rows = {f"finescale {name}": scores for name, scores in earlier.items() if name.split(", seed")[0] in OURS}
        for name, scores in sorted(rows.items()):
            preset = name.removeprefix("finescale ").split(", seed")[0]
            here["systems"][name] = scores | cost[preset] | {"ours": True}
        order = sorted(here["systems"].items(), key=lambda item: not item[1].get("ours"))
        here["systems"] = dict(order)
    write(found, args)


def same(value: Any, again: Any, share: float = 1e-3) -> bool:
    return again is not None and abs(value - again) <= share * abs(value) + 1e-6


def our_cost(preset: str, test: Test, args: argparse.Namespace) -> dict[str, float]:
    """Of a model after one step of training, which costs, and conserves, what a trained one does."""
    folder = args.cache / f"one-step-of-{preset}"
    if not (folder / "config.yaml").is_file():
        path = {"data.path": str(args.data / "mrms_west.nc"), "data.train": {"lon": [None, -94]}}
        finescale.fit(preset, folder, path | {"train.minutes": None, "train.steps": 1})
    model = load(folder).eval().requires_grad_(False)
    given = Inputs(test[1], test[2])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    ensemble(model, Inputs(test[1][:2], test[2][:2]), args.members)
    started = time.process_time()
    members = ensemble(model, given, args.members)
    seconds = (time.process_time() - started) / (len(given) * args.members)
    torch.set_num_threads(threads)
    environments.made(environments.OURS, args.cache / "environments")
    return {
        "conservation_residual": residual(members, test),
        "seconds_a_member": seconds,
        "millions": sum(model.parameters_by_part.values()) / 1e6,
        "gigabytes": environments.installed(environments.OURS, args.cache / "environments") / 1e9,
        "lines": len(OUR_USE.splitlines()),
    }


# --- peers


def row(name: str, seed: int, there: dict[str, Test], args: argparse.Namespace, found: dict[str, Any]) -> None:
    """Scores of a peer's members, with and without finescale's constraint."""
    peer = PEERS[name]
    label = f"{name}, seed {seed}" if peer.learns else name
    folder = args.cache / f"{peer.script}-seed{seed}-{args.minutes:g}min"
    done = all(f"{label} + constraint" in place["systems"] for place in found["places"].values())
    if done and not (folder / "told.json").is_file():  # measured elsewhere
        return
    made(peer, folder, seed, args)
    told = json.loads((folder / "told.json").read_text())
    cost = {
        "seconds_a_member": told["seconds_a_member"],
        "millions": sum(told["parameters"].values()) / 1e6 if peer.learns else None,
        "gigabytes": environments.installed(peer.environment, args.cache / "environments") / 1e9,
        "lines": peer.lines,
    }
    if peer.learns:
        found["trained"][label] = told
    for place, test in there.items():
        members = np.load(folder / f"{place}.npy")[:, :, None]
        systems = found["places"][place]["systems"]
        for system, fields in ((label, members), (f"{label} + constraint", constrained(members, test))):
            if system not in systems:
                systems[system] = kept(scored(fields, test)) | {"conservation_residual": residual(fields, test)}
            systems[system] |= cost
        write(found, args)


def made(peer: Peer, folder: Path, seed: int, args: argparse.Namespace) -> None:
    """Members under the folder, unless they are there."""
    python = environments.made(peer.environment, args.cache / "environments")
    if (folder / "told.json").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    words = ["--data", args.cache / "data", "--out", folder, "--seed", seed, "--minutes", args.minutes]
    words += ["--members", args.members]
    outside = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    with (folder / "log.txt").open("w") as log:
        subprocess.run(
            [python.absolute(), HERE / f"{peer.script}.py", *map(str, words)],
            check=True, env=outside | dict.fromkeys(THREADS, "1"), stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip


def constrained(members: np.ndarray[Any, Any], test: Test) -> np.ndarray[Any, Any]:
    """Members (M, N, 1, H, W) whose block means are the coarse fields, where those are known."""
    _, coarse, area = test
    constraint = Smooth(FACTOR, area[:, None], least=LEAST)
    return torch.stack([constraint(one, coarse[:, 0]) for one in torch.from_numpy(members)]).numpy()


def residual(members: np.ndarray[Any, Any], test: Test) -> float:
    """max |A x − c| / max c of members (M, N, 1, H, W), with the areas of cells, as the coarse fields are made."""
    _, coarse, area = test
    means = Coarsen(FACTOR, area[:, None].double())(torch.from_numpy(members).double())
    return float((means - coarse[:, 0].double()).abs().nan_to_num().max() / coarse.nan_to_num().max())


def write(found: dict[str, Any], args: argparse.Namespace) -> None:
    args.results.mkdir(parents=True, exist_ok=True)
    (args.results / "peers.json").write_text(json.dumps(rounded(found), indent=1) + "\n")
    (args.results / "peers.md").write_text(report(found))


if __name__ == "__main__":
    main()
