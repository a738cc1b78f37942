"""Members: the networks run on a window, the sampler on its latent, and the constraint on what comes of it.

cond = transform(upsampled coarse), mask
mu   = mean(cond)
z    = sampler(denoiser given latent.fold(cond, mu)), from noise
x    = constraint(transform.inverse(mu + latent.decode(z)), coarse)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from finescale.diffusion import TiledDenoiser, noise_source
from finescale.latents import LinearLatentSpace
from finescale.model.components import Parts
from finescale.model.sizes import Index, pad
from finescale.operators.coarsen import Coarsen
from finescale.samplers import Denoise

REMAINDER = 2**31 - 1
"""Number of the noise that stands for what a latent leaves out; samplers count theirs from 0."""


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


class Sampling(Parts):
    """Coarse (B, C, t, h, w) in, an ensemble (B, M, C, T, H, W) out, in the variable's units; its parts: `Parts`."""

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
        wet = coarse.nan_to_num().flatten(1).any(1)
        if self.constraint is not None and self.constraint.keeps_zero and not bool(wet.all()):
            # Most windows of a large domain are dry; their result is known without a network.
            fine = Coarsen(self.factor).replicate(coarse)[:, None].repeat(1, members, 1, 1, 1, 1)
            if bool(wet.any()):
                origins = [at for at, some in zip(listed(origin, len(wet)), wet.tolist(), strict=True) if some]
                per_item = {"area": (area, 2), "static": (static, 3)}
                fine[wet] = self.sample(
                    coarse[wet],
                    members=members,
                    seed=seed,
                    first_member=first_member,
                    steps=steps,
                    origin=origins,
                    gaps=gaps,
                    **{k: x if x is None or x.ndim == n else x[wet] for k, (x, n) in per_item.items()},
                )
            return fine
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
        given = self.given(coarse, origin, static)
        if self.denoiser is None:
            return given.mu[:, None].expand(-1, members, -1, -1, -1, -1)
        z = self.latents(given, coarse, members, seed, first_member, steps, area)
        return self.decoded(given, z, seed, first_member)

    def decoded(self, given: Given, z: Tensor, seed: int, first_member: int) -> Tensor:
        """mu + decode(z) for latents (B, M, K, T', H', W'), with the latent's remainder where it has one."""
        at_once = self.at_once(given.mu[0, 0].numel())
        y = torch.cat([self.decode(part, self.factor) for part in z.flatten(0, 1).split(at_once)])
        y = given.mu[:, None] + y.unflatten(0, z.shape[:2])
        if isinstance(self.latent, LinearLatentSpace) and self.latent.remainder:
            places: list[Any] = [
                (first_member + member, tuple(n * s for n, s in zip(corner, self.latent.stride, strict=True)))
                for corner in given.corners
                for member in range(z.shape[1])
            ]
            white = noise_source(y.shape[2], size_of(y), places, seed, y.device)(REMAINDER)
            left_out = self.latent.left_out(white) * self.rest_scale(self.factor)
            y += left_out.unflatten(0, y.shape[:2])
        return y

    def given(self, coarse: Tensor, origin: Index | Sequence[Index], static: Tensor | None) -> Given:
        """Run the mean network on (B, C, t, h, w)."""
        extent = self.extent
        extent.check_plane(*self.fine_size(coarse)[1:])
        if static is not None:
            static = static.reshape(-1, *static.shape[-3:]).to(self.device)
        cond = pad(self.conditions(self.transform(coarse), self.factor, static), extent.stride)
        scalars = self.scalars(self.factor, len(cond))
        with self.autocast(coarse.device):
            mu = extent.tiling((1, 1, 1), None, 0).evaluate(lambda cond: self.mean(cond, scalars), cond)
        corners = [extent.latent_index(first) for first in listed(origin, len(mu))]
        return Given(cond, mu, scalars, corners)

    def folded(self, given: Given) -> Tensor:
        """(B, Kc, T', H', W'), what the denoiser and the variance head are told, at latent resolution."""
        return self.latent.fold(torch.cat([given.cond, given.mu], 1))

    def latents(
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
        mu, folded = given.mu, self.folded(given)
        sigmas = self.process.sigmas(steps).to(mu.device)
        pairs = [(item, member) for item in range(len(mu)) for member in range(first_member, first_member + members)]
        found, at_once = [], self.at_once(mu[0, 0].numel())
        for start in range(0, len(pairs), at_once):
            some = pairs[start : start + at_once]
            pick = torch.tensor([item for item, _ in some], device=mu.device)
            places = [(member, given.corners[item]) for item, member in some]
            noise = self.noise.fields(size_of(folded), places, seed, self.device)
            denoise = self.denoise(folded[pick], given.scalars)
            if self.process.constrain == "steps" and self.constraint is not None:
                chosen = None if area is None else area.expand(len(mu), -1, -1)[pick]
                denoise = self._projected(denoise, mu[pick], coarse[pick], chosen)
            found.append(self.process.sampler(denoise, noise(0), sigmas, noise))
        return torch.cat(found).unflatten(0, (len(mu), members))

    def denoise(self, folded: Tensor, scalars: Tensor | None, exact: bool = False) -> Denoise:
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
            return self.encode(self.through_constraint(y, coarse, area) - mu, self.factor)

        return project

    def through_constraint(self, y: Tensor, coarse: Tensor, area: Tensor | None) -> Tensor:
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
        t, height, width = self.fine_size(coarse)
        return self.closed(self.physical(y)[..., :t, :height, :width], coarse, area, gaps)

    def closed(self, x: Tensor, coarse: Tensor, area: Tensor | None = None, gaps: list[float] | None = None) -> Tensor:
        """Fields (B, M, C, T, H, W) in units (or logits) after the constraint; arguments as in `finish`."""
        operators = self.operators(coarse, area, 1)
        wanted = coarse[:, None].expand(-1, x.shape[1], *(-1,) * 4)
        if gaps is not None and self.constraint is not None and self.constraint.domain == "field":
            gaps.append(float((operators(x) - wanted).abs().nan_to_num().max()))
        if self.constraint is not None:
            x = self.constraint(x, wanted, operators)
        return torch.where(operators.replicate(wanted.isnan()), torch.nan, x)

    def operators(self, coarse: Tensor, area: Tensor | None, axes: int) -> Coarsen:
        """A and U, with ``axes`` axes between the batch's and (C, T, H, W)."""
        if area is not None:
            area = area.reshape(-1, *(1,) * (axes + 2), *area.shape[-2:])
        return Coarsen(self.factor, area).to(coarse.device)

    def fine_size(self, coarse: Tensor) -> Index:
        """(T, H, W) of the fine field of coarse (..., t, h, w)."""
        t, height, width = (n * f for n, f in zip(coarse.shape[-3:], self.factor, strict=True))
        return t, height, width


def listed(origin: Index | Sequence[Index], count: int) -> list[Any]:
    """An origin for each of so many items."""
    return [origin] * count if isinstance(origin[0], Integral) else list(origin)


def size_of(z: Tensor) -> Index:
    """(T', H', W') of a latent (..., T', H', W')."""
    t, height, width = z.shape[-3:]
    return t, height, width
