"""The assembled model: six replaceable parts and what is done with them.

cond = transform(upsampled coarse), static fields, mask
mu   = mean(cond)
z    = sampler(denoiser given latent.fold(cond, mu)), from noise; or generator(latent.fold(cond, mu), noise)
x    = constraint(transform.inverse(mu + latent.decode(z)), coarse)

`Downscaler.draw` and `Downscaler.finish` are these four lines; what a line does is in `finescale.model.sampling`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import xarray as xr
import yaml
from safetensors.torch import save as serialized
from torch import Tensor

from finescale.data.atomic import atomic
from finescale.data.place import local
from finescale.diffusion import Distillation
from finescale.errors import InputError, brief
from finescale.inference.inputs import Files
from finescale.inference.predict import downscale_dataset
from finescale.inference.request import Request
from finescale.model import losses, sampling, uncertainty
from finescale.model.batch import Batch, Ensemble, Inputs, Members
from finescale.model.components import Components
from finescale.model.mean import MeanModel
from finescale.model.share import Share
from finescale.model.uncertainty import Marginals
from finescale.operators.coarsen import Coarsen

TRAINED = (
    "factor",
    "variables",
    "predictors",
    "static",
    "transform",
    "mean",
    "latent",
    "denoiser",
    "generator",
    "variance",
)
"""Sections that change what weights mean; the others (process, constraint, ...) may be changed in a model's folder."""


