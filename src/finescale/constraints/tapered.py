"""Rescaling of non-negative fields that tames or steepens their extremes."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from finescale.constraints.multiplicative import Multiplicative
from finescale.grids.factor import Factor
from finescale.operators.coarsen import Coarsen
from finescale.ranges import NotNegative, Positive


class Tapered(Multiplicative):
    """x = f(y) · U(c / A f(y)) with f(y) = max(y^p − tau, 0), for y, c >= 0.

    p < 1 takes from the peaks and gives to the light values; tau cuts the drizzle and gives it to the peaks. With
    p = 1, tau = 0 this is `Multiplicative`. A block with c > 0 whose f(y) is all zero keeps the pattern of y, and is
    uniform where that is zero too. Applied twice it tapers twice, unless p = 1 and tau = 0.

    Scope ``block`` scales every coarse cell and interval by itself, so that A x = c exactly, in space and in time.
    Scope ``frame`` has one scale for each coarse interval over the whole field, and conserves only its total,

        x = f(y) · Σ w U c / Σ w f(y),      w = area · mask, over cells whose coarse value is known,

    with no borders between blocks, but with coarse cells that are off (`violation` shows by how much), wet cells where
    c = 0, and values that depend on how large the window is that is constrained at once.

    Source: arXiv 2604.21903, whose authors take p = 1/2 or 1, tau = .01 to .04 and scope ``frame``. The default scope
    here is ``block``, because a downscaled field must average back to its input.

    Args:
        factor: the whole factor between c and y.
        area: cell areas (H, W) or anything broadcastable to y; None for equal ones.
        mask: valid cells, broadcastable to y.
        power: p > 0.
        tau: threshold >= 0, in units of y^p.
        scope: what is scaled as one.

    Raises:
        ValueError: if power, tau or scope is none of these.

    Example:
        >>> import torch
        >>> from finescale import Factor
        >>> from finescale.constraints import Tapered
        >>> Tapered(Factor(y=1, x=2), tau=1.0)(torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0]]))  # faint rain is cut
        tensor([[0., 4.]])
    """

    def __init__(
        self,
        factor: Factor,
        area: Tensor | None = None,
        mask: Tensor | None = None,
        power: Positive = 1.0,
        tau: NotNegative = 0.0,
        scope: Literal["block", "frame"] = "block",
    ) -> None:
        super().__init__(factor, area, mask)
        if not (0 < power < math.inf and 0 <= tau < math.inf):
            raise ValueError(f"tapered needs power > 0 and tau >= 0, not {power} and {tau}")
        if scope not in ("block", "frame"):
            raise ValueError(f"tapered needs scope block or frame, not {scope!r}")
        self.power, self.tau, self.scope = power, tau, scope
        # A dry block in a wet frame takes part in the frame's total.
        self.keeps_zero = scope == "block"  # type: ignore[misc]

    def apply_to(self, y: Tensor, coarse: Tensor, operators: Coarsen) -> Tensor:
        if self.scope == "block":
            return super().apply_to(y, coarse, operators)
        # The frame is one block of factor (ft, H, W), over cells whose coarse value is known.
        known = operators.replicate(~coarse.isnan())
        mask = known if operators.mask is None else known & operators.mask
        whole = Factor(operators.factor.time, y=y.shape[-2], x=y.shape[-1])
        frame = Coarsen(whole, operators.area, mask)
        x = super().apply_to(torch.where(mask, y, 0.0), frame(operators.replicate(coarse)), frame)
        return torch.where(known, x, torch.nan)

    def pattern(self, share: Tensor, largest: Tensor, operators: Coarsen) -> Tensor:
        """f(y) / largest^p = share^p − tau · largest^−p where positive; y^p itself could overflow."""
        tapered = share
        if self.power != 1:
            # share^p has an infinite slope at 0 for p < 1: there value and gradient are taken to be 0.
            tapered = share.clamp_min(torch.finfo(share.dtype).tiny).pow(self.power) * share.detach().sign()
        if self.tau == 0:
            return tapered
        cut = self.tau * largest.pow(-self.power)
        lost = cut >= 1  # all of the block: its largest share is 1
        tapered = (tapered - operators.replicate(torch.where(lost, 0.0, cut))).relu_()
        return tapered if self.power == 1 else torch.where(operators.replicate(lost), share, tapered)
