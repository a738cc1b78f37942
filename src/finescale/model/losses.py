"""What each stage of a training minimises.

A stage's kind is one of ``mean`` (squared error of the mean network), ``denoiser`` (EDM), ``joint`` (their sum),
``generator`` (proper scores of its members), ``variance`` (score of the variance head) and ``distill``. All but a
generator see the residual r = transform(fine) − mu through the latent space, where unknown cells weigh nothing. Crops
with weights w (`Batch.weight`) count as L = mean w_i L_i; the number of known cells, by which it is divided, is not
weighted, so that L expects the mean over crops drawn alike. Where processes share a batch, it is the number in the
whole of it (`finescale.model.share`). A generator's loss is a mean of crops, each over its own known cells.
"""

from __future__ import annotations

import torch
from torch import Tensor

from finescale.diffusion import Distillation
from finescale.grids.factor import Factor
from finescale.model.batch import Batch
from finescale.model.components import Components
from finescale.model.mean import MeanModel
from finescale.model.sampling import transformed
from finescale.model.share import Share
from finescale.model.sizes import pad
from finescale.operators.coarsen import Coarsen

ALL = Share()


def loss(
    model: Components,
    kind: str,
    batch: Batch,
    generator: torch.Generator,
    *,
    mean: MeanModel | None = None,
    teacher: Distillation | None = None,
    through: bool = True,
    share: Share = ALL,
) -> Tensor:
    """Loss of a stage on a batch.

    A model without a denoiser is trained through its constraint, or with its penalty, and so is a mean that conserves
    (`MeanModel.conserving`); elsewhere the constraint comes after sampling.

    Args:
        model: what is trained.
        kind: the stage: mean, denoiser, joint, generator, variance or distill.
        batch: crops, on the model's device.
        generator: source of noise levels and noise, on the CPU; the same for all parts of a batch.
        mean: mean model that is trained, or whose residual the denoiser learns, where it is not the model's own
            (held-out folds).
        teacher: what a distillation learns from.
        through: whether a mean that is trained alone sees its constraint.
        share: which part of a batch ``batch`` is; the mean of the parts' losses is that of the batch.
    """
    network, factor = mean or model.mean, Factor.between(batch.coarse.shape, batch.fine.shape)
    cond, y, known = _pair(model, batch, factor)
    scalars = model.scalars(factor, len(y))
    if kind == "mean":
        mu = network(cond, scalars)
        penalty = torch.zeros((), device=mu.device)
        if model.deterministic or network.conserving:
            mu, penalty = _closed(model, mu, batch, factor, through, share)
        return network.distance(mu, y, _weighted(known, batch.weight), share.count(known.sum())) + penalty
    with torch.set_grad_enabled(kind == "joint"):
        mu = network(cond, scalars)
        if model.deterministic or network.conserving:
            mu, _ = _closed(model, mu, batch, factor)
    first = torch.zeros((), device=mu.device)
    if kind == "joint":
        first = network.distance(mu, y, _weighted(known, batch.weight), share.count(known.sum()))
    mu = mu.detach()
    clean = model.encode(y - mu, factor)
    folded = model.latent.fold(torch.cat([cond, mu], 1))
    covered = model.latent.coverage(known)
    weight = _weighted(covered, batch.weight)
    if kind == "variance":
        assert model.variance is not None
        error, count = clean - model.encode(torch.zeros_like(y), factor), share.count(covered.sum())
        return model.variance.loss(error, folded, weight, scalars, count)
    if kind == "generator":
        return generated(model, batch, factor, mu, folded, known, generator, share)
    assert model.denoiser is not None
    whole = share.of * len(y)
    sigma = share.part(model.process.noise.sample(whole, generator)).to(y.device)
    noise = share.part(model.noise.random(torch.Size([whole, *clean.shape[1:]]), generator, y.device))
    if kind == "distill":
        assert teacher is not None
        levels = share.part(teacher.levels(whole, generator), dim=1)
        return teacher(model.denoiser, noise, folded, levels, weight, scalars, batch.weight)
    tv = model.process.tv
    # Of degree one, so that a crop's weight goes inside.
    each = 1.0 if batch.weight is None else _over(batch.weight)
    variation = None if tv is None else lambda z, sigma: tv([each * band for band in model.latent.details(z)], sigma)
    count = share.count(covered.sum())
    return first + model.denoiser.loss(clean, sigma, noise, folded, weight, scalars, variation, count)


