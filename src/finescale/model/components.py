"""The parts of a model and how large things are: what training, sampling and propagation have in common."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from finescale.constraints.base import Constraint
from finescale.constraints.penalty import SoftPenalty
from finescale.constraints.per_variable import PerVariable
from finescale.constraints.smooth import Smooth
from finescale.diffusion import Denoiser, Persistent, White
from finescale.errors import InputError
from finescale.grids.factor import Factor, Factors
from finescale.grids.windows import Triple
from finescale.latents import LatentSpace, PatchPOD
from finescale.model.calibrated import Calibrated
from finescale.model.conditions import Conditions
from finescale.model.factor_scale import FactorScale, factor_features
from finescale.model.generator import Generator
from finescale.model.masks import Masks
from finescale.model.mean import MeanModel
from finescale.model.precision import autocast
from finescale.model.process import Process
from finescale.model.remembers import Remembers
from finescale.model.sizes import Sizes, coarse_frames
from finescale.model.variance import VarianceHead
from finescale.operators.structure import exponent
from finescale.transforms.base import Transform

LEAST_AT_ONCE, CELLS_AT_ONCE = 8, 2**18
"""(Item, member) pairs that go through a network at once at least, and the fine cells that they have in all."""
LARGE = 2**23
"""Fine cells of a pair of which half as many go at once."""
ACROSS = 2
"""Coarse frames that a smooth constraint's factors look at on each side."""