class Downscaler(Components):
    """Coarse fields (B, C, t, h, w) in, an ensemble (B, M, C, T, H, W) out, in the variable's units.

    Start with ``model = finescale.load("folder")`` and ``model.downscale(dataset, members=16)``; on tensors,
    ``model.sample(Inputs(coarse), Members(range(16)))``.

    Example:
        >>> import torch
        >>> import finescale
        >>> from finescale.model.batch import Inputs, Members
        >>> model = finescale.load("rain").at("1x8")
        >>> coarse = torch.rand(1, 1, 1, 8, 8)  # (B, C, t, h, w) in mm/h
        >>> model.sample(Inputs(coarse), Members(range(4), seed=0)).fields.shape
        torch.Size([1, 4, 1, 1, 64, 64])
    """

    @torch.no_grad()
    def sample(self, given: Inputs, members: Members) -> Ensemble:
        """Members of some windows.

        Raises:
            InputError: for windows that the model does not serve.
        """
        given = sampling.known(given, self.device)
        take_a_network = sampling.open_windows(self, given)
        if bool(take_a_network.all()):
            return self._finished(self._drawn(given, members), given, members)
        fine = Coarsen(self.factor).replicate(given.coarse)[:, None].repeat(1, len(members), 1, 1, 1, 1)
        fine = sampling.masked(fine, given)
        if not bool(take_a_network.any()):
            return Ensemble(fine)
        drawn = self.sample(given[take_a_network], members)
        fine[take_a_network] = drawn.fields
        return Ensemble(fine, drawn.gap)

    def _finished(self, drawn: Iterable[Tensor], given: Inputs, members: Members) -> Ensemble:
        """`finish` of some members at a time."""
        fields, gap, start = None, [], 0
        for y in drawn:
            made = self.finish(y, given)
            if len(made.fields[0]) == len(members):
                return made
            if fields is None:
                fields = made.fields.new_empty(len(y), len(members), *made.fields.shape[2:])
            fields[:, start : start + y.shape[1]] = made.fields
            start += y.shape[1]
            gap.append(made.gap)
        assert fields is not None
        return Ensemble(fields, tuple(map(max, zip(*gap, strict=True))))

    @torch.no_grad()
    def draw(self, given: Inputs, members: Members) -> Tensor:
        """Members y = mu + decode(z) in the transform's space, (B, M, C, T, H, W), padded to the networks' stride."""
        return torch.cat(list(self._drawn(given.to(self.device), members)), 1)

    def _drawn(self, given: Inputs, members: Members) -> Iterator[Tensor]:
        """Some members of `draw` at a time, of large windows one: what is made on the way is as large."""
        cond = sampling.conditions(self, given)
        mu = sampling.mean(self, given, cond)
        if self.deterministic:
            yield mu[:, None].expand(-1, len(members), -1, -1, -1, -1)
            return
        z = sampling.latents(self, given, cond, mu, members)
        each = sampling.at_most(mu.numel())
        for start in range(0, len(members), each):
            some = replace(members, numbers=members.numbers[start : start + each])
            yield sampling.fields(self, given, mu, z[:, start : start + each], some)

    def finish(self, y: Tensor, given: Inputs) -> Ensemble:
        """Members in units of y of `draw`, constrained and cut to the windows: `finescale.model.sampling.ensemble`."""
        return sampling.ensemble(self, y, given.to(self.device))

    def marginals(self, given: Inputs, members: Members, source: str = "auto", **settings: Any) -> Marginals:
        """Mean, standard deviation and quantiles instead of members: `finescale.model.uncertainty.marginals`."""
        return uncertainty.marginals(self, given, members, source, **settings)

    def variance_source(self, source: str, members: int) -> str:
        """Where `marginals` take their variance from: `finescale.model.uncertainty.source_of`."""
        return uncertainty.source_of(self, source, members)

    def variance_comment(self, source: str, members: int) -> str:
        """What a file says of a standard deviation."""
        return uncertainty.comment(self, source, members)

    def loss(
        self,
        kind: str,
        batch: Batch,
        generator: torch.Generator,
        *,
        mean: MeanModel | None = None,
        teacher: Distillation | None = None,
        through: bool = True,
        share: Share = losses.ALL,
    ) -> Tensor:
        """What a stage of training minimises: `finescale.model.losses.loss`."""
        return losses.loss(self, kind, batch, generator, mean=mean, teacher=teacher, through=through, share=share)

    def downscale(
        self, coarse: Files, members: int | None = None, seed: int = 0, *, lazy: bool = False, **settings: Any
    ) -> xr.Dataset:
        """The ensemble of a dataset (realization, time, y, x), in memory; `finescale.downscale` streams files.

        Args:
            coarse: the variables on the coarse grid, any domain size, and predictors on any; NaN where unknown. One
                dataset, or a list of them.
            members: how many, 16 unless given; 0 for their mean instead, with ``variance``. A deterministic model has
                one field.
            seed: members of one seed are the same in every run.
            lazy: give dask arrays, a block for every window and batch of members, which are computed when asked for.
            settings: the rest of `finescale.inference.request.Request`: steps, variance, window, factor …

        Raises:
            InputError: for input or settings that cannot be used.
        """
        return downscale_dataset(self, coarse, Request(members, seed, **settings), lazy)

    def save(self, folder: str | Path) -> None:
        """Write ``config.yaml`` and ``weights.safetensors``, each whole or not at all."""
        folder = local(folder, "a model")
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        with atomic(folder / "weights.safetensors") as weights:
            # One key alone: several would stand in any order, and equal models would differ.
            weights.write_bytes(serialized(state, {"trained": json.dumps(self._trained)}))
        with atomic(folder / "config.yaml") as config:
            config.write_text(yaml.safe_dump(self.config, sort_keys=False), encoding="utf-8")

    @property
    def _trained(self) -> dict[str, Any]:
        """The sections of the configuration that weights make sense with alone."""
        found = {section: self.config.get(section) for section in TRAINED}
        # How a variable is constrained, or called in coarse files, may be changed.
        named = {name: {key: one.get(key) for key in ("units", "transform")} for name, one in self.variables.items()}
        return found | {"variables": named}

    def check_trained(self, metadata: Mapping[str, str] | None, source: Path) -> None:
        """Refuse a configuration that was changed after the training, from what `save` wrote beside the weights.

        Raises:
            InputError: that names the section.
        """
        before = json.loads((metadata or {}).get("trained", "{}"))
        now = json.loads(json.dumps(self._trained))
        for section, value in before.items():
            if section in now and now[section] != value:
                raise InputError(
                    f"{source}: {section} is {brief(now[section])}, but the weights were trained with {brief(value)}: "
                    "put it back, or train another model"
                )

    def __repr__(self) -> str:
        """Factor, variable, parts, parameters and training, in ten lines; torch's own is that of each part."""
        train, data = self.config.get("train") or {}, self.config.get("data") or {}
        sizes = self.parameters_by_part
        named = [f"{name} in {one.get('units') or 'any units'}" for name, one in self.variables.items()]
        lines = [f"Downscaler of {', '.join(named) or 'a field'}"]
        lines += [f"  {'factor':11}{self.factors} (time × space)"]
        for part in ("transform", "mean", "latent", "denoiser", "generator", "variance", "constraint"):
            size = f", {sizes[part] / 1e6:.3g} M parameters" if part in sizes else ""
            lines.append(f"  {part:11}{self.kinds[part]}{size}")
        sampler = "one evaluation" if self.generator else f"{self.kinds['sampler']}, {self.process.steps} steps"
        lines.append(f"  {'sampling':11}{sampler}")
        budget = f"{train['minutes']} minutes" if train.get("minutes") else f"{train.get('steps', 0)} steps"
        lines.append(f"  {'training':11}{budget} on {data.get('path') or 'no data'}")
        return "\n".join(line for line in lines if not line.endswith("none"))
