"""The assembled model: six replaceable parts and what is done with them.

cond = transform(upsampled coarse), mask
mu   = mean(cond)
z    = sampler(denoiser given latent.fold(cond, mu)), from noise
x    = constraint(transform.inverse(mu + latent.decode(z)), coarse)

`finescale.sampling` draws members so. Instead of members, `finescale.uncertainty` gives the mean and variance of x,
from a covariance of z in closed form. `finescale.losses` is what training minimises.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import xarray as xr
from torch import Tensor

from finescale import losses, uncertainty
from finescale.data.patches import Batch
from finescale.extent import Index
from finescale.mean import MeanModel
from finescale.predict import downscale_dataset
from finescale.sampling import Sampling
from finescale.spread import LEVELS, Spread


class Downscaler(Sampling):
    """Coarse (B, C, t, h, w) in, an ensemble (B, M, C, T, H, W) out, in the variable's units; its parts: `Parts`."""

    def loss(self, stage: str, batch: Batch, generator: torch.Generator, mean: MeanModel | None = None) -> Tensor:
        """Loss of a training stage on a batch; see `finescale.losses.loss`."""
        return losses.loss(self, stage, batch, generator, mean)

    def residual(self, batch: Batch, mean: MeanModel | None = None) -> Tensor:
        """transform(fine) − mean, what the latent space represents; see `finescale.losses.residual`."""
        return losses.residual(self, batch, mean)

    @torch.no_grad()
    def spread(
        self,
        coarse: Tensor,
        source: str = "auto",
        *,
        members: int = 64,
        seed: int = 0,
        steps: int | None = None,
        origin: Index | Sequence[Index] = (0, 0, 0),
        area: Tensor | None = None,
        static: Tensor | None = None,
        levels: Sequence[float] = LEVELS,
        fields: list[Tensor] | None = None,
        gaps: list[float] | None = None,
    ) -> Spread:
        """Mean, standard deviation and quantiles of the fine field; how: `finescale.uncertainty`.

        Args:
            coarse: (B, C, t, h, w) in the variable's units; NaN where unknown.
            source: head, members or denoiser; auto for the head where there is one, otherwise members.
            members: latents that are sampled, for source members; the first ones are those of `sample`.
            seed: as in `sample`, as are steps, origin, area and static.
            levels: probabilities of the quantiles.
            fields: a list that receives the members that the variance is from, (B, M, C, T, H, W) as of `sample`.
            gaps: as in `sample`, of these members.

        Raises:
            InputError: if the model has not what the source needs.
        """
        return uncertainty.spread(
            self,
            coarse,
            source,
            members=members,
            seed=seed,
            steps=steps,
            origin=origin,
            area=area,
            static=static,
            levels=levels,
            fields=fields,
            gaps=gaps,
        )

    @property
    def propagates(self) -> bool:
        """Whether a spread goes through the constraint: an additive one in units that are linear in y."""
        return uncertainty.propagates(self)

    def spread_source(self, source: str = "auto", members: int = 64) -> str:
        """Where a spread's variance is from: head, members or denoiser.

        Raises:
            InputError: if the model has not what the source needs.
        """
        return uncertainty.source_of(self, source, members)

    def spread_comment(self, source: str, members: int) -> str:
        """What a file says of its standard deviation."""
        return uncertainty.comment(self, source, members)

    def downscale(
        self, coarse: xr.Dataset | xr.DataArray, members: int | None = None, seed: int = 0, **settings: Any
    ) -> xr.Dataset:
        """The ensemble of a dataset (realization, time, y, x), in memory; `finescale.predict.predict` streams files.

        Args:
            coarse: the variable on the coarse grid, any domain size; NaN where unknown.
            members: how many, 16 unless given; 0 for their mean instead, with ``variance``. A deterministic model has
                one field.
            seed: members of one seed are the same in every run.
            settings: variable, factor or to, force, static, variance, steps, window, halo and batch, as
                `finescale.predict.predict` takes them.

        Raises:
            InputError: for input or settings that cannot be used.
        """
        return downscale_dataset(self, coarse, members, seed, **settings)
