"""What a model takes from the training data before, and between, its networks: statistics in closed form.

The transform's and the static fields' come first. The latent's are those of the residual, transform(fine) − mean, so
they wait for the mean:

    latent         z = encode(transform(x) − mu) has unit variance in every channel, over the crops of all factors
    noise          the persistence of z from frame to frame, where the noise has one
    gain           the standard deviation of each channel of z as a function of the factor, for models of many factors
    rest_gain      the same of what the latent leaves out, against its mean over all factors

A few crops settle a mean and a standard deviation. They do not settle a basis, whose modes follow what they were fitted
to: latents that ask for it (`LatentSpace.enough`) get all crops that lie side by side, in the order of time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from finescale.downscaler import Downscaler
from finescale.grids.factor import Factor
from finescale.model import losses
from finescale.model.batch import Batch
from finescale.model.mean import MeanModel
from finescale.training.crops import Crops

KEPT = 2**26
"""Fine cells of residuals that are kept in memory, 256 MiB; those of more are made again at every passage."""
ITEMS = 16
"""Crops of a passage that the mean network sees at once."""
LIKELY = 128
"""Crops that tell how smooth fields are."""

Item = TypeVar("Item")


class Lazy(Sequence[Item]):
    """A sequence whose items are made when they are asked for."""

    def __init__(self, length: int, make: Callable[[int], Item]) -> None:
        self.length, self.make = length, make

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> Item:  # type: ignore[override]
        if not 0 <= number < self.length:
            raise IndexError(number)
        return self.make(number)

    def __iter__(self) -> Iterator[Item]:
        return map(self.make, range(self.length))


def every(crops: Crops, cells: int, seed: int) -> Lazy[Batch]:
    """All crops side by side, in the order of time, a few at a time; of several factors each batch has its own.

    Args:
        crops: training crops.
        cells: fine cells that are enough; of more, crops evenly spread, as many as hold these or `KEPT` ones.
        seed: of the factors.
    """
    return _batches(crops, crops.side_by_side(max(cells, KEPT)), seed)


def _batches(crops: Crops, positions: NDArray[np.int32], seed: int) -> Lazy[Batch]:
    """The crops at some positions (n, 4), a few at a time."""
    rng = np.random.default_rng([seed, 7])
    factors = [crops.factors.draw(rng) for _ in range(0, len(positions), ITEMS)]
    return Lazy(len(factors), lambda n: crops.at(positions[n * ITEMS : (n + 1) * ITEMS], factors[n]))


def sample(crops: Crops, count: int, seed: int) -> list[Batch]:
    """``count`` crops apart from each other, of the one factor; or two of each of ``count`` factors that are drawn."""
    if crops.factors.single is not None:
        return [crops.apart(count, seed)]
    rng = np.random.default_rng([seed, 7])
    factors = [crops.factors.draw(rng) for _ in range(count)]
    return [crops.apart(2, seed + n, factor) for n, factor in enumerate(factors)]


def fit_statistics(model: Downscaler, crops: Sequence[Batch], device: torch.device) -> None:
    """Fit the transform to the fine fields (B, C, T, H, W), in the variable's units, and the conditions to static ones.

    Args:
        model: fitted in place.
        crops: batches, each of one factor.
        device: where the model is.
    """
    model.transform.fit([batch.fine.to(device) for batch in crops])
    model.conditions.fit(
        [batch.static.to(device) for batch in crops if batch.static is not None],
        [batch.predictors.to(device) for batch in crops if batch.predictors is not None],
    )


def fit_smoothness(model: Downscaler, crops: Crops, seed: int, device: torch.device) -> None:
    """What networks are told at prediction where nobody says how smooth fine fields are: the mean of crops as drawn.

    As often as training draws them, where it favours some or balances fields, but not smoothed as it does.

    Args:
        model: fitted in place; its transform is fitted.
        crops: training crops.
        seed: of the factors.
        device: where the model is.
    """
    fine = (batch.fine.to(device) for batch in _batches(crops, crops.likely(LIKELY), seed))
    model.conditions.fit([], [], [told for part in fine if (told := model.smoothness_of(part)) is not None])


@torch.no_grad()
def whiten(
    model: Downscaler,
    crops: Sequence[Batch],
    mean: MeanModel | None,
    device: torch.device,
    basis: Sequence[Batch] | None = None,
) -> None:
    """Fit the latent to residuals (B, C, T, H, W), at all factors together, and its gains at each.

    Cells count where the fine field is known.

    Args:
        model: fitted in place; its transform is fitted.
        crops: batches, each of one factor.
        mean: what residuals are taken from, such as a fold's network; None for the model's own.
        device: where the model is.
        basis: what the latent itself is fitted to, where it is not ``crops``.
    """
    _fit_latent(model, crops if basis is None else basis, mean, device)
    residuals = [losses.residual(model, batch.to(device), mean) for batch in crops]
    latents = [model.latent.encode(r) for r in residuals]
    model.noise.fit(latents)
    if model.gain is None:
        return
    factors = [Factor.between(batch.coarse.shape, batch.fine.shape) for batch in crops]
    model.gain.fit(factors, torch.stack([z.transpose(0, 1).flatten(1).square().mean(1).sqrt() for z in latents]))
    if model.rest_gain is not None:
        known = [_known(batch, like) for batch, like in zip(crops, residuals, strict=True)]
        rest = [r - model.latent.decode(z) for r, z in zip(residuals, latents, strict=True)]
        squares = torch.stack([(x.square().mean(1, keepdim=True) * k).sum() for x, k in zip(rest, known, strict=True)])
        cells = torch.stack([k.sum() for k in known]).clamp_min(1)
        model.rest_gain.fit(factors, (squares / cells / (squares.sum() / cells.sum())).sqrt()[:, None])


def _fit_latent(model: Downscaler, crops: Sequence[Batch], mean: MeanModel | None, device: torch.device) -> None:
    """Fit the latent to the residuals of crops, gone through as often as it wants."""

    def residual(number: int) -> tuple[Tensor, Tensor]:
        batch = crops[number].to(device)
        found = losses.residual(model, batch, mean)
        return found, _known(batch, found).bool()

    one = crops[0].fine
    fits = len(crops) * one.numel() <= KEPT
    kept = cache(residual) if fits else lru_cache(1)(residual)
    model.latent.fit(Lazy(len(crops), lambda n: kept(n)[0]), Lazy(len(crops), lambda n: kept(n)[1]))


def _known(batch: Batch, residual: Tensor) -> Tensor:
    """1 where the fine field is known, 0 elsewhere and where the residual is padded; (B, 1, T, H, W)."""
    known, (t, height, width) = torch.zeros_like(residual[:, :1]), batch.fine.shape[-3:]
    known[..., :t, :height, :width] = batch.fine.isfinite().all(dim=1, keepdim=True).to(known)
    return known
