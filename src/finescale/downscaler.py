"""The assembled model: six replaceable parts and what is done with them.

cond = transform(upsampled coarse), mask
mu   = mean(cond)
z    = sampler(denoiser given latent.fold(cond, mu)), from noise
x    = constraint(transform.inverse(mu + latent.decode(z)), coarse)

`finescale.model.sampling` draws members so. Instead of members, `finescale.model.uncertainty` gives the mean and
variance of x, from a covariance of z in closed form. `finescale.model.losses` is what training minimises.
"""

from __future__ import annotations

from typing import Any

import xarray as xr

from finescale.inference.predict import downscale_dataset
from finescale.model import losses, uncertainty
from finescale.model.sampling import Sampling


class Downscaler(Sampling):
    """Coarse (B, C, t, h, w) in, an ensemble (B, M, C, T, H, W) out, in the variable's units; its parts: `Parts`."""

    # Methods that have modules of their own.
    loss = losses.loss
    residual = losses.residual
    spread = uncertainty.spread
    spread_source = uncertainty.source_of
    spread_comment = uncertainty.comment

    def downscale(
        self, coarse: xr.Dataset | xr.DataArray, members: int | None = None, seed: int = 0, **settings: Any
    ) -> xr.Dataset:
        """The ensemble of a dataset (realization, time, y, x), in memory; `finescale.inference.predict` streams files.

        Args:
            coarse: the variable on the coarse grid, any domain size; NaN where unknown.
            members: how many, 16 unless given; 0 for their mean instead, with ``variance``. A deterministic model has
                one field.
            seed: members of one seed are the same in every run.
            settings: variable, factor or to, force, static, variance, steps, window, halo and batch, as
                `finescale.inference.predict.predict` takes them.

        Raises:
            InputError: for input or settings that cannot be used.
        """
        return downscale_dataset(self, coarse, members, seed, **settings)
