"""The assembled model: six replaceable parts and the algorithm that joins them.

cond = transform(upsampled coarse), mask
mu   = mean(cond)
z    = sampler(denoiser given latent.fold(cond, mu)), from noise
x    = constraint(transform.inverse(mu + latent.decode(z)), coarse)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
import xarray as xr
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

from finescale.coarsen import Coarsen
from finescale.constraints.base import Constraint
from finescale.diffusion import Denoiser, Schedule, TiledDenoiser, TrainingNoise, noise_field
from finescale.errors import InputError
from finescale.grid import Factor
from finescale.interpolate import upsample
from finescale.latents.base import LatentSpace
from finescale.mean import MeanModel
from finescale.predict import downscale_dataset
from finescale.samplers.base import Sampler
from finescale.transforms.base import Transform

Index = tuple[int, int, int]


@dataclass(frozen=True)
class Process:
    """How noise is drawn in training and removed in sampling."""

    schedule: Schedule
    noise: TrainingNoise
    sampler: Sampler
    steps: int


class Downscaler(nn.Module):
    """Coarse (B, C, t, h, w) in, an ensemble (B, M, C, T, H, W) out, in the variable's units.

    Args:
        factor: the whole factor between coarse and fine.
        transform: physical units <-> the networks' space.
        mean: conditional mean.
        latent: where the denoiser works, on the residual fine − mean.
        denoiser: the diffusion model; None for a deterministic model.
        process: noise levels, sampler and its steps.
        constraint: conservation; None to leave the field as it is.
        config: the resolved configuration this was assembled from; saved with the model.
    """

    def __init__(
        self,
        factor: Factor,
        transform: Transform,
        mean: MeanModel,
        latent: LatentSpace,
        denoiser: Denoiser | None,
        process: Process,
        constraint: Constraint | None,
        config: dict[str, Any],
    ) -> None:
        super().__init__()
        self.factor, self.process, self.config = factor, process, config
        self.transform, self.mean, self.latent = transform, mean, latent
        self.denoiser, self.constraint = denoiser, constraint
        # (item, member) pairs that go through the network at once, and latent cells a side of a tile of its canvas.
        self.batch = 8
        self.tile: int | None = 128
        self.tile_halo = 16

    # --- training

    def loss(self, stage: str, fine: Tensor, coarse: Tensor, generator: torch.Generator) -> Tensor:
        """Loss of one stage on a batch: ``mean`` (squared error) or ``denoiser`` (EDM).

        Args:
            stage: which part is trained.
            fine: (B, C, T, H, W); NaN where unknown.
            coarse: (B, C, t, h, w), its block means.
            generator: source of noise levels and noise, on the CPU.
        """
        cond = self.condition(coarse)
        y = pad(self.target(fine, cond), self.stride)
        known = pad(fine.isfinite().all(dim=1, keepdim=True).to(y.dtype), self.stride, value=0.0)
        cond = pad(cond, self.stride)
        if stage == "mean":
            return self.mean.loss(cond, y, known)
        assert self.denoiser is not None
        with torch.no_grad():
            mu = self.mean(cond)
            clean = self.latent.encode(y - mu)
        sigma = self.process.noise.sample(len(y), generator).to(y.device)
        noise = torch.randn(clean.shape, generator=generator).to(y.device)
        folded = self.latent.fold(torch.cat([cond, mu], 1))
        return self.denoiser.loss(clean, sigma, noise, folded, self.latent.coverage(known))

    def residual(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """transform(fine) − mean, what the latent space represents; (B, C, T, H, W), padded to `stride`."""
        cond = self.condition(coarse)
        y, cond = pad(self.target(fine, cond), self.stride), pad(cond, self.stride)
        return y - self.mean(cond)

    def condition(self, coarse: Tensor) -> Tensor:
        """Conditioning fields (B, 2C + 1, T, H, W): interpolated and replicated coarse field, and where it is known."""
        y = self.transform(coarse)
        known = ~y.isnan()
        y = torch.where(known, y, 0.0)
        mask = known.all(dim=1, keepdim=True).to(y.dtype)
        return torch.cat(
            [upsample(y, self.factor, "cubic"), upsample(torch.cat([y, mask], 1), self.factor, "nearest")], 1
        )

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

        Returns:
            (B, M, C, T, H, W) in the variable's units; NaN where the coarse cell is.
        """
        coarse = torch.where(coarse.isfinite(), coarse, torch.nan).to(self.device)
        area = None if area is None else area.to(self.device)
        if self.constraint is not None and self.constraint.keeps_zero and not bool(coarse.nan_to_num().any()):
            # Most windows of a large domain are dry; their result is known without a network.
            return Coarsen(self.factor).replicate(coarse)[:, None].repeat(1, members, 1, 1, 1, 1)
        y = self.draw(coarse, members=members, seed=seed, first_member=first_member, steps=steps, origin=origin)
        return self.finish(y, coarse, area)

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
    ) -> Tensor:
        """Members in the transform's space, (B, M, C, T, H, W) padded to `stride`; `finish` makes fields of them.

        Arguments as in `sample`.
        """
        origins: list[Any] = [origin] * len(coarse) if isinstance(origin[0], Integral) else list(origin)
        coarse = coarse.to(self.device)
        cond = pad(self.condition(coarse), self.stride)
        with self.autocast(coarse.device):
            mu = self.mean(cond)
        if self.denoiser is None:
            return mu[:, None].expand(-1, members, -1, -1, -1, -1)
        folded = self.latent.fold(torch.cat([cond, mu], 1))
        pairs = [(item, member) for item in range(len(mu)) for member in range(first_member, first_member + members)]
        fields = []
        for start in range(0, len(pairs), self.batch):
            items, numbers = zip(*pairs[start : start + self.batch], strict=True)
            pick = torch.tensor(items, device=mu.device)
            shape = (int(folded.shape[-3]), int(folded.shape[-2]), int(folded.shape[-1]))
            corners = [self._latent_index(origins[item]) for item in items]
            noise = torch.stack(
                [
                    noise_field(self.latent.channels, shape, seed=seed, member=m, origin=o)
                    for m, o in zip(numbers, corners, strict=True)
                ]
            ).to(mu.device)
            # One tiling for every step: windows' predictions are blended on one canvas.
            denoise = TiledDenoiser(self.denoiser, folded[pick], self.tile, self.autocast(mu.device), self.tile_halo)
            z = self.process.sampler(
                denoise, noise, self.process.schedule.sigmas(steps or self.process.steps).to(mu.device)
            )
            fields.append(mu[pick] + self.latent.decode(z))
        y = torch.cat(fields)
        return y.reshape(len(coarse), members, *y.shape[1:])

    def finish(self, y: Tensor, coarse: Tensor, area: Tensor | None = None) -> Tensor:
        """Transform's space -> units, cut to the coarse field's size, constrained, NaN where it is unknown.

        Args:
            y: (B, M, C, T, H, W) from `draw`.
            coarse: (B, C, t, h, w).
            area: (H, W) or (B, H, W) fine cell areas; None for equal ones.
        """
        if area is not None:
            area = area.reshape(-1, 1, 1, 1, *area.shape[-2:])
        operators = Coarsen(self.factor, area).to(coarse.device)
        size = [n * f for n, f in zip(coarse.shape[-3:], self.factor, strict=True)]
        x = self.transform.inverse(y)[..., : size[0], : size[1], : size[2]]
        wanted = coarse[:, None].expand(-1, x.shape[1], *(-1,) * 4)
        if self.constraint is not None:
            x = self.constraint(x, wanted, operators)
        return torch.where(operators.replicate(wanted.isnan()), torch.nan, x)

    @property
    def stride(self) -> Index:
        """Fine cells (t, y, x) that what the networks see must be multiples of."""
        network = 1 if self.denoiser is None else int(getattr(self.denoiser.backbone, "stride", 1))
        t, *space = self.latent.stride
        y, x = (math.lcm(s * network, self.mean.stride) for s in space)
        return t, y, x

    @property
    def multiple(self) -> Index:
        """Coarse cells (t, y, x) at whose multiples windows must start, so that networks see the same alignment."""
        t, y, x = (math.lcm(s, f) // f for s, f in zip(self.stride, self.factor, strict=True))
        return t, y, x

    @property
    def window(self) -> Index:
        """Default window of a prediction in coarse cells: the frames of training, about 256 × 256 fine cells."""
        t, y, x = self.multiple
        frames = int((self.config.get("data") or {}).get("frames", 1))
        return t * -(-frames // t), *(
            n * max(1, round(256 / (n * f))) for n, f in zip((y, x), tuple(self.factor)[1:], strict=True)
        )  # type: ignore[return-value]

    @property
    def halo(self) -> Index:
        """Default halo of a window in coarse cells: at least 32 fine cells and 2 coarse ones."""
        _, y, x = self.multiple
        return 0, *(n * -(-max(2, -(-32 // f)) // n) for n, f in zip((y, x), tuple(self.factor)[1:], strict=True))  # type: ignore[return-value]

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
        wanted = self.config.get("precision", "auto")
        return (
            torch.autocast(device.type, torch.bfloat16)
            if wanted != "float32" and has_bfloat16(device)
            else nullcontext()
        )

    def downscale(
        self, coarse: xr.Dataset | xr.DataArray, members: int = 16, seed: int = 0, **settings: Any
    ) -> xr.Dataset:
        """The ensemble of a dataset (realization, time, y, x), in memory; `finescale.predict.predict` streams files.

        Args:
            coarse: the variable on the coarse grid, any domain size; NaN where unknown.
            members: how many.
            seed: members of one seed are the same in every run.
            settings: variable, steps, window, halo and batch, as `finescale.predict.downscale_dataset` takes them.

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

    def _latent_index(self, origin: Index) -> Index:
        cells = [o * f for o, f in zip(origin, self.factor, strict=True)]
        if any(o % m for o, m in zip(origin, self.multiple, strict=True)):
            raise InputError(
                f"a window starts at coarse cell {tuple(origin)}, but must start at multiples of {self.multiple}"
            )
        t, y, x = (n // s for n, s in zip(cells, self.latent.stride, strict=True))
        return t, y, x


def has_bfloat16(device: torch.device) -> bool:
    """Whether the processor multiplies bfloat16 matrices natively."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(torch.backends.mkldnn.is_available() and torch.cpu._is_avx512_bf16_supported())


def pad(x: Tensor, multiple: Index, value: float | None = None) -> Tensor:
    """Extend (..., T, H, W) at the far ends to multiples, by its last cells or by a constant."""
    for axis, m in zip((-3, -2, -1), multiple, strict=True):
        n = x.shape[axis]
        if missing := -n % m:
            end = x.narrow(axis, n - 1, 1) if value is None else torch.full_like(x.narrow(axis, n - 1, 1), value)
            x = torch.cat([x, end.expand(*(missing if i == axis % x.ndim else -1 for i in range(x.ndim)))], axis)
    return x
