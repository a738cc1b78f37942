"""What each constraint costs: time and memory, as a share of a training step of the smallest network.

    python benchmarks/constraint_cost.py

The network is SRCNN (convolutions of 9-5-5 cells, 64 and 32 filters), the smallest of the seven schemes; the batch is 4
pictures of 192 x 192 cells in 3 channels at x4, as the authors train. A step is forward, mean squared error, backward
and Adam. Times are medians after warm-up; memory is what a layer keeps for its backward pass. Writes
constraint_cost.json and constraint_cost.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from protocol import processor, rounded
from torch import Tensor, nn

from finescale.constraints import Additive, Bounded, Constraint, Multiplicative, Projection, Softmax, Tapered
from finescale.grids.factor import Factor
from finescale.operators.coarsen import Coarsen

FACTOR = Factor(space=4)
SHAPE = (4, 3, 192, 192)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--repeats", type=int, default=41)
    args = parser.parse_args()
    torch.manual_seed(0)
    args.results.mkdir(parents=True, exist_ok=True)
    results = measure(args.repeats)
    (args.results / "constraint_cost.json").write_text(json.dumps(rounded(results), indent=1) + "\n")
    (args.results / "constraint_cost.md").write_text(report(results))
    print(report(results))


def constraints(area: Tensor | None, mask: Tensor | None) -> dict[str, Constraint]:
    return {
        "additive": Additive(FACTOR, area, mask),
        "multiplicative": Multiplicative(FACTOR, area, mask),
        "softmax": Softmax(FACTOR, area, mask),
        "bounded": Bounded(FACTOR, area, mask),
        "projection": Projection(FACTOR, area, mask, high=1.0),
        "tapered": Tapered(FACTOR, area, mask, power=0.5, tau=0.01),
    }


def measure(repeats: int) -> dict[str, Any]:
    """Milliseconds and MiB of the network's step and of each constraint, with and without areas and a mask."""
    network = nn.Sequential(
        nn.Conv2d(SHAPE[1], 64, 9, padding=4),
        nn.ReLU(),
        nn.Conv2d(64, 32, 5, padding=2),
        nn.ReLU(),
        nn.Conv2d(32, SHAPE[1], 5, padding=2),
    )
    optimiser = torch.optim.Adam(network.parameters(), 1e-4)
    fine = torch.rand(SHAPE)
    coarse = Coarsen(FACTOR)(fine)

    def step() -> None:
        optimiser.zero_grad()
        (network(fine) - fine).square().mean().backward()
        optimiser.step()

    raw = torch.rand(SHAPE, requires_grad=True)
    slope = torch.randn(SHAPE)
    area = torch.rand(SHAPE[-2:]) + 0.5
    # A fifth of the cells is missing, in patches as land and sea are.
    smooth = nn.functional.interpolate(torch.rand(1, 1, 12, 12), SHAPE[-2:], mode="bilinear")[0, 0]
    mask = smooth > smooth.quantile(0.2)
    rows: dict[str, Any] = {}
    for name in constraints(None, None):
        rows[name] = {}
        for weighted, layers in (("plain", constraints(None, None)), ("areas and mask", constraints(area, mask))):
            layer = layers[name]

            def forward(layer: Constraint = layer) -> Tensor:
                x: Tensor = layer(raw, coarse)
                return x

            rows[name][weighted] = {
                "forward_ms": milliseconds(forward, repeats),
                "both_ms": milliseconds(lambda forward=forward: forward().backward(slope), repeats),
                "kept_mib": kept(forward),
            }
    return {
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "shape": list(SHAPE),
        "factor": str(FACTOR),
        "step_ms": milliseconds(step, max(5, repeats // 4)),
        "step_kept_mib": kept(lambda: network(fine)),
        "constraints": rows,
    }


def milliseconds(function: Callable[[], Any], repeats: int) -> float:
    """Median time of a call after three that do not count."""
    times = []
    for _ in range(repeats + 3):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times[3:])


def kept(forward: Callable[[], Tensor]) -> float:
    """MiB of tensors that the graph of a forward pass keeps, each storage once."""
    sizes: dict[int, int] = {}
    held = []

    def pack(tensor: Tensor) -> Tensor:
        held.append(tensor)  # so that no address is used twice
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(sizes.values()) / 2**20


def report(results: dict[str, Any]) -> str:
    """The table, in Markdown."""
    step = results["step_ms"]
    lines = [
        f"A training step of SRCNN on {' x '.join(map(str, results['shape']))} takes {step:.0f} ms and keeps "
        f"{results['step_kept_mib']:.0f} MiB for its backward pass ({results['processor']}, {results['threads']} "
        f"threads, torch {results['torch']}). Factor {results['factor']}; in brackets with areas and a mask.",
        "",
        "| constraint | forward, ms | forward and backward, ms | share of the step | kept, MiB |",
        "|---|---|---|---|---|",
    ]
    for name, row in results["constraints"].items():
        plain, weighted = row["plain"], row["areas and mask"]
        cells = [f"{plain[key]:.2f} ({weighted[key]:.2f})" for key in ("forward_ms", "both_ms")]
        cells.append(f"{plain['both_ms'] / step:.2%} ({weighted['both_ms'] / step:.2%})")
        cells.append(f"{plain['kept_mib']:.1f} ({weighted['kept_mib']:.1f})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
