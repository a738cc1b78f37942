"""How `sst.py` judges a model: members under each constraint, closed forms, and the commands a user would type."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from commands import shell
from scipy.special import ndtr
from torch import Tensor

from finescale.downscaler import Downscaler
from finescale.latents import PatchPOD
from finescale.model.batch import Batch, Inputs, Members
from finescale.operators.coarsen import Coarsen
from finescale.scores.ranks import LEVELS, PIT_BINS
from finescale.verify import score_arrays

COMPARED = 256
"""Members whose standard deviation is compared with the closed form."""
SCORES = ("rmse", "mae", "crps", "spread_skill", "mace", "coverage", "pit_histogram")


def judged(system: str, model: Downscaler, batch: Batch, dry: float | None, members: Members) -> dict[str, Any]:
    """Rows of a system: members after the set's constraint and as they are; Gaussians from a closed form.

    Args:
        system: its name.
        model: trained.
        batch: test crops.
        dry: threshold of rain; None for other fields.
        members: which to draw.
    """
    origins = [(0, i * model.multiple[1] * 64, 0) for i in range(len(batch.fine))]  # other noise for every crop
    given = Inputs(batch.coarse, area=batch.area, origin=origins)
    rows: dict[str, Any] = {}
    if model.variance is None:
        some = Members(seed=members.seed) if model.deterministic else members
        y = model.draw(given, some)
        x = in_units(model, y, batch)
        rows[system] = scored(conserving(model, x, batch), batch, dry)
        if not bool(batch.fine.isfinite().all()):
            rows[f"{system}, land unknown"] = scored(model.finish(y, given).fields, batch, dry)
        if not model.deterministic:
            rows[f"{system}, no constraint"] = scored(x, batch, dry)
        if getattr(model.latent, "remainder", False):
            with modes_alone(model):
                x = in_units(model, model.draw(given, some), batch)
            rows[f"{system}, modes alone"] = scored(conserving(model, x, batch), batch, dry)
    closed = isinstance(model.latent, PatchPOD) and model.transform.linear and model.denoiser is not None
    for label, source in ((system, "head"), (f"{system}, closed form", "members")):
        if (source == "head" and model.variance is None) or (source == "members" and not closed):
            continue
        found = model.marginals(given, members, source)
        # The closed form does not know the land; the mean is moved to what the sea's is.
        rows[label] = gaussian_scores(conserving(model, found.mean[:, None], batch)[:, 0], found.std, batch.fine)
    return rows


def commanded(factor: str, file: str, select: dict[str, list[Any]], members: int) -> list[str]:
    """What a user types to have the model in ``model`` judged on a part of its file, beside bicubic interpolation."""
    part = "{" + ", ".join(f"{key}: {json.dumps(value)}" for key, value in select.items()) + "}"
    return [
        shlex.join(["finescale", *words])
        for words in (
            ("coarsen", file, "-o", "coarse.nc", "--factor", factor, "--select", part, "--overwrite"),
            ("downscale", "model", "coarse.nc", "-o", "ensemble.nc", "--members", str(members), "--overwrite"),
            ("verify", "ensemble.nc", file, "-o", "scores", "--coarse", "coarse.nc", "--baselines", "bicubic"),
        )
    ]


def by_commands(system: str, folder: Path, commands: Sequence[str]) -> dict[str, Any]:
    """Rows of the model in ``folder``, and of bicubic interpolation, as `commanded` make them: the land is unknown."""
    for command in commands:
        shell(command, folder)
    (folder / "ensemble.nc").unlink()
    told = json.loads((folder / "scores" / "scores.json").read_text())
    rows = {}
    for name, label in {"bicubic": "bicubic", "ensemble": system}.items():
        found = told["systems"][name]
        rows[f"{label}, by the commands"] = {key: found[key] for key in SCORES if key in found} | {
            "members": found["members"],
            "times": told["times"],
        }
    return rows


@contextmanager
def modes_alone(model: Downscaler) -> Iterator[None]:
    """Members without noise for what the modes leave out."""
    latent: Any = model.latent
    latent.remainder = False
    yield
    latent.remainder = True


def in_units(model: Downscaler, y: Tensor, batch: Batch) -> Tensor:
    """What `draw` gives, (B, M, C, T, H, W), in units and cut to the crop."""
    height, width = batch.fine.shape[-2:]
    return model.physical(y)[..., :height, :width]


def conserving(model: Downscaler, x: Tensor, batch: Batch) -> Tensor:
    """Fields (B, M, C, T, H, W) with the block means over the cells that are known, as in training."""
    assert model.constraint is not None
    operators = Coarsen(model.factor, batch.area[:, None, None, None], batch.fine.isfinite()[:, None])
    return model.constraint(x, batch.coarse[:, None].expand(-1, x.shape[1], *(-1,) * 4), operators)


def scored(members: Tensor, batch: Batch, dry: float | None) -> dict[str, Any]:
    """Scores of members (B, M, 1, 1, H, W); crops are cases, and for one member MAE is the CRPS."""
    x, truth = members[:, :, 0, 0].transpose(0, 1).numpy(), batch.fine[:, 0, 0].numpy()
    found = score_arrays(x, truth, dry=dry, sequence=1)
    return {key: np.asarray(found[key]).tolist() for key in SCORES if key in found} | {"members": len(x)}


def gaussian_scores(mean: Tensor, std: Tensor, truth: Tensor) -> dict[str, Any]:
    """The same scores of N(mean, std²) in every cell, in closed form (CRPS: Gneiting et al. 2005)."""
    known = truth.isfinite() & mean.isfinite()
    m, s, y = (field[known].double().numpy() for field in (mean, std, truth))
    error, s = y - m, np.maximum(s, 1e-9)
    w = error / s
    pit = ndtr(w)
    crps = s * (w * (2 * pit - 1) + 2 * np.exp(-w * w / 2) / np.sqrt(2 * np.pi) - 1 / np.sqrt(np.pi))
    histogram = np.histogram(pit, PIT_BINS, (0, 1))[0] / pit.size
    rmse = float(np.sqrt(np.square(error).mean()))
    return {
        "rmse": rmse,
        "mae": float(np.abs(error).mean()),
        "crps": float(crps.mean()),
        "spread_skill": float(np.sqrt(np.square(s).mean())) / rmse,
        "mace": float(np.abs(np.cumsum(histogram)[:-1] - np.arange(1, PIT_BINS) / PIT_BINS).mean()),
        "coverage": [float((np.abs(2 * pit - 1) <= level).mean()) for level in LEVELS],
        "pit_histogram": histogram.tolist(),
        "members": "Gaussian",
    }


def agreement(model: Downscaler, batch: Batch, count: int) -> dict[str, Any]:
    """Standard deviations from `decode_variance` against those of COMPARED decoded members of the first crops.

    The covariance of the same members' latents, with all its terms, by blocks (a matrix for every patch) and its
    diagonal alone, and that of other members; in units and after the constraint, `spread` against `sample`.
    """
    some = batch[:count]
    with modes_alone(model):
        y = model.draw(Inputs(some.coarse), Members(range(2 * COMPARED)))
    z = torch.stack([model.encode(part, model.factor) for part in y])
    y, z, other = y[:, :COMPARED], z[:, :COMPARED], z[:, COMPARED:]
    apart, other = ((part - part.mean(1, keepdim=True)) / (COMPARED - 1) ** 0.5 for part in (z, other))
    latent: Any = model.latent
    found = {
        "all covariances": latent.decode_variance(factor=apart),
        "a block for every patch": latent.decode_variance(block=torch.einsum("bmkthw,bmlthw->bklthw", apart, apart)),
        "diagonal": latent.decode_variance(variance=apart.square().sum(1)),
        "all covariances, of other members": latent.decode_variance(factor=other),
    }
    height, width = some.fine.shape[-2:]
    known = some.fine.isfinite()
    empirical = y.var(1)[..., :height, :width].sqrt()
    rows = {label: alike(v[..., :height, :width].sqrt(), empirical, known) for label, v in found.items()}
    floor = latent.truncated((1, *y.shape[-2:]))[..., :height, :width].expand_as(empirical)
    rows["what is left out, share of the variance"] = {
        "ratio": float(floor[known].mean() / (empirical**2 + floor)[known].mean())
    }
    if model.transform.linear:
        members = model.sample(Inputs(some.coarse, area=some.area), Members(range(COMPARED))).fields
        spread = model.marginals(Inputs(some.coarse, area=some.area), Members(range(COMPARED)), "members")
        rows["in units, after the constraint, with what is left out"] = alike(spread.std, members.std(1), known)
    return rows


def alike(a: Tensor, b: Tensor, known: Tensor) -> dict[str, float]:
    """Correlation of two standard deviations over known cells, and the ratio of their root mean squares."""
    x, y = (part[known & a.isfinite() & b.isfinite()].double() for part in (a, b))
    ratio = float((x.square().mean() / y.square().mean()).sqrt())
    return {"correlation": float(torch.corrcoef(torch.stack([x, y]))[0, 1]), "ratio": ratio}