def generated(
    model: Components,
    batch: Batch,
    factor: Factor,
    mu: Tensor,
    folded: Tensor,
    known: Tensor,
    generator: torch.Generator,
    share: Share = ALL,
) -> Tensor:
    """Proper scores of a few members of each crop, as they come out: decoded and constrained.

    Args:
        model: with a generator.
        batch: crops.
        factor: theirs.
        mu: mean (B, C, T, H, W), padded.
        folded: what the generator is told.
        known: (B, 1, T, H, W), 1 where the truth is known, padded.
        generator: source of noise and of the patches' corners; the same for all parts of a batch.
        share: which part of a batch ``batch`` is.
    """
    assert model.generator is not None
    score, count = model.generator.score, model.generator.members
    shape = torch.Size((share.of * len(mu) * count, model.latent.channels, *folded.shape[-3:]))
    white = share.part(model.noise.random(shape, generator, mu.device)).unflatten(0, (-1, count))
    z = model.generator(folded, white, model.scale(factor), model.scalars(factor, len(mu)))
    y = mu[:, None] + model.decode(z.flatten(0, 1), factor).unflatten(0, (-1, count))
    t, height, width = batch.fine.shape[-3:]
    inside = (..., slice(t), slice(height), slice(width))
    x, known = model.physical(y[inside]), known[inside]
    operators = _operators(batch, factor, 1)
    coarse = batch.coarse.nan_to_num()[:, None].expand(-1, count, -1, -1, -1, -1)
    raw = operators(x)
    off = torch.where(raw.isnan(), 0.0, model.transform(raw.nan_to_num()) - model.transform(coarse))
    if model.constraint is not None:
        x = model.constraint.gently(x, coarse, operators)
    fine = torch.where(batch.fine.isnan(), 0.0, batch.fine)
    losses = score.of(model.transform(x), model.transform(fine), known, generator)
    losses = losses + score.blocks * off.square().flatten(1).mean(1)
    if score.amounts and not model.linear:
        ours, true = ((field.clamp_min(0) + score.floor).sqrt() for field in (x, fine))
        losses = losses + score.amounts * score.of(ours, true, known, generator)
    return (losses if batch.weight is None else losses * batch.weight).mean()


def residual(model: Components, batch: Batch, mean: MeanModel | None = None) -> Tensor:
    """transform(fine) − mean, what the latent space represents; (B, C, T, H, W), padded to the networks' stride."""
    factor = Factor.between(batch.coarse.shape, batch.fine.shape)
    cond, y, _ = _pair(model, batch, factor)
    network = mean or model.mean
    mu = network(cond, model.scalars(factor, len(y)))
    return y - (_closed(model, mu, batch, factor)[0] if model.deterministic or network.conserving else mu)


def _weighted(known: Tensor, weight: Tensor | None) -> Tensor:
    """Cells (B, 1, ...) with the weights of their crops (B,)."""
    return known if weight is None else known * _over(weight)


def _over(weight: Tensor) -> Tensor:
    return weight.reshape(-1, 1, 1, 1, 1)


def _pair(model: Components, batch: Batch, factor: Factor) -> tuple[Tensor, Tensor, Tensor]:
    """Conditioning fields, target and where it is known (B, 1, T, H, W), padded to the networks' stride.

    Unknown cells of the target take the interpolated coarse value, so that they carry no residual.
    """
    coarse, y = model.transform(batch.coarse), model.transform(batch.fine)
    smoothness, near = model.smoothness_of(batch.fine), transformed(model, batch.neighbours)
    cond = model.conditions(coarse, factor, batch.static, batch.predictors, smoothness, near, batch.velocity)
    y = torch.where(y.isnan(), cond[:, : y.shape[1]], y)
    known = batch.fine.isfinite().all(dim=1, keepdim=True).to(y.dtype)
    sizes = model.sizes_at(factor)
    sizes.check_plane(*y.shape[-2:])
    stride = sizes.stride
    return pad(cond, stride), pad(y, stride), pad(known, stride, value=0.0)


def _closed(
    model: Components, mu: Tensor, batch: Batch, factor: Factor, through: bool = True, share: Share = ALL
) -> tuple[Tensor, Tensor]:
    """Mean (in the transform's space) after the constraint, or as it is, and the penalty."""
    t, height, width = batch.fine.shape[-3:]
    inside = (..., slice(t), slice(height), slice(width))
    operators = _operators(batch, factor)
    x = model.physical(mu[inside])
    penalty = torch.zeros((), device=mu.device)
    if model.penalty is not None:
        # A square of what is linear: a crop's weight goes inside as its root.
        root = 1.0 if batch.weight is None else _over(batch.weight).sqrt()
        penalty = model.penalty(root * x, root * batch.coarse, operators, share.count)
    if model.constraint is not None and through:
        # A block of unknown cells counts for nothing, but NaN would go through its gradient.
        x = model.constraint(x, batch.coarse.nan_to_num(), operators)
        closed = mu.clone()
        closed[inside] = model.transform(x)
        mu = closed
    return mu, penalty


def _operators(batch: Batch, factor: Factor, axes: int = 0) -> Coarsen:
    """A and U of training crops, with ``axes`` axes between the batch's and (C, T, H, W)."""
    known, area = batch.fine.isfinite().all(1, keepdim=True), batch.area
    # Sums without weights are several times as fast.
    weights = None if area is None or bool((area == area[:, :1, :1]).all()) else area
    if weights is not None:
        weights = weights.reshape(-1, *(1,) * (axes + 2), *weights.shape[-2:])
    mask = None if bool(known.all()) else known[:, *(None,) * axes]
    return Coarsen(factor, weights, mask)
