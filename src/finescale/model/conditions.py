"""What the networks are told: the coarse field on fine cells, where it is known, static fields, and predictors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from finescale.errors import InputError
from finescale.grids.factor import Factor
from finescale.operators.advect import along
from finescale.operators.interpolate import upsample

CYCLES = ("day of year", "hour")
"""Predictors that are angles: the networks see their sine and cosine."""
FASTEST = 32.0
"""Coarse cells a frame at most; between frames so far apart that more is found nothing is."""


def channels(predictors: Iterable[str]) -> list[str]:
    """The names of the channels that predictors are, one each, or two where they are angles."""
    sides = [(f"sin {name}", f"cos {name}") if name in CYCLES else (name,) for name in predictors]
    return [channel for pair in sides for channel in pair]


class Conditions(nn.Module):
    """Conditioning fields (B, 2C + 1 + S + P + 2nC + 2 + 1, T, H, W) from coarse fields in the transform's space.

    2n neighbouring coarse frames are interpolated; where one is unknown it is taken to be as the frame itself. With
    motion each is shown where it has moved to: at time τ of a fine frame, in coarse frames from the middle of its own,
    the neighbour k frames away is c_k(x + (k − τ) v(x)), with v the coarse frame's velocity in cells a frame; the
    interpolated coarse field is then (1 − |τ|) c_0 + |τ| c_{sign τ}, moved likewise, and v is shown too.

    The last one, where it is asked for, is the same everywhere: 2 (ζ − 1), with the exponent ζ of the structure
    function of fine fields (`finescale.operators.structure`), which says how smooth they are. Products of radars differ
    in it, as effective resolutions do.

    Args:
        names: S static fields that the model takes, such as elevation.
        predictors: P other fields on the coarse cells that it takes, such as pressure.
        smoothness: whether it is told how smooth fine fields are.
        neighbours: n coarse frames before, and after, each one that it sees too.
        motion: whether these are moved to the time of the fine frame.
    """

    mean: Tensor
    std: Tensor
    predictor_mean: Tensor
    predictor_std: Tensor
    usual: Tensor

    def __init__(
        self,
        names: Sequence[str] = (),
        predictors: Sequence[str] = (),
        smoothness: bool = False,
        neighbours: int = 0,
        motion: bool = False,
    ) -> None:
        super().__init__()
        self.smoothness, self.neighbours, self.motion = smoothness, neighbours, motion
        self.names, self.predictors = list(names), list(predictors)
        self.register_buffer("mean", torch.zeros(len(self.names), 1, 1))
        self.register_buffer("std", torch.ones(len(self.names), 1, 1))
        if predictors:
            self.register_buffer("predictor_mean", torch.zeros(len(predictors), 1, 1, 1))
            self.register_buffer("predictor_std", torch.ones(len(predictors), 1, 1, 1))
        if smoothness:
            self.register_buffer("usual", torch.ones(()))

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self:
        """Those that a configuration asks for."""
        data = config.get("data") or {}
        return cls(
            config.get("static") or [],
            channels(config.get("predictors") or {}),
            bool(data.get("smoothing")),
            int(data.get("neighbours") or 0),
            bool(data.get("motion")),
        )

    def channels(self, variables: int) -> int:
        """How many fields there are for so many variables C."""
        given = len(self.names) + len(self.predictors) + self.smoothness + 2 * self.motion
        return 2 * variables * (1 + self.neighbours) + 1 + given

    def forward(
        self,
        y: Tensor,
        factor: Factor,
        static: Tensor | None = None,
        predictors: Tensor | None = None,
        smoothness: Tensor | None = None,
        neighbours: Tensor | None = None,
        velocity: Tensor | None = None,
    ) -> Tensor:
        """The interpolated and the replicated coarse field, where it is known, static fields, and predictors.

        Args:
            y: (B, C, t, h, w), NaN where unknown.
            factor: from coarse to fine.
            static: (B, S, H, W); given to the networks in standard deviations, 0 where unknown.
            predictors: (B, P, t, h, w); likewise, interpolated.
            smoothness: (B,), the exponent ζ of fine fields, NaN where unknown; None for the training data's mean.
            neighbours: (B, 2n, C, t, h, w), NaN where unknown; None for all unknown.
            velocity: (B, 2, t, h, w), coarse cells along y and x in a coarse frame; None for none.

        Raises:
            InputError: if the static fields or the predictors are not those of training.
        """
        known = ~y.isnan()
        y = torch.where(known, y, 0.0)
        mask = known.all(dim=1, keepdim=True).to(y.dtype)
        first, about = self._about(y, factor, neighbours, velocity)
        fields = [first, upsample(torch.cat([y, mask], 1), factor, "nearest")]
        given = 0 if static is None else static.shape[1]
        if given != len(self.names):
            raise InputError(
                f"this model takes {len(self.names)} static fields {self.names}, not {given}: give --static"
            )
        if static is not None:
            scaled = ((static - self.mean) / self.std).nan_to_num()[:, :, None]
            fields.append(scaled.expand(len(y), -1, fields[0].shape[2], -1, -1))
        given = 0 if predictors is None else predictors.shape[1]
        if given != len(self.predictors):
            raise InputError(f"this model takes {len(self.predictors)} predictors {self.predictors}, not {given}")
        if predictors is not None:
            scaled = ((predictors - self.predictor_mean) / self.predictor_std).nan_to_num()
            fields.append(upsample(scaled, factor, "cubic"))
        fields += about
        if self.smoothness:
            exponents = self.usual.expand(len(y)) if smoothness is None else smoothness.to(y)
            told = 2 * (torch.where(exponents.isnan(), self.usual, exponents) - 1)
            fields.append(told.reshape(-1, 1, 1, 1, 1).expand(-1, 1, *fields[0].shape[2:]))
        return torch.cat(fields, 1)

    def _about(
        self, y: Tensor, factor: Factor, neighbours: Tensor | None, velocity: Tensor | None
    ) -> tuple[Tensor, list[Tensor]]:
        """The interpolated coarse field, and what is told of the frames before and after."""
        if not self.neighbours:
            return upsample(y, factor, "cubic"), []
        own = y[:, None].expand(-1, 2 * self.neighbours, -1, -1, -1, -1)
        near = own if neighbours is None else torch.where(neighbours.isnan(), own, neighbours)
        if not self.motion:
            return upsample(y, factor, "cubic"), [upsample(near.flatten(1, 2), factor, "cubic")]
        speed = y.new_zeros(len(y), 2, *y.shape[2:]) if velocity is None else velocity.to(y).clamp(-FASTEST, FASTEST)
        first, moved = along(y, near, speed, factor)
        fine = upsample(speed, Factor(y=factor.y, x=factor.x), "linear").repeat_interleave(factor.time, 2)
        return first, [moved, fine]

    def fit(
        self, static: Sequence[Tensor], predictors: Sequence[Tensor] = (), smoothness: Sequence[Tensor] = ()
    ) -> None:
        """Mean and standard deviation of static fields (B, S, H, W) and predictors (B, P, t, h, w) over known cells.

        The mean alone of the exponents ζ (B,) of fine fields, where they are told.
        """
        exponents = torch.cat([part.flatten() for part in smoothness]) if smoothness else torch.empty(0)
        if self.smoothness and bool(exponents.isfinite().any()):
            self.usual.copy_(exponents.nanmean())
        if static:
            _fit(static, self.mean, self.std)
        if predictors:
            _fit(predictors, self.predictor_mean, self.predictor_std)


def _fit(batches: Sequence[Tensor], mean: Tensor, std: Tensor) -> None:
    """Mean and standard deviation of every channel (B, channels, …), written into buffers."""
    values = torch.cat([batch.transpose(0, 1).flatten(1) for batch in batches], 1).double()
    count = values.isfinite().sum(1).clamp_min(1)
    centre = values.nan_to_num().sum(1) / count
    spread = ((values - centre[:, None]).nan_to_num().square().sum(1) / count).sqrt()
    mean.copy_(centre.reshape(mean.shape))
    std.copy_(spread.clamp_min(1e-6).reshape(std.shape))
