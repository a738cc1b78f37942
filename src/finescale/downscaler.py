"""The assembled model: six replaceable parts and the algorithm that joins them.

cond = transform(upsampled coarse), mask
mu   = mean(cond)
z    = sampler(denoiser given latent.fold(cond, mu)), from noise
x    = constraint(transform.inverse(mu + latent.decode(z)), coarse)
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
import xarray as xr
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

from finescale.coarsen import Coarsen
from finescale.conditions import Conditions, factor_features
from finescale.constraints.base import Constraint
from finescale.constraints.penalty import SoftPenalty
from finescale.data.patches import Batch
from finescale.diffusion import Denoiser, Distillation, TiledDenoiser, noise_source
from finescale.errors import InputError
from finescale.extent import Extent, Index, coarse_frames, pad
from finescale.gain import Gain
from finescale.grid import Factor, Factors
from finescale.latents.base import LatentSpace
from finescale.mean import MeanModel
from finescale.precision import autocast
from finescale.predict import downscale_dataset
from finescale.process import Process
from finescale.samplers.base import Denoise
from finescale.transforms.base import Transform


class Downscaler(nn.Module):
    """Coarse (B, C, t, h, w) in, an ensemble (B, M, C, T, H, W) out, in the variable's units.

    Args:
        factors: the factor, or the range of factors, between coarse and fine.
        transform: physical units <-> the networks' space.
        mean: conditional mean.
        latent: where the denoiser works, on the residual fine − mean.
        denoiser: the diffusion model; None for a deterministic model.
        process: noise levels, sampler and its steps.
        constraint: conservation, or a penalty on its violation in training; None to leave the field as it is.
        config: the resolved configuration this was assembled from; saved with the model.
    """

    def __init__(
        self,
        factors: Factors,
        transform: Transform,
        mean: MeanModel,
        latent: LatentSpace,
        denoiser: Denoiser | None,
        process: Process,
        constraint: Constraint | SoftPenalty | None,
        config: dict[str, Any],
    ) -> None:
        super().__init__()
        self.factors, self.process, self.config = factors, process, config
        self.chosen = factors.single
        self.gain = Gain(latent.channels) if factors.single is None else None
        self.conditions = Conditions(config.get("static") or [])
        # Mean networks that have not seen a fold of the data; in training only.
        self.held_out: nn.ModuleList | None = None
        # The denoiser that this one's is distilled from; in training only.
        self.distillation: Distillation | None = None
        self.transform, self.mean, self.latent = transform, mean, latent
        self.denoiser = denoiser
        self.constraint = constraint if isinstance(constraint, Constraint) else None
        self.penalty = constraint if isinstance(constraint, SoftPenalty) else None
        # (item, member) pairs that go through the network at once, and latent cells a side of a tile of its canvas.
        self.batch = 8
        self.tile: int | None = 128
        self.tile_halo = 16

    @property
    def factor(self) -> Factor:
        """The factor in use.

        Raises:
            InputError: if the model serves several and none was chosen with `at`.
        """
        if self.chosen is None:
            raise InputError(
                f"this model serves factors {self.factors}: say which (--factor 3x10, or model.at('3x10'))"
            )
        return self.chosen

    def at(self, factor: Factor | str, force: bool = False) -> Downscaler:
        """This model at one of the factors it serves; weights are shared.

        Args:
            factor: the factor wanted.
            force: take a factor outside the trained range.

        Raises:
            InputError: if the model was not trained for the factor.
        """
        factor = Factor.parse(factor)
        if factor not in self.factors and not (force and self.factors.single is None):
            mend = "train one for it" if self.factors.single else "train one for it, or pass --force"
            raise InputError(f"this model was trained for factors {self.factors}, not {factor}: {mend}")
        model = copy.copy(self)
        # Parts are shared; which parts there are, and the choice, are its own.
        model._modules = self._modules.copy()
        model.chosen = factor
        return model

    # --- training

    def loss(self, stage: str, batch: Batch, generator: torch.Generator, mean: MeanModel | None = None) -> Tensor:
        """Loss of a stage on a batch: ``mean`` (squared error), ``denoiser`` (EDM), ``joint``, their sum, ``distill``.

        A model without a denoiser is trained through its constraint, or with its penalty; elsewhere the constraint
        comes after sampling.

        Args:
            stage: which part is trained.
            batch: crops, on the model's device.
            generator: source of noise levels and noise, on the CPU.
            mean: mean model that is trained, or whose residual the denoiser learns, where it is not the model's own
                (held-out folds).
        """
        network, factor = mean or self.mean, Factor.between(batch.coarse.shape, batch.fine.shape)
        cond, y, known = self._pair(batch, factor)
        scalars = self.scalars(factor, len(y))
        if stage == "mean":
            mu = network(cond, scalars)
            penalty = torch.zeros((), device=mu.device)
            if self.denoiser is None:
                mu, penalty = self._closed(mu, batch, factor)
            return network.distance(mu, y, known) + penalty
        assert self.denoiser is not None
        with torch.set_grad_enabled(stage == "joint"):
            mu = network(cond, scalars)
        first = network.distance(mu, y, known) if stage == "joint" else torch.zeros((), device=mu.device)
        mu = mu.detach()
        clean = self.encode(y - mu, factor)
        sigma = self.process.noise.sample(len(y), generator).to(y.device)
        noise = torch.randn(clean.shape, generator=generator).to(y.device)
        folded, weight = self.latent.fold(torch.cat([cond, mu], 1)), self.latent.coverage(known)
        if stage == "distill":
            assert self.distillation is not None
            return self.distillation(self.denoiser, noise, folded, generator, weight, scalars)
        variation = None if self.process.tv is None else self._variation
        return first + self.denoiser.loss(clean, sigma, noise, folded, weight, scalars, variation)

    def _variation(self, clean: Tensor, sigma: Tensor) -> Tensor:
        """Penalty on the variation of the detail bands of a clean estimate."""
        assert self.process.tv is not None
        return self.process.tv(self.latent.details(clean), sigma)

    def _closed(self, mu: Tensor, batch: Batch, factor: Factor) -> tuple[Tensor, Tensor]:
        """Mean (in the transform's space) after the constraint, and the penalty."""
        t, height, width = batch.fine.shape[-3:]
        inside = (..., slice(t), slice(height), slice(width))
        operators = Coarsen(factor, batch.area[:, None, None], batch.fine.isfinite().all(1, keepdim=True))
        x = self.physical(mu[inside])
        penalty = (
            torch.zeros((), device=mu.device) if self.penalty is None else self.penalty(x, batch.coarse, operators)
        )
        if self.constraint is not None:
            # A block of unknown cells counts for nothing, but NaN would go through its gradient.
            x = self.constraint(x, batch.coarse.nan_to_num(), operators)
            closed = mu.clone()
            closed[inside] = self.transform(x)
            mu = closed
        return mu, penalty

    def physical(self, y: Tensor) -> Tensor:
        """Transform's space -> units; logits, which have none, are left to their constraint."""
        logits = self.constraint is not None and self.constraint.domain == "logits"
        return y if logits else self.transform.inverse(y)

    def residual(self, batch: Batch, mean: MeanModel | None = None) -> Tensor:
        """transform(fine) − mean, what the latent space represents; (B, C, T, H, W), padded to the networks' stride."""
        factor = Factor.between(batch.coarse.shape, batch.fine.shape)
        cond, y, _ = self._pair(batch, factor)
        return y - (mean or self.mean)(cond, self.scalars(factor, len(y)))

    def _pair(self, batch: Batch, factor: Factor) -> tuple[Tensor, Tensor, Tensor]:
        """Conditioning fields, target and where it is known (B, 1, T, H, W), padded to the networks' stride."""
        cond = self.conditions(self.transform(batch.coarse), factor, batch.static)
        stride = self._extent(factor).stride
        y = pad(self.target(batch.fine, cond), stride)
        known = pad(batch.fine.isfinite().all(dim=1, keepdim=True).to(y.dtype), stride, value=0.0)
        return pad(cond, stride), y, known

    def encode(self, residual: Tensor, factor: Factor) -> Tensor:
        """Residual (B, C, T, H, W) -> latent of unit variance (B, K, T', H', W')."""
        z = self.latent.encode(residual)
        return z if self.gain is None else z / self.gain(factor)

    def decode(self, z: Tensor, factor: Factor) -> Tensor:
        """The inverse of `encode`."""
        return self.latent.decode(z if self.gain is None else z * self.gain(factor))

    def scalars(self, factor: Factor, batch: int) -> Tensor | None:
        """Features (batch, SCALARS) of a factor for the networks of a model that serves several; None for one alone."""
        return None if self.factors.single is not None else factor_features(factor, self.device).expand(batch, -1)

    def target(self, fine: Tensor, cond: Tensor) -> Tensor:
        """transform(fine); unknown cells take the interpolated coarse value, so that they carry no residual."""
        y = self.transform(fine)
        return torch.where(y.isnan(), cond[:, : y.shape[1]], y)

    # --- sampling

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
        extent, coarse = self.extent, coarse.to(self.device)
        if static is not None:
            static = static.reshape(-1, *static.shape[-3:]).to(self.device)
        cond = pad(self.conditions(self.transform(coarse), self.factor, static), extent.stride)
        scalars = self.scalars(self.factor, len(cond))
        with self.autocast(coarse.device):
            mu = extent.tiling((1, 1, 1), None, 0).evaluate(lambda cond: self.mean(cond, scalars), cond)
        if self.denoiser is None:
            return mu[:, None].expand(-1, members, -1, -1, -1, -1)
        folded = self.latent.fold(torch.cat([cond, mu], 1))
        t, height, width = folded.shape[-3:]
        origins: list[Any] = [origin] * len(mu) if isinstance(origin[0], Integral) else list(origin)
        corners = [extent.latent_index(first) for first in origins]
        tiling = extent.tiling(self.latent.stride, self.tile, self.tile_halo)
        sigmas = self.process.sigmas(steps).to(mu.device)
        pairs = [(item, member) for item in range(len(mu)) for member in range(first_member, first_member + members)]
        fields = []
        for start in range(0, len(pairs), self.batch):
            some = pairs[start : start + self.batch]
            pick = torch.tensor([item for item, _ in some], device=mu.device)
            places = [(member, corners[item]) for item, member in some]
            white = noise_source(self.latent.channels, (t, height, width), places, seed, self.device)
            # One tiling for every step: windows' predictions are blended on one canvas.
            features = None if scalars is None else scalars[:1]
            denoise: Denoise = TiledDenoiser(self.denoiser, folded[pick], tiling, self.autocast(mu.device), features)
            if self.process.constrain == "steps" and self.constraint is not None:
                chosen = None if area is None else area.expand(len(mu), -1, -1)[pick]
                denoise = self._projected(denoise, mu[pick], coarse[pick], chosen)
            z = self.process.sampler(denoise, white(0), sigmas, white)
            fields.append(mu[pick] + self.decode(z, self.factor))
        y = torch.cat(fields)
        return y.reshape(len(coarse), members, *y.shape[1:])

    def _projected(self, denoise: Denoise, mu: Tensor, coarse: Tensor, area: Tensor | None) -> Denoise:
        """The denoiser with its clean estimate put through the constraint."""

        def project(z: Tensor, sigma: Tensor) -> Tensor:
            y = mu + self.decode(denoise(z, sigma), self.factor)
            x = self.finish(y[:, None], coarse, area)[:, 0]
            t, height, width = x.shape[-3:]
            known = torch.where(x.isnan(), y[..., :t, :height, :width], self.transform(x))
            y[..., :t, :height, :width] = known
            return self.encode(y - mu, self.factor)

        return project

    def finish(self, y: Tensor, coarse: Tensor, area: Tensor | None = None, gaps: list[float] | None = None) -> Tensor:
        """Transform's space -> units, cut to the coarse field's size, constrained, NaN where it is unknown.

        Args:
            y: (B, M, C, T, H, W) from `draw`.
            coarse: (B, C, t, h, w).
            area: (H, W) or (B, H, W) fine cell areas; None for equal ones.
            gaps: a list that receives the largest |A x − c| before the constraint.
        """
        if area is not None:
            area = area.reshape(-1, 1, 1, 1, *area.shape[-2:])
        operators = Coarsen(self.factor, area).to(coarse.device)
        size = [n * f for n, f in zip(coarse.shape[-3:], self.factor, strict=True)]
        x = self.physical(y)[..., : size[0], : size[1], : size[2]]
        wanted = coarse[:, None].expand(-1, x.shape[1], *(-1,) * 4)
        if gaps is not None and self.constraint is not None and self.constraint.domain == "field":
            gaps.append(float((operators(x) - wanted).abs().nan_to_num().max()))
        if self.constraint is not None:
            x = self.constraint(x, wanted, operators)
        return torch.where(operators.replicate(wanted.isnan()), torch.nan, x)

    @property
    def extent(self) -> Extent:
        """Sizes of windows, halos and strides at the factor in use."""
        return self._extent(self.factor)

    def _extent(self, factor: Factor) -> Extent:
        data = self.config.get("data") or {}
        frames = coarse_frames(factor, data.get("frames"), data.get("horizon"))
        network = 1 if self.denoiser is None else int(getattr(self.denoiser.backbone, "stride", 1))
        return Extent(factor, self.latent.stride, network, self.mean.stride, frames)

    @property
    def multiple(self) -> Index:
        """Coarse cells (t, y, x) at whose multiples windows must start."""
        return self.extent.multiple

    @property
    def window(self) -> Index:
        """Default window of a prediction in coarse cells."""
        return self.extent.window

    @property
    def halo(self) -> Index:
        """Default halo of a window in coarse cells."""
        return self.extent.halo

    @property
    def context(self) -> int:
        """L, the coarse frames that the networks see at once, those of training."""
        return self.extent.context

    @property
    def variable(self) -> dict[str, str]:
        """Name and units of the variable."""
        return dict(self.config.get("variable") or {})

    @property
    def device(self) -> torch.device:
        """Where the model's tensors are."""
        return self.latent.scale.device

    @property
    def parameters_by_part(self) -> dict[str, int]:
        """Trainable numbers of each network."""
        parts = {"mean": self.mean, "denoiser": self.denoiser}
        return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items() if part is not None}

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """bfloat16 where the processor computes with it natively and the configuration does not ask for float32."""
        return autocast(self.config.get("precision", "auto"), device)

    def downscale(
        self, coarse: xr.Dataset | xr.DataArray, members: int = 16, seed: int = 0, **settings: Any
    ) -> xr.Dataset:
        """The ensemble of a dataset (realization, time, y, x), in memory; `finescale.predict.predict` streams files.

        Args:
            coarse: the variable on the coarse grid, any domain size; NaN where unknown.
            members: how many.
            seed: members of one seed are the same in every run.
            settings: variable, factor or to, force, steps, window, halo and batch, as
                `finescale.predict.downscale_dataset` takes them.

        Raises:
            InputError: for input or settings that cannot be used.
        """
        return downscale_dataset(self, coarse, members, seed, **settings)

    def save(self, folder: str | Path) -> None:
        """Write ``config.yaml`` and ``weights.safetensors``, each under a temporary name and then renamed."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        weights, config = folder / ".weights.partial", folder / ".config.partial"
        save_file(state, weights, metadata={"format": "finescale"})
        config.write_text(yaml.safe_dump(self.config, sort_keys=False), encoding="utf-8")
        weights.replace(folder / "weights.safetensors")
        config.replace(folder / "config.yaml")
