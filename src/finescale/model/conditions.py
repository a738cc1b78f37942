"""What the networks are told: the coarse field on fine cells, where it is known, static fields, and the factor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from finescale.errors import InputError
from finescale.grids.factor import Factor
from finescale.operators.interpolate import upsample


class Conditions(nn.Module):
    """Conditioning fields (B, 2C + 1 + S, T, H, W) from coarse fields in the transform's space.

    Args:
        names: S static fields that the model takes, such as elevation.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, names: Sequence[str] = ()) -> None:
        super().__init__()
        self.names = list(names)
        self.register_buffer("mean", torch.zeros(len(self.names), 1, 1))
        self.register_buffer("std", torch.ones(len(self.names), 1, 1))

    def forward(self, y: Tensor, factor: Factor, static: Tensor | None = None) -> Tensor:
        """The interpolated and the replicated coarse field, where it is known, and static fields.

        Args:
            y: (B, C, t, h, w), NaN where unknown.
            factor: from coarse to fine.
            static: (B, S, H, W); given to the networks in standard deviations, 0 where unknown.

        Raises:
            InputError: if the static fields are not those of training.
        """
        known = ~y.isnan()
        y = torch.where(known, y, 0.0)
        mask = known.all(dim=1, keepdim=True).to(y.dtype)
        fields = [upsample(y, factor, "cubic"), upsample(torch.cat([y, mask], 1), factor, "nearest")]
        given = 0 if static is None else static.shape[1]
        if given != len(self.names):
            raise InputError(
                f"this model takes {len(self.names)} static fields {self.names}, not {given}: give --static"
            )
        if static is not None:
            scaled = ((static - self.mean) / self.std).nan_to_num()[:, :, None]
            fields.append(scaled.expand(len(y), -1, fields[0].shape[2], -1, -1))
        return torch.cat(fields, 1)

    def fit(self, batches: Sequence[Tensor]) -> None:
        """Mean and standard deviation of static fields (B, S, H, W) over known cells."""
        if batches:
            values = torch.cat([batch.transpose(0, 1).flatten(1) for batch in batches], 1).double()
            count = values.isfinite().sum(1).clamp_min(1)
            mean = values.nan_to_num().sum(1) / count
            std = ((values - mean[:, None]).nan_to_num().square().sum(1) / count).sqrt()
            self.mean.copy_(mean[:, None, None])
            self.std.copy_(std.clamp_min(1e-6)[:, None, None])
