"""The assembled model: six replaceable parts and the algorithm that joins them.

cond = transform(upsampled coarse), mask
mu   = mean(cond)
z    = sampler(denoiser given latent.fold(cond, mu)), from noise
x    = constraint(transform.inverse(mu + latent.decode(z)), coarse)

Instead of members, `Downscaler.spread` gives the mean and variance of x, from a covariance of z in closed form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import torch
import xarray as xr
from torch import Tensor

from finescale import losses
from finescale.coarsen import Coarsen
from finescale.constraints import Additive
from finescale.data.patches import Batch
from finescale.diffusion import TiledDenoiser, noise_source
from finescale.diffusion.tweedie import posterior
from finescale.errors import InputError
from finescale.extent import Index, pad
from finescale.latents.base import LinearLatentSpace
from finescale.mean import MeanModel
from finescale.parts import Parts
from finescale.predict import downscale_dataset
from finescale.propagation import Decoder
from finescale.samplers import Consistency, Denoise
from finescale.spread import LEVELS, SOURCES, Moments, Spread, comment, gaussian, transformed

HIGH_NOISE = 5.0
"""Noise level at which the denoiser's posterior variance is taken, in standard deviations of the latent: there the
posterior is that of the conditions alone within 4 %, and errors of the network, which count sigma times, stay small."""
PROBES = 8
"""Noise draws over which it is averaged."""


@dataclass(frozen=True)
class Given:
    """What the networks are told of a window, padded to their stride.

    Attributes:
        cond: (B, Kc, T, H, W) conditioning fields.
        mu: (B, C, T, H, W) mean, in the transform's space.
        scalars: (B, S) features of the factor, or None.
        corners: absolute latent index of the first cell of every item.
    """

    cond: Tensor
    mu: Tensor
    scalars: Tensor | None
    corners: list[Index]


class Downscaler(Parts):
    """Coarse (B, C, t, h, w) in, an ensemble (B, M, C, T, H, W) out, in the variable's units; its parts: `Parts`."""

    def loss(self, stage: str, batch: Batch, generator: torch.Generator, mean: MeanModel | None = None) -> Tensor:
        """Loss of a training stage on a batch; see `finescale.losses.loss`."""
        return losses.loss(self, stage, batch, generator, mean)

    def residual(self, batch: Batch, mean: MeanModel | None = None) -> Tensor:
        """transform(fine) − mean, what the latent space represents; see `finescale.losses.residual`."""
        return losses.residual(self, batch, mean)

    @torch.no_grad()
    def sample(
        self,
        coarse: Tensor,
        *,
        members: int = 1,
        seed: int = 0,
        first_member: int = 0,
        steps: int | None = None,
        origin: Index | Sequence[Index] = (0, 0, 0),
        area: Tensor | None = None,
        static: Tensor | None = None,
        gaps: list[float] | None = None,
    ) -> Tensor:
        """Draw members.

        Args:
            coarse: (B, C, t, h, w) in the variable's units; NaN where unknown. Any h and w.
            members: M, how many.
            seed: members with one seed, index and origin are equal in every call.
            first_member: index of the first member.
            steps: sampler steps; None for the model's own.
            origin: absolute index (t, y, x) of the first coarse cell, one for all or one an item of the batch;
                multiples of `multiple`.
            area: (H, W) or (B, H, W) fine cell areas; None for equal ones.
            static: (S, H, W) or (B, S, H, W) static fields, where the model takes them.
            gaps: a list that receives the largest |A x − c| before the constraint.

        Returns:
            (B, M, C, T, H, W) in the variable's units; NaN where the coarse cell is.
        """
        coarse = torch.where(coarse.isfinite(), coarse, torch.nan).to(self.device)
        if self.factor.cells == 1:
            return coarse[:, None].repeat(1, members, 1, 1, 1, 1)
        area = None if area is None else area.to(self.device)
        if self.constraint is not None and self.constraint.keeps_zero and not bool(coarse.nan_to_num().any()):
            # Most windows of a large domain are dry; their result is known without a network.
            return Coarsen(self.factor).replicate(coarse)[:, None].repeat(1, members, 1, 1, 1, 1)
        y = self.draw(
            coarse,
            members=members,
            seed=seed,
            first_member=first_member,
            steps=steps,
            origin=origin,
            area=area,
            static=static,
        )
        return self.finish(y, coarse, area, gaps)

    @torch.no_grad()
    def draw(
        self,
        coarse: Tensor,
        *,
        members: int = 1,
        seed: int = 0,
        first_member: int = 0,
        steps: int | None = None,
        origin: Index | Sequence[Index] = (0, 0, 0),
        area: Tensor | None = None,
        static: Tensor | None = None,
    ) -> Tensor:
        """Members in the transform's space, (B, M, C, T, H, W), padded to the stride; `finish` makes fields of them.

        Arguments as in `sample`.
        """
        coarse = coarse.to(self.device)
        given = self._given(coarse, origin, static)
        if self.denoiser is None:
            return given.mu[:, None].expand(-1, members, -1, -1, -1, -1)
        z = self._latents(given, coarse, members, seed, first_member, steps, area)
        return self._decoded(given, z)

    def _decoded(self, given: Given, z: Tensor) -> Tensor:
        """mu + decode(z) for latents (B, M, K, T', H', W')."""
        y = torch.cat([self.decode(part, self.factor) for part in z.flatten(0, 1).split(self.batch)])
        return given.mu[:, None] + y.unflatten(0, z.shape[:2])

    def _given(self, coarse: Tensor, origin: Index | Sequence[Index], static: Tensor | None) -> Given:
        """Run the mean network on (B, C, t, h, w)."""
        extent = self.extent
        if static is not None:
            static = static.reshape(-1, *static.shape[-3:]).to(self.device)
        cond = pad(self.conditions(self.transform(coarse), self.factor, static), extent.stride)
        scalars = self.scalars(self.factor, len(cond))
        with self.autocast(coarse.device):
            mu = extent.tiling((1, 1, 1), None, 0).evaluate(lambda cond: self.mean(cond, scalars), cond)
        origins: list[Any] = [origin] * len(mu) if isinstance(origin[0], Integral) else list(origin)
        corners = [extent.latent_index(first) for first in origins]
        return Given(cond, mu, scalars, corners)

    def _folded(self, given: Given) -> Tensor:
        """(B, Kc, T', H', W'), what the denoiser and the variance head are told, at latent resolution."""
        return self.latent.fold(torch.cat([given.cond, given.mu], 1))

    def _latents(
        self,
        given: Given,
        coarse: Tensor,
        members: int,
        seed: int,
        first_member: int,
        steps: int | None,
        area: Tensor | None,
    ) -> Tensor:
        """Sampled latents (B, M, K, T', H', W')."""
        assert self.denoiser is not None
        mu, folded = given.mu, self._folded(given)
        sigmas = self.process.sigmas(steps).to(mu.device)
        pairs = [(item, member) for item in range(len(mu)) for member in range(first_member, first_member + members)]
        found = []
        for start in range(0, len(pairs), self.batch):
            some = pairs[start : start + self.batch]
            pick = torch.tensor([item for item, _ in some], device=mu.device)
            places = [(member, given.corners[item]) for item, member in some]
            noise = self.noise.fields(_size(folded), places, seed, self.device)
            denoise = self._denoise(folded[pick], given.scalars)
            if self.process.constrain == "steps" and self.constraint is not None:
                chosen = None if area is None else area.expand(len(mu), -1, -1)[pick]
                denoise = self._projected(denoise, mu[pick], coarse[pick], chosen)
            found.append(self.process.sampler(denoise, noise(0), sigmas, noise))
        return torch.cat(found).unflatten(0, (len(mu), members))

    def _denoise(self, folded: Tensor, scalars: Tensor | None, exact: bool = False) -> Denoise:
        """The denoiser on a whole canvas, told ``folded``; ``exact`` for float32."""
        assert self.denoiser is not None
        # One tiling for every step: windows' predictions are blended on one canvas.
        tiling = self.extent.tiling(self.latent.stride, self.tile, self.tile_halo)
        context = None if exact else self.autocast(folded.device)
        return TiledDenoiser(self.denoiser, folded, tiling, context, None if scalars is None else scalars[:1])

    def _projected(self, denoise: Denoise, mu: Tensor, coarse: Tensor, area: Tensor | None) -> Denoise:
        """The denoiser with its clean estimate put through the constraint."""

        def project(z: Tensor, sigma: Tensor) -> Tensor:
            y = mu + self.decode(denoise(z, sigma), self.factor)
            return self.encode(self._through_constraint(y, coarse, area) - mu, self.factor)

        return project

    def _through_constraint(self, y: Tensor, coarse: Tensor, area: Tensor | None) -> Tensor:
        """Fields (B, C, T, H, W) of the transform's space with the wanted block means, where these are known."""
        x = self.finish(y[:, None], coarse, area)[:, 0]
        t, height, width = x.shape[-3:]
        closed = y.clone()
        closed[..., :t, :height, :width] = torch.where(x.isnan(), y[..., :t, :height, :width], self.transform(x))
        return closed

    def finish(self, y: Tensor, coarse: Tensor, area: Tensor | None = None, gaps: list[float] | None = None) -> Tensor:
        """Transform's space -> units, cut to the coarse field's size, constrained, NaN where it is unknown.

        Args:
            y: (B, M, C, T, H, W) from `draw`.
            coarse: (B, C, t, h, w).
            area: (H, W) or (B, H, W) fine cell areas; None for equal ones.
            gaps: a list that receives the largest |A x − c| before the constraint.
        """
        t, height, width = self._fine_size(coarse)
        return self._closed(self.physical(y)[..., :t, :height, :width], coarse, area, gaps)

    def _closed(self, x: Tensor, coarse: Tensor, area: Tensor | None = None, gaps: list[float] | None = None) -> Tensor:
        """Fields (B, M, C, T, H, W) in units (or logits) after the constraint; arguments as in `finish`."""
        operators = self._operators(coarse, area, 1)
        wanted = coarse[:, None].expand(-1, x.shape[1], *(-1,) * 4)
        if gaps is not None and self.constraint is not None and self.constraint.domain == "field":
            gaps.append(float((operators(x) - wanted).abs().nan_to_num().max()))
        if self.constraint is not None:
            x = self.constraint(x, wanted, operators)
        return torch.where(operators.replicate(wanted.isnan()), torch.nan, x)

    def _operators(self, coarse: Tensor, area: Tensor | None, axes: int) -> Coarsen:
        """A and U, with ``axes`` axes between the batch's and (C, T, H, W)."""
        if area is not None:
            area = area.reshape(-1, *(1,) * (axes + 2), *area.shape[-2:])
        return Coarsen(self.factor, area).to(coarse.device)

    def _fine_size(self, coarse: Tensor) -> Index:
        t, height, width = (n * f for n, f in zip(coarse.shape[-3:], self.factor, strict=True))
        return t, height, width

    # --- variance without members

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
        """Mean, standard deviation and quantiles of the fine field, from a latent covariance Σ in closed form.

        Σ is that of the variance head (``head``: no sampling), of sampled latents (``members``: low-rank, with the
        correlations between cells), or the denoiser's posterior at high noise (``denoiser``: a few evaluations);
        head and denoiser take coefficients as independent. What is propagated exactly: `finescale.spread`.

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
        source = self.spread_source(source, members)
        coarse = torch.where(coarse.isfinite(), coarse, torch.nan).to(self.device)
        area = None if area is None else area.to(self.device)
        unknown = Coarsen(self.factor).replicate(coarse.isnan())
        keeps_zero = self.constraint is not None and self.constraint.keeps_zero
        known_exactly = self.factor.cells == 1 or (keeps_zero and not bool(coarse.nan_to_num().any()))
        if known_exactly:
            field = Coarsen(self.factor).replicate(coarse)
            zero = torch.where(unknown, torch.nan, 0.0)
            if fields is not None:
                fields.append(field[:, None].repeat(1, members, 1, 1, 1, 1))
            return Spread(field, zero, torch.stack([field] * len(levels), 1), tuple(levels), source)
        given = self._given(coarse, origin, static)
        if self.denoiser is None:
            # A deterministic model is trained through its constraint: only after it is its mean one.
            given = replace(given, mu=self._through_constraint(given.mu, coarse, area))
        if source == "members":
            z = self._latents(given, coarse, members, seed, 0, steps, area)
            moments = Moments.of_members(z)
            if fields is not None:
                fields.append(self.finish(self._decoded(given, z), coarse, area, gaps))
        else:
            moments = self._head(given) if source == "head" else self._posterior(given, seed)
        found = self._in_units(given.mu, moments, coarse, area, source, levels)
        if keeps_zero:
            found = found.where(Coarsen(self.factor).replicate(coarse == 0), 0.0)
        return found.where(unknown, torch.nan)

    def _in_units(
        self, mu: Tensor, moments: Moments, coarse: Tensor, area: Tensor | None, source: str, levels: Sequence[float]
    ) -> Spread:
        """A Gaussian latent as a spread in units."""
        t, height, width = size = self._fine_size(coarse)
        assert isinstance(self.latent, LinearLatentSpace)
        decoder = Decoder(self.latent, size, None if self.gain is None else self.gain(self.factor))
        operators = self._operators(coarse, area, 0) if self.propagates else None
        std = moments.field_variance(decoder, operators).clamp_min(0).sqrt()
        centre = mu if moments.centre is None else mu + self.decode(moments.centre, self.factor)
        centre = centre[..., :t, :height, :width]
        if self.transform.linear:
            mean = self.transform.inverse(centre)
            mean = mean if self.denoiser is None else self._closed(mean[:, None], coarse, area)[:, 0]
            return gaussian(mean, std, self.transform.inverse, source, levels)
        found = transformed(centre, std, self.transform.inverse, source, levels)
        if self.constraint is None or self.constraint.domain == "logits":
            return found
        return replace(found, mean=self._closed(found.mean[:, None], coarse, area)[:, 0])

    def _head(self, given: Given) -> Moments:
        """Σ of the variance head."""
        assert self.variance is not None
        head = self.variance
        tiling = self.extent.tiling(self.latent.stride, self.tile, self.tile_halo)
        with self.autocast(given.mu.device):
            found = tiling.evaluate(lambda folded: head(folded, given.scalars), self._folded(given))
        return Moments(variance=found.exp())

    def _posterior(self, given: Given, seed: int) -> Moments:
        """Mean and posterior variance of the denoiser at high noise, averaged over PROBES draws of the noise."""
        sigma = torch.tensor(min(HIGH_NOISE, float(self.process.sigmas()[0])), device=given.mu.device)
        folded = self._folded(given)
        denoise = self._denoise(folded, given.scalars, exact=True)
        centre = variance = torch.zeros((), device=given.mu.device)
        for probe in range(PROBES):
            places = [(probe, corner) for corner in given.corners]
            noise = self.noise.fields(_size(folded), places, seed, self.device)
            signs = noise_source(self.latent.channels, _size(folded), places, seed, self.device)(1).sign()
            clean, found = posterior(denoise, sigma * noise(0), sigma, signs, self.noise.covariance)
            centre, variance = centre + clean / PROBES, variance + found / PROBES
        return Moments(centre, variance)

    @property
    def propagates(self) -> bool:
        """Whether a spread goes through the constraint: an additive one in units that are linear in y."""
        return self.transform.linear and isinstance(self.constraint, Additive)

    def spread_source(self, source: str = "auto", members: int = 64) -> str:
        """Where a spread's variance is from: head, members or denoiser.

        Raises:
            InputError: if the model has not what the source needs.
        """
        if source not in ("auto", *SOURCES):
            raise InputError(f"the variance's source is {source!r}, but must be one of {', '.join(SOURCES)}")
        if self.variance is None and self.denoiser is None:
            raise InputError(
                "this model is deterministic and has no variance head: train it with one (--set variance.loss=nll), "
                "or leave --variance out"
            )
        if source == "auto":
            return "members" if self.variance is None else "head"
        if source == "head" and self.variance is None:
            raise InputError(
                "this model has no variance head: take --variance members, or train it with --set variance.loss=nll"
            )
        if source != "head" and self.denoiser is None:
            raise InputError(f"this model has no denoiser for --variance {source}: take --variance head")
        if source == "denoiser" and isinstance(self.process.sampler, Consistency):
            raise InputError(
                "this model is distilled: its denoiser gives samples, not the mean that --variance denoiser is "
                "derived from; take --variance members, or the model it was distilled from"
            )
        if source == "members" and members < 2:
            raise InputError(f"a variance from {members} members is none: take at least 2, or another source")
        return source

    def spread_comment(self, source: str, members: int) -> str:
        """What a file says of its standard deviation."""
        return comment(source, members, self.transform.linear, self.constraint is not None, self.propagates)

    def downscale(
        self, coarse: xr.Dataset | xr.DataArray, members: int = 16, seed: int = 0, **settings: Any
    ) -> xr.Dataset:
        """The ensemble of a dataset (realization, time, y, x), in memory; `finescale.predict.predict` streams files.

        Args:
            coarse: the variable on the coarse grid, any domain size; NaN where unknown.
            members: how many; 0 for their mean instead, with ``variance``.
            seed: members of one seed are the same in every run.
            settings: variable, factor or to, force, static, variance, steps, window, halo and batch, as
                `finescale.predict.predict` takes them.

        Raises:
            InputError: for input or settings that cannot be used.
        """
        return downscale_dataset(self, coarse, members, seed, **settings)


def _size(z: Tensor) -> Index:
    t, height, width = z.shape[-3:]
    return t, height, width
