"""Draw the figures of the docs pages that no benchmark draws.

    python docs/figures.py [MODEL [POD HEAD FINE]]     constraints and, with models, training, modes and uncertainty
    python docs/figures.py rain                         the package's radar and model
    python docs/figures.py member                       how that model makes a member

MODEL is a trained model folder, whose log.jsonl gives the training curves; POD a model with a patch-POD latent and a
denoiser, HEAD one with a variance head, of the same variable and factor; FINE a file of that variable.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

import finescale
from finescale.constraints import Additive, Bounded, Constraint, Multiplicative, Projection, Softmax, Tapered
from finescale.data.files import open_field
from finescale.data.samples import radar
from finescale.downscaler import Downscaler
from finescale.grids.factor import Factor
from finescale.latents import PatchPOD
from finescale.model import sampling
from finescale.model.batch import Inputs, Members
from finescale.model.sizes import pad
from finescale.operators.coarsen import Coarsen
from finescale.plots import animate_ensemble, coefficient_std, energy, modes, overview
from finescale.plots.maps import png
from finescale.plots.region import region_of

IMAGES = Path(__file__).parent / "images"


def constraints() -> None:
    """One row of blocks before and after each constraint: too heavy, too light, dry, and all zero in the raw field."""
    factor = Factor(time=1, y=1, x=8)
    cells = np.arange(32)
    shape = torch.tensor([0.1, 0.3, 0.9, 2.0, 1.2, 0.5, 0.2, 0.0])
    raw = torch.cat([1.6 * shape, 0.9 * shape.flip(0) + 0.15, 0.4 * shape, 0 * shape])[None, None]
    coarse = torch.tensor([[[0.5, 1.1, 0.0, 0.4]]])
    layers: dict[str, tuple[Constraint, torch.Tensor]] = {
        "additive": (Additive(factor), raw),
        "multiplicative": (Multiplicative(factor), raw),
        "projection on [0, ∞)": (Projection(factor), raw),
        "softmax (raw field as logits)": (Softmax(factor), raw),
        "bounded on [0, 3]": (Bounded(factor, low=0.0, high=3.0), raw),
        "tapered, p = 1/2, tau = 0.4": (Tapered(factor, power=0.5, tau=0.4), raw),
    }
    fields = {"raw network output": raw} | {name: layer(y, coarse) for name, (layer, y) in layers.items()}
    figure = Figure(figsize=(11.5, 5), layout="constrained")
    *panels, free = figure.subplots(2, 4, sharex=True, sharey=True).flat
    for ax, (name, x) in zip(panels, fields.items(), strict=True):
        means = Coarsen(factor)(x)[0, 0]
        ax.bar(cells, x[0, 0], width=1, color="tab:blue", alpha=0.55, label="fine")
        ax.stairs(coarse[0, 0], np.arange(5) * 8 - 0.5, color="k", lw=2, baseline=None, label="coarse input")
        ax.stairs(means, np.arange(5) * 8 - 0.5, color="tab:orange", lw=2, ls="--", baseline=None, label="block means")
        for edge in (7.5, 15.5, 23.5):
            ax.axvline(edge, color="0.8", lw=0.6, zorder=0)
        ax.axhline(0, color="0.5", lw=0.6)
        ax.set_title(f"{name}\nleast {float(x.min()):.2f}, largest {float(x.max()):.2f}", fontsize=10)
        ax.set_xticks([3.5, 11.5, 19.5, 27.5], ["too heavy", "too light", "dry in c", "zero in y"], fontsize=8)
    free.axis("off")
    free.legend(*figure.axes[0].get_legend_handles_labels(), frameon=False, loc="center")
    figure.savefig(IMAGES / "constraints.png", dpi=80)


def training(model: Path) -> None:
    """Training and validation losses of both stages."""
    rows = [json.loads(line) for line in (model / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    stages = list(dict.fromkeys(row["stage"] for row in rows))
    figure = Figure(figsize=(4 * len(stages) + 1, 3.2), layout="constrained")
    for ax, stage in zip(np.atleast_1d(figure.subplots(1, len(stages))), stages, strict=True):
        part = [row for row in rows if row["stage"] == stage]
        steps = [row["step"] for row in part]
        ax.plot(steps, [row["loss"] for row in part], label="training", color="0.5")
        ax.plot(steps, [row["valid"] for row in part], label="validation, averaged weights", color="tab:blue")
        ax.set(title=stage, xlabel="step", ylabel="loss")
        ax.legend(frameon=False)
    figure.savefig(IMAGES / "training.png", dpi=90)


def frame_of(path: Path, factor: Factor) -> tuple[torch.Tensor, torch.Tensor]:
    """The last frame of a file as a fine field (1, 1, 1, H, W), and the coarse one."""
    values = open_field(path).isel(time=[-1]).values.astype(np.float32)
    _, height, width = (n // f * f for n, f in zip(values.shape, factor, strict=True))
    fine = torch.from_numpy(values[None, None, :, :height, :width])
    return fine, Coarsen(factor, mask=fine.isfinite())(fine)


def pod(model: Downscaler, fine: Path) -> None:
    """Modes and their energy, and the std of coefficients over 32 members of one field."""
    latent = model.latent
    assert isinstance(latent, PatchPOD)
    modes(latent.basis.numpy(), latent.energies.numpy(), first=12, columns=6).savefig(IMAGES / "modes.png", dpi=80)
    truth, coarse = frame_of(fine, model.factor)
    members = model.draw(Inputs(coarse), Members(range(32)))[0]
    z = latent.encode(members - members.mean(0)).numpy()[:, :, 0]
    z[:, :, (latent.coverage(torch.isfinite(pad(truth, latent.stride)).float())[0, 0, 0] == 0).numpy()] = np.nan
    figure = Figure(figsize=(9.5, 3.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    energy(latent.energies.numpy(), latent.kept, ax=left)
    coefficient_std(z, 0, ax=middle)
    coefficient_std(z, ax=right)
    figure.savefig(IMAGES / "coefficients.png", dpi=80)


def uncertainty(head: Downscaler, ensemble: Downscaler, fine: Path) -> None:
    """One field: the truth, the mean, its standard deviation from the head and from 64 members."""
    truth, coarse = frame_of(fine, head.factor)
    one, many = (
        head.marginals(Inputs(coarse), Members(range(64)), "head"),
        ensemble.marginals(Inputs(coarse), Members(range(64)), "members"),
    )
    sea = truth[0, 0, 0].isfinite()
    hidden = torch.where(sea, 0.0, torch.nan)
    maps = {
        "truth": truth[0, 0, 0],
        "mean": one.mean[0, 0, 0] + hidden,
        "std, variance head": one.std[0, 0, 0] + hidden,
        "std, 64 members": many.std[0, 0, 0] + hidden,
    }
    figure = Figure(figsize=(13, 3), layout="constrained")
    axes = figure.subplots(1, 5, width_ratios=[1, 1, 1, 1, 0.9])
    largest = float(torch.cat([one.std[0, 0, 0][sea], many.std[0, 0, 0][sea]]).quantile(0.995))
    for ax, (title, values) in zip(axes, maps.items(), strict=False):
        limits = {"vmin": 0, "vmax": largest, "cmap": "magma"} if "std" in title else {"cmap": "viridis"}
        image = ax.imshow(values, origin="lower", interpolation="nearest", **limits)
        ax.set(title=title, xticks=[], yticks=[])
        figure.colorbar(image, ax=ax, shrink=0.8, label="°C")
    error = (one.mean - truth)[0, 0, 0][sea].abs()
    order = one.std[0, 0, 0][sea].argsort()
    bins = [part.float() for part in order.tensor_split(12)]
    std = [float(one.std[0, 0, 0][sea][part.long()].square().mean().sqrt()) for part in bins]
    axes[-1].plot(std, [float(error[part.long()].square().mean().sqrt()) for part in bins], "o-", color="tab:blue")
    axes[-1].axline((0, 0), slope=1, color="0.6", linewidth=1)
    axes[-1].set(xlabel="std of the head (°C)", ylabel="RMSE of the mean (°C)", title="twelfths of the cells")
    figure.savefig(IMAGES / "uncertainty.png", dpi=80)


def rain() -> None:
    """Radar of the package by its model: one time at 1x8, and a sequence at 3x10."""
    fine = radar()["precipitation_rate"]
    coarse = finescale.coarsen(fine, "1x8")["precipitation_rate"]
    made = finescale.downscale("rain", coarse, members=2, factor="1x8", progress=False)
    assert made is not None
    frame = fine.sizes["time"] // 2
    members = made["precipitation_rate"].transpose("realization", "time", ...)
    shown = {"Coarse, 8.9 km": coarse[frame], "Member 1": members[0, frame], "Member 2": members[1, frame]}
    fields = {title: field.values for title, field in (shown | {"Radar": fine[frame]}).items()}
    when = f"{str(fine.time.values[frame])[:16].replace('T', ' ')} UTC, Kentucky and Indiana, USA"
    figure = overview(fields, region_of(fine)[0], units="mm/h", rain=True, columns=4, label="rain", title=when)
    (IMAGES / "rain.png").write_bytes(png(figure, limit=300_000))
    coarse = finescale.coarsen(fine, "3x10")
    made = finescale.downscale("rain", coarse, members=2, factor="3x10", progress=False)
    assert made is not None
    animate_ensemble(made, fine, coarse, IMAGES / "rain.gif", members=(0,), limit=900_000)


def member() -> None:
    """Radar of the package from its block means to a member, line by line of the algorithm."""
    fine = radar()["precipitation_rate"][6, 40:200, 40:200]
    truth = torch.from_numpy(fine.values.astype(np.float32))[None, None, None]
    model = finescale.load("rain").at("1x8")
    given, one = Inputs(Coarsen(model.factor)(truth)), Members(range(1), seed=2)
    mu = sampling.mean(model, given, sampling.conditions(model, given))
    y = model.draw(given, one)
    size = (mu.shape[2], *(n // s for n, s in zip(mu.shape[3:], model.latent.stride[1:], strict=True)))
    noise = model.latent.synthesis(model.noise.fields(size, [(0, (0, 0, 0))], one.seed, model.device)(0))
    before, made = sampling.physical(model, y, given), model.finish(y, given)
    off = float((Coarsen(model.factor)(before) - given.coarse[:, None]).abs().max() / given.coarse.max())
    steps = {
        "1  Coarse field": given.coarse[0, 0, 0],
        "2  Mean": model.transform.inverse(mu)[0, 0, 0, :160, :160],
        "3  Noise": noise[0, 0, 0, :160, :160],
        "4  Detail, of the noise": (y[:, 0] - mu)[0, 0, 0, :160, :160],
        f"5  Together: totals up to {off:.0%} off": before[0, 0, 0, 0],
        "6  Member: totals exact": made.fields[0, 0, 0, 0],
    }
    fields = {title: values.detach().numpy() for title, values in steps.items()}
    apart = ("3  Noise", "4  Detail, of the noise")
    figure = overview(
        fields, region_of(fine)[0], units="mm/h", rain=True, errors=apart, difference="standard deviations"
    )
    (IMAGES / "member.png").write_bytes(png(figure, limit=250_000))


if __name__ == "__main__":
    if sys.argv[1:] in (["rain"], ["member"]):
        {"rain": rain, "member": member}[sys.argv[1]]()
        sys.exit()
    constraints()
    if len(sys.argv) > 1:
        training(Path(sys.argv[1]))
    if len(sys.argv) > 4:
        pod_model, head_model = (finescale.load(path) for path in sys.argv[2:4])
        pod(pod_model, Path(sys.argv[4]))
        uncertainty(head_model, pod_model, Path(sys.argv[4]))