class Components(nn.Module):
    """The parts of a model; `finescale.downscaler.Downscaler` puts them to use.

    Args:
        factors: the factor, or the range of factors, between coarse and fine.
        transform: physical units <-> the networks' space.
        mean: conditional mean.
        latent: where the denoiser works, on the residual fine − mean.
        denoiser: the diffusion model; None for a deterministic model, or one with a generator.
        generator: what makes members in one evaluation, instead of denoiser and process.
        process: noise levels, sampler and its steps.
        constraint: conservation, or a penalty on its violation in training; None to leave the field as it is. A model
            of another source's values (`direct`) goes without it unless `conserving` asks for it.
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
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.factors, self.process, self.config = factors, process, config
        self.chosen = factors.only
        self.gain = FactorScale(latent.channels) if factors.single is None else None
        self.rest_gain = None if self.gain is None or latent.exact else FactorScale(1)
        self.noise = (Persistent if process.persistent else White)(latent.channels)
        self.conditions = Conditions.of(config)
        self.transform, self.mean, self.latent = transform, mean, latent
        self.denoiser, self.generator = denoiser, generator
        # Variance of the residual without sampling; models configured so are given one.
        self.variance: VarianceHead | None = None
        # What its training data were like, and where they were always missing; training says so.
        self.remembers, self.masks = Remembers(), Masks()
        # The name of its folder, for people; empty before it has one.
        self.name = ""
        # What was measured on fine fields of the user's.
        self.calibrated = Calibrated()
        # What a direct model may be put through at prediction is no part of what it learns.
        self.offered = constraint if isinstance(constraint, Constraint) else None
        self.constraint = None if self.direct else self.offered
        self.penalty = constraint if isinstance(constraint, SoftPenalty) else None
        # (item, member) pairs that go through the network at once, None for as many as pay, and latent cells a side of
        # a tile of its canvas.
        self.batch: int | None = None
        self.tile: int | None = 128
        self.tile_halo = 16

    @property
    def factor(self) -> Factor:
        """The factor in use.

        Raises:
            InputError: if the model serves several and none was chosen with `at`.
        """
        if self.chosen is None:
            largest = Factor(self.factors.time[1], self.factors.space[1])
            raise InputError(
                f"this model serves factors {self.factors}, and none is chosen: give a factor, such as {largest}"
            )
        return self.chosen

    def at(self, factor: Factor | str, force: bool = False) -> Self:
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
        model = self._sharing()
        model.chosen = factor
        return model

    def _sharing(self) -> Self:
        """A model that shares the parts; which there are, and what is chosen, is its own."""
        model = copy.copy(self)
        model._modules = self._modules.copy()
        return model

    def conserving(self, wanted: bool) -> Self:
        """This model with its constraint, or without; weights are shared.

        Raises:
            InputError: if it has none, or makes fields by it.
        """
        if wanted and self.offered is None:
            raise InputError("this model has no constraint to conserve the coarse field by: leave --conserve out")
        if not wanted and self.offered is not None and self.offered.domain == "logits":
            raise InputError("this model makes its fields by its constraint: leave --no-conserve out")
        model = self._sharing()
        model.constraint = self.offered if wanted else None
        return model

    @property
    def usual_smoothness(self) -> float | None:
        """The exponent that networks are told unless told another; None where they take none, or it was measured."""
        asked = self.conditions.smoothness and self.calibrated.smoothness is None
        return float(self.conditions.usual) if asked else None

    def told(self, smoothness: float) -> Self:
        """This model told how smooth fine fields are (`Conditions`); weights are shared.

        Raises:
            InputError: if its networks take no such number.
        """
        if not self.conditions.smoothness:
            raise InputError(
                "this model was trained without a smoothness (data.smoothing): leave --smoothness out, or train one "
                "with --set data.smoothing=1.5"
            )
        model = self._sharing()
        model.calibrated = replace(self.calibrated, smoothness=smoothness)
        return model

    def check_carried(self) -> None:
        """Refuse noise that is carried along a motion (`finescale.diffusion.carried`) where networks do not expect it.

        Raises:
            InputError: for a model whose networks see several frames of noise at once, or whose latent is no
                orthonormal transform.
        """
        once = self.context == 1 and self.factor.time == self.latent.stride[0]
        if self.process.persistent or not (once or self.generator is not None):
            raise InputError(
                "this model makes several frames at once, whose noise it expects to be as in training: leave the "
                "lifetime out"
            )
        cells = math.prod(self.latent.stride) * max(1, len(self.variables))
        if not self.latent.exact or self.latent.channels != cells:
            raise InputError("this model's latent is no orthonormal transform of cells: leave the lifetime out")

    @property
    def amounts(self) -> bool:
        """Whether what is made is amounts such as rain, of which there can be none: whose constraint keeps zeros."""
        return self.offered is not None and self.offered.keeps_zero

    @property
    def conserves(self) -> list[bool]:
        """Of every variable, whether its block means are made those of the coarse field."""
        if isinstance(self.constraint, PerVariable):
            return [isinstance(part, Constraint) for part in self.constraint.parts]
        return [self.constraint is not None] * max(1, len(self.variables))

    def remember(self, remembers: Remembers, masks: Sequence[NDArray[np.bool_]]) -> None:
        """Keep what training data were like, with masks (C, H, W) of the planes that it names."""
        self.remembers, self.masks = remembers, Masks(remembers.masks, max(1, len(self.variables)))
        for number, mask in enumerate(masks):
            self.masks.keep(number, mask)
        self.config["remembers"] = remembers.plain()

    def at_once(self, cells: int) -> int:
        """(item, member) pairs of so many fine cells each that go through the network together.

        Small fields one by one leave processors idle: the network's overhead, not its arithmetic, is what they cost.
        """
        return self.batch or max(LEAST_AT_ONCE // (1 + (cells > LARGE)), CELLS_AT_ONCE // cells)

    def evaluations(self, steps: int | None = None) -> int:
        """How often a member of a window goes through the denoiser in so many steps, None for the model's own.

        Raises:
            InputError: for more steps than the schedule or the sampler has.
        """
        if self.denoiser is None:
            return int(self.generator is not None)
        return self.process.sampler.nfe(len(self.process.sigmas(steps)) - 1)

    def physical(self, y: Tensor) -> Tensor:
        """Transform's space -> units; logits, which have none, are left to their constraint."""
        logits = self.constraint is not None and self.constraint.domain == "logits"
        return y if logits else self.transform.inverse(y)

    def smoothness_of(self, fine: Tensor) -> Tensor | None:
        """How smooth fields (B, C, T, H, W) are, as `Conditions` are told it (B,); None for a model that takes no such
        number.

        The exponent ζ of the structure function of the first variable in the transform's space, over known cells, of
        amounts such as rain over wet ones.
        """
        if not self.conditions.smoothness:
            return None
        y = self.transform(fine)[:, :1]
        counted = fine[:, :1].isfinite()
        if self.amounts:
            counted = counted & (y > self.transform(torch.zeros_like(fine))[:, :1])
        return exponent(y, counted)

    def encode(self, residual: Tensor, factor: Factor) -> Tensor:
        """Residual (B, C, T, H, W) -> latent of unit variance (B, K, T', H', W')."""
        z = self.latent.encode(residual)
        return z if self.gain is None else z / self.gain(factor)

    def decode(self, z: Tensor, factor: Factor) -> Tensor:
        """The inverse of `encode`."""
        return self.latent.decode(z if self.gain is None else z * self.gain(factor))

    def scale(self, factor: Factor) -> Tensor:
        """D (K, 1, 1, 1), by which `decode` multiplies."""
        return self.latent.scale if self.gain is None else self.latent.scale * self.gain(factor)

    def rest_scale(self, factor: Factor) -> Tensor:
        """Standard deviation of what the latent leaves out at a factor, over that of all factors together."""
        return torch.ones((), device=self.device) if self.rest_gain is None else self.rest_gain(factor)

    def scalars(self, factor: Factor, batch: int) -> Tensor | None:
        """Features (batch, SCALARS) of a factor for the networks of a model that serves several; None for one alone."""
        return None if self.factors.single is not None else factor_features(factor, self.device).expand(batch, -1)

    @property
    def sizes(self) -> Sizes:
        """Sizes of windows, halos and strides at the factor in use."""
        return self.sizes_at(self.factor)

    def sizes_at(self, factor: Factor) -> Sizes:
        """Sizes of windows, halos and strides at a factor."""
        data = self.config.get("data") or {}
        frames = coarse_frames(factor, data.get("frames"), data.get("horizon"))
        networks = [part.backbone for part in (self.denoiser, self.generator, self.variance) if part]
        network = math.lcm(*(int(getattr(backbone, "stride", 1)) for backbone in networks))
        # Patches that overlap are blended; those of a basis of the whole domain are one.
        apart = isinstance(self.latent, PatchPOD) and max(self.latent.reach) == 1
        alone = apart and bool(networks) and all(getattr(backbone, "alone", False) for backbone in networks)
        once = self.generator is not None
        return Sizes(factor, self.latent.stride, network, self.mean.stride, frames, alone, once)

    @property
    def multiple(self) -> Triple:
        """Coarse cells (t, y, x) at whose multiples windows must start."""
        return self.sizes.multiple

    @property
    def window(self) -> Triple:
        """Default window of a prediction in coarse cells."""
        return self.sizes.window

    @property
    def halo(self) -> Triple:
        """Default halo of a window in coarse cells."""
        return self.sizes.halo

    @property
    def context(self) -> int:
        """L, the coarse frames that the networks see at once, those of training."""
        return self.sizes.context

    @property
    def across(self) -> int:
        """Coarse frames before, and after, each one that its fine frames depend on by the constraint alone.

        Where networks see one coarse frame at a time and `Smooth` factors vary from frame to frame; what lies farther
        away counts for less than a thousandth.
        """
        parts = self.constraint.parts if isinstance(self.constraint, PerVariable) else [self.constraint]
        alone = self.context == 1 and self.factor.time > 1
        return ACROSS if alone and any(isinstance(part, Smooth) for part in parts) else 0

    @property
    def neighbours(self) -> int:
        """Coarse frames before, and after, each one that the networks see too."""
        return self.conditions.neighbours

    @property
    def moving(self) -> bool:
        """Whether the networks see neighbouring frames where they have moved to."""
        return self.conditions.motion

    @property
    def frames_together(self) -> int:
        """Fine frames of a latent one."""
        return self.latent.stride[0]

    @property
    def variables(self) -> dict[str, dict[str, Any]]:
        """What is made: of every variable, by name, its units, its name in coarse files, and the share missing."""
        named: dict[str, dict[str, Any] | None] = self.config.get("variables") or {}
        return {name: dict(settings or {}) for name, settings in named.items()}

    @property
    def predictors(self) -> dict[str, dict[str, Any]]:
        """What else on the coarse cells the networks see: of every predictor, by name, its units."""
        named: dict[str, dict[str, Any] | None] = self.config.get("predictors") or {}
        return {name: dict(settings or {}) for name, settings in named.items()}

    @property
    def direct(self) -> bool:
        """Whether the coarse values of training were another source's own, not block means of the fine field."""
        return (self.config.get("data") or {}).get("mode") == "direct"

    @property
    def static(self) -> list[str]:
        """Names of the static fields that the networks see."""
        return self.conditions.names

    @property
    def trained(self) -> list[dict[str, Any]]:
        """Where and when the training data lie, as `finescale.data.extent.Extent.plain` says it; empty if unknown."""
        return list(self.config.get("trained") or [])

    @property
    def deterministic(self) -> bool:
        """Whether the model makes one field, not an ensemble."""
        return self.denoiser is None and self.generator is None

    @property
    def linear(self) -> bool:
        """Whether units are linear in what the networks see: mean and standard deviation then say all."""
        return self.transform.linear

    def check_plane(self, height: int, width: int) -> None:
        """Refuse fine planes that the model would give seams: `finescale.model.sizes.Sizes.check_plane`."""
        self.sizes.check_plane(height, width)

    @property
    def fingerprint(self) -> str:
        """The first digits of a hash of the weights and the configuration."""
        digest = hashlib.sha256(repr(self.config).encode())
        for name, value in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]

    @property
    def called(self) -> str:
        """Its name, and in brackets its fingerprint, which alone tells models apart."""
        return f"{self.name} ({self.fingerprint})" if self.name else self.fingerprint

    @property
    def kinds(self) -> dict[str, str]:
        """What each part is, in the words of a configuration; none for a part that is not there."""
        process = self.config.get("process") or {}
        specs = {
            part: self.config.get(part)
            for part in ("transform", "mean", "latent", "denoiser", "generator", "constraint")
        }
        specs |= {"variance": self.config.get("variance"), "sampler": process.get("sampler", "dpm")}
        found = {
            part: ", ".join(map(_kind, spec if isinstance(spec, list) else [spec])) for part, spec in specs.items()
        }
        return found | {part: "none" for part in ("denoiser", "generator") if getattr(self, part) is None}

    @property
    def device(self) -> torch.device:
        """Where the model's tensors are."""
        return self.latent.scale.device

    @property
    def parameters_by_part(self) -> dict[str, int]:
        """Trainable numbers of each network."""
        parts = {
            "mean": self.mean,
            "denoiser": self.denoiser,
            "generator": self.generator,
            "variance": self.variance,
        }
        return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items() if part is not None}

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """bfloat16 where the processor computes with it natively and the configuration does not ask for float32."""
        return autocast(self.config.get("precision", "auto"), device)

    def compile_networks(self, **settings: Any) -> Self:
        """Compile the networks in place with torch.compile, and return the model.

        The first windows of a prediction then take a minute or more, and others of the same shape less than without:
        worth it for long predictions on CUDA. Results agree to rounding. Saving, loading and training are not affected.

        Args:
            settings: of torch.compile, such as backend.
        """
        for network in (self.mean, self.denoiser, self.generator, self.variance):
            if network is not None and any(True for _ in network.parameters()):
                network.compile(**settings)
        return self


def _kind(spec: Any) -> str:
    """What a part of a configuration names: its kind, or else that of its backbone."""
    if not isinstance(spec, Mapping):
        return "none" if spec is None else str(spec)
    return str(spec["kind"]) if "kind" in spec else _kind(spec.get("backbone", "unet"))
