"""What `sst.py` writes: the tables in Markdown, and the picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from finescale.grids.factor import Factor
from finescale.model.batch import Batch
from finescale.operators.coarsen import Coarsen
from finescale.plots.maps import png
from finescale.scores.ranks import LEVELS, PIT_BINS

NAN = float("nan")


def report(results: dict[str, Any]) -> Iterator[str]:
    """The tables."""
    yield from ("# Small generative models and their uncertainty", "")
    yield from (f"- {key}: {value}" for key, value in results["settings"].items())
    for name, found in results["sets"].items():
        about = found["about"]
        yield ""
        yield f"## {name}: {about['factor']}, {about['tests']} test crops of {about['crop']}², {about['units']}"
        yield from ("", *score_table(found["rows"]))
        yield from ("", *cost_table(found["systems"], about["at_once"]))
        yield from ("", *commands(found["systems"]))
        if "chain" in found:
            yield from ("", "By the commands, after it:", "", *(f"- `{command}`" for command in found["chain"]))
        if found["agreement"]:
            yield from ("", "Standard deviation in closed form against that of decoded members, patch-POD-ViT:", "")
            yield from ("| covariance | correlation | ratio |", "|---|---|---|")
            for label, row in found["agreement"].items():
                yield f"| {label} | {row.get('correlation', NAN):.4f} | {row['ratio']:.4f} |"


def score_table(rows: dict[str, Any]) -> Iterator[str]:
    levels = " | ".join(f"{level:.0%}" for level in LEVELS)
    yield f"| system | members | RMSE | MAE | CRPS | / bicubic | coverage {levels} | MACE | spread–skill |"
    yield "|---" * 12 + "|"
    for system, row in rows.items():
        other = "bicubic, by the commands" if ", by the commands" in system else "bicubic"
        share = row["crps"] / rows[other]["crps"]
        cells = [system, row["members"], *(f"{row[key]:.4g}" for key in ("rmse", "mae", "crps")), f"{share:.3f}"]
        if row["members"] == 1:
            cells += ["–"] * 6
        else:
            cells += [f"{value:.3f}" for value in (*row["coverage"], row["mace"], row["spread_skill"])]
        yield f"| {' | '.join(map(str, cells))} |"


def commands(systems: dict[str, Any]) -> Iterator[str]:
    """What trains each system; further rows of it are the same model, judged otherwise."""
    yield "Trained by (the file's name stands for its path):"
    yield ""
    before = "an earlier version of this script, in minutes, with the mean network of another system of the set and, "
    before += "for a basis, statistics of 96 crops"
    for system, row in systems.items():
        yield f"- {system}: " + (f"`{row['command']}`" if "command" in row else before)


def cost_table(systems: dict[str, Any], at_once: int) -> Iterator[str]:
    yield f"A member of a system without sampling is a crop: seconds of one, memory of {at_once}."
    yield ""
    head = "system | parameters | steps | training s (processor) | threads | nfe | s a member"
    yield f"| {head} | MiB, {at_once} at once |"
    yield "|---" * 8 + "|"
    for system, row in systems.items():
        sizes = " + ".join(f"{n / 1e6:.3f} M {part}" for part, n in row["parameters"].items() if n)
        cells = [system, sizes, ", ".join(f"{n} {stage}" for stage, n in row["steps"].items())]
        cells += [f"{row['training_processor_seconds']:.0f}", row.get("threads", 2), row["nfe"]]
        cells += [f"{row.get('seconds_a_member', NAN):.2g}", f"{row['sampling_mebibytes']:.0f}"]
        yield f"| {' | '.join(map(str, cells))} |"


def picture(days: Batch, members: Tensor, factor: Factor, rows: dict[str, Any], path: Path) -> None:
    """Coarse, truth, mean, two members and standard deviation of three days, and coverage of every system.

    Args:
        days: three crops.
        members: (3, M, 1, 1, H, W).
        factor: from coarse to fine.
        rows: scores of every system.
        path: the PNG file to write.
    """
    from matplotlib.figure import Figure

    fields = {
        "coarse": Coarsen(factor).replicate(days.coarse),
        "truth": days.fine,
        "mean": members.mean(1),
        "member 1": members[:, 0],
        "member 2": members[:, 1],
        "standard deviation": members.std(1),
    }
    figure = Figure(figsize=(16, 6.2), layout="constrained")
    axes = figure.subplots(3, 8, width_ratios=[1] * 6 + [1.3, 1.3])
    for row in range(3):
        truth = days.fine[row, 0, 0].numpy()
        for column, (title, field) in enumerate(fields.items()):
            ax = axes[row, column]
            shown = np.ma.masked_where(~np.isfinite(truth), field[row, 0, 0].numpy())
            limits = {"cmap": "viridis", "vmin": np.nanmin(truth), "vmax": np.nanmax(truth)}
            if title == "standard deviation":
                limits = {"cmap": "magma", "vmin": 0.0}
            image = ax.imshow(shown, origin="lower", interpolation="nearest", **limits)
            ax.set(xticks=[], yticks=[], title=title if row == 0 else "", facecolor="0.8")
            if column in (4, 5):
                figure.colorbar(image, ax=ax, label="°C", shrink=0.8)
    for ax in axes[:, 6:].ravel():
        ax.remove()
    coverage(figure.add_subplot(axes[0, 6].get_gridspec()[:, 6:]), rows)
    figure.suptitle(f"Sea-surface temperature ×{factor.y}, patch-POD-ViT")
    path.write_bytes(png(figure, limit=250_000))


def strip(crop: Batch, members: Tensor, noisy: Tensor, path: Path) -> None:
    """One picture: coarse, truth, a member of the modes alone and with noise for the rest, and two members' difference.

    Args:
        crop: one crop.
        members: (1, 2, 1, 1, H, W) by the modes alone.
        noisy: (1, 1, 1, 1, H, W), the first one with noise.
        path: the PNG file to write.
    """
    from matplotlib.figure import Figure

    fields = {
        "coarse": crop.coarse[0, 0, 0],
        "truth": crop.fine[0, 0, 0],
        "member, modes alone": members[0, 0, 0, 0],
        "the same with noise": noisy[0, 0, 0, 0],
        "difference of two members": members[0, 0, 0, 0] - members[0, 1, 0, 0],
    }
    figure = Figure(figsize=(16, 3.5), layout="constrained")
    for ax, (title, field) in zip(figure.subplots(1, len(fields)), fields.items(), strict=True):
        limits = {"vmin": -0.3, "vmax": 0.3} if "difference" in title else {"vmin": 0.0, "vmax": 1.0}
        ax.imshow(field.numpy(), cmap="gray", interpolation="nearest", **limits)
        ax.set(xticks=[], yticks=[], title=title)
    path.write_bytes(png(figure, limit=150_000))


def coverage(ax: Any, rows: dict[str, Any]) -> None:
    """Share of cells inside central intervals, less their level, from PIT histograms."""
    half = PIT_BINS // 2
    nominal = np.arange(1, half + 1) / half
    ax.plot([0, 1], [0, 0], color="0.6", lw=1)
    for system, row in rows.items():
        if row["members"] == 1 or any(
            f", {other}" in system for other in ("no constraint", "modes alone", "land unknown", "by the commands")
        ):
            continue
        pit = np.asarray(row["pit_histogram"])
        inside = np.array([pit[half - n : half + n].sum() for n in range(1, half + 1)])
        ax.plot(nominal, 100 * (inside - nominal), ".-", label=system)
    ax.set(xlabel="level of the central interval", ylabel="coverage less level (%)", title="coverage, all test crops")
    ax.legend(fontsize=8)
