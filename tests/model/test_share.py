"""Parts of a batch: the mean of their losses, and of their gradients, is that of the whole, for every kind of loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from finescale.diffusion import Distillation
from finescale.downscaler import Downscaler
from finescale.grids.factor import Factor
from finescale.model.batch import Batch
from finescale.model.share import Share
from finescale.operators.coarsen import Coarsen
from finescale.samplers import DPM2M

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "mean": ("mean", {}),
    "mean through its constraint": ("mean", {"denoiser": "none"}),
    "mean with a penalty": ("mean", {"denoiser": "none", "constraint": "penalty"}),
    "joint": ("joint", {}),
    "denoiser": ("denoiser", {}),
    "denoiser with total variation": ("denoiser", {"tv": 1e-2}),
    "variance": ("variance", {}),
    "distill": ("distill", {}),
}


@pytest.fixture
def crops() -> Callable[[bool], Batch]:
    """``crops(weighted)``: six crops of which the first miss most cells, and whole coarse ones."""

    def made(weighted: bool) -> Batch:
        generator = torch.Generator().manual_seed(0)
        fine = torch.rand(6, 1, 1, 16, 16, generator=generator) * 5
        for n in range(3):
            fine[n, ..., : 15 - 4 * n, 3:] = torch.nan
        area = torch.linspace(1, 2, 16)[:, None].expand(6, 16, 16)
        coarse = Coarsen(Factor(1, 4), area[:, None, None], ~fine.isnan())(fine)
        return Batch(coarse, area, fine=fine, weight=torch.linspace(0.2, 2, 6) if weighted else None)

    return made


def found(model: Downscaler, kind: str, batch: Batch, share: Share, teacher: Distillation | None) -> list[Tensor]:
    """Loss and gradients."""
    model.zero_grad()
    loss = model.loss(kind, batch, torch.Generator().manual_seed(1), share=share, teacher=teacher)
    loss.backward()
    return [loss.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("weighted", [False, True], ids=["alike", "weighted"])
@pytest.mark.parametrize("name", KINDS)
def test_parts_are_the_whole(
    built: Callable[..., Downscaler],
    tiny: dict[str, Any],
    head: dict[str, Any],
    crops: Callable[[bool], Batch],
    name: str,
    weighted: bool,
) -> None:
    """To the rounding of float32 in sums of 1500 cells, 1500 · 6e-8 = 1e-4 at worst, and a tenth of it elsewhere.

    A part divided by its own count is wrong by the ratio of known cells, which is 3 and more here.
    """
    kind, changes = KINDS[name]
    process = tiny["process"] | {key: value for key, value in changes.items() if key == "tv"}
    rest = {key: value for key, value in changes.items() if key != "tv"} | {"process": process, "variance": head}
    model, batch = built(**rest), crops(weighted)
    teacher = None
    if kind == "distill":
        assert model.denoiser is not None
        model.denoiser, old = built(**rest | {"precision": "float32"}).denoiser, model.denoiser
        teacher = Distillation(old, DPM2M(), model.process.sigmas(4), 2)
        assert model.denoiser is not None
        for parameter in model.denoiser.parameters():
            parameter.data *= 1.1
    counts: list[Tensor] = []

    def counted(x: Tensor) -> Tensor:
        counts.append(x)
        return x

    whole = found(model, kind, batch, Share(0, 1, counted), teacher)
    assert len(whole) > 1
    parts = []
    for index in range(3):
        remembered = iter(counts)
        share = Share(index, 3, lambda x, remembered=remembered: next(remembered))  # type: ignore[misc]
        parts.append(found(model, kind, batch[share.items(6)], share, teacher))
    for one, *three in zip(whole, *parts, strict=True):
        scale = float(one.abs().max())
        torch.testing.assert_close(torch.stack(three).mean(0), one, rtol=1e-4, atol=1e-5 * scale)


def test_what_a_part_is_of() -> None:
    share = Share(1, 3, lambda x: 3 * x)
    assert share.items(6) == slice(2, 4)
    assert torch.equal(share.part(torch.arange(6)), torch.tensor([2, 3]))
    assert torch.equal(share.part(torch.arange(12).reshape(2, 6), dim=1), torch.tensor([[2, 3], [8, 9]]))
    assert float(share.count(torch.tensor(4.0))) == 4 and float(share.count(torch.tensor(0.0))) == pytest.approx(1 / 3)
