"""The mean and variance of the fine field instead of members, from a covariance Σ of the latent in closed form.

Σ is that of the variance head (``head``: no sampling), of sampled latents (``members``: low-rank, with the correlations
between cells), or the denoiser's posterior at high noise (``denoiser``: a few evaluations); head and denoiser take
coefficients as independent. What is propagated exactly: `finescale.model.covariance`.

In the transform's space the field is y ~ N(m, s²) in every cell. In units it is x = g(y) for an increasing g, the
inverse of the transform:

    linear g       E[x] = g(m),  std x = |g'| s;  the additive constraint acts on all of it, Var[x] = diag(N Σ Nᵀ)
    otherwise      quantile_p(x) = g(m + s Φ⁻¹(p)) exactly;  E[x] and std x by Gauss–Hermite quadrature of NODES nodes

Of other constraints, and of all with another g, only the mean knows (it goes through them), and that dry blocks have no
spread where the constraint keeps zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor

from finescale.constraints import Additive
from finescale.diffusion import noise_source
from finescale.diffusion.tweedie import posterior
from finescale.errors import InputError
from finescale.latents.base import LinearLatentSpace
from finescale.model.covariance import Decoder, Moments
from finescale.model.sampling import Given, Sampling, size_of
from finescale.model.sizes import Index
from finescale.operators.coarsen import Coarsen
from finescale.samplers import Consistency

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
SOURCES = ("head", "members", "denoiser")
NODES = 16
HIGH_NOISE = 5.0
"""Noise level at which the denoiser's posterior variance is taken, in standard deviations of the latent: there the
posterior is that of the conditions alone within 4 %, and errors of the network, which count sigma times, stay small."""
PROBES = 8
"""Noise draws over which it is averaged."""


@dataclass(frozen=True)
class Spread:
    """What is known of the fine field in every cell, in the variable's units; NaN where the coarse cell is.

    Attributes:
        mean: (B, C, T, H, W).
        std: (B, C, T, H, W).
        quantiles: (B, Q, C, T, H, W), at ``levels``.
        levels: Q probabilities.
        source: where the variance is from: head, members or denoiser.
    """

    mean: Tensor
    std: Tensor
    quantiles: Tensor
    levels: tuple[float, ...]
    source: str

    def where(self, condition: Tensor, value: float) -> Spread:
        """``value`` in the cells of a condition (B, 1, T, H, W) or (B, C, T, H, W)."""
        mean, std = (torch.where(condition, value, field) for field in (self.mean, self.std))
        quantiles = torch.where(condition[:, None], value, self.quantiles)
        return Spread(mean, std, quantiles, self.levels, self.source)


@torch.no_grad()
def spread(
    model: Sampling,
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
    """Mean, standard deviation and quantiles of the fine field.

    Args:
        model: a downscaler.
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
    source = source_of(model, source, members)
    coarse = torch.where(coarse.isfinite(), coarse, torch.nan).to(model.device)
    area = None if area is None else area.to(model.device)
    unknown = Coarsen(model.factor).replicate(coarse.isnan())
    keeps_zero = model.constraint is not None and model.constraint.keeps_zero
    known_exactly = model.factor.cells == 1 or (keeps_zero and not bool(coarse.nan_to_num().any()))
    if known_exactly:
        field = Coarsen(model.factor).replicate(coarse)
        zero = torch.where(unknown, torch.nan, 0.0)
        if fields is not None:
            fields.append(field[:, None].repeat(1, members, 1, 1, 1, 1))
        return Spread(field, zero, torch.stack([field] * len(levels), 1), tuple(levels), source)
    given = model.given(coarse, origin, static)
    if model.denoiser is None:
        # A deterministic model is trained through its constraint: only after it is its mean one.
        given = replace(given, mu=model.through_constraint(given.mu, coarse, area))
    if source == "members":
        z = model.latents(given, coarse, members, seed, 0, steps, area)
        moments = Moments.of_members(z)
        if fields is not None:
            fields.append(model.finish(model.decoded(given, z, seed, 0), coarse, area, gaps))
    else:
        moments = _head(model, given) if source == "head" else _posterior(model, given, seed)
    found = _in_units(model, given.mu, moments, coarse, area, source, levels)
    if keeps_zero:
        found = found.where(Coarsen(model.factor).replicate(coarse == 0), 0.0)
    return found.where(unknown, torch.nan)


def source_of(model: Sampling, source: str = "auto", members: int = 64) -> str:
    """Where a spread's variance is from: head, members or denoiser.

    Raises:
        InputError: if the model has not what the source needs.
    """
    if source not in ("auto", *SOURCES):
        raise InputError(f"the variance's source is {source!r}, but must be one of {', '.join(SOURCES)}")
    if model.variance is None and model.denoiser is None:
        raise InputError(
            "this model is deterministic and has no variance head: train it with one (--set variance.loss=nll), "
            "or leave --variance out"
        )
    if source == "auto":
        return "members" if model.variance is None else "head"
    if source == "head" and model.variance is None:
        raise InputError(
            "this model has no variance head: take --variance members, or train it with --set variance.loss=nll"
        )
    if source != "head" and model.denoiser is None:
        raise InputError(f"this model has no denoiser for --variance {source}: take --variance head")
    if source == "denoiser" and isinstance(model.process.sampler, Consistency):
        raise InputError(
            "this model is distilled: its denoiser gives samples, not the mean that --variance denoiser is "
            "derived from; take --variance members, or the model it was distilled from"
        )
    if source == "members" and members < 2:
        raise InputError(f"a variance from {members} members is none: take at least 2, or another source")
    return source


def comment(model: Sampling, source: str, members: int) -> str:
    """What a file says of its standard deviation: the source, and what is propagated."""
    origin = {
        "head": "the variance head, coefficients independent, no sampling",
        "members": f"{members} sampled latents, correlations between cells included",
        "denoiser": "the posterior variance of the denoiser at high noise (Tweedie), coefficients independent",
    }[source]
    additive = propagates(model)
    through = "in closed form through the decoder" + (" and the additive constraint" if additive else "")
    if not model.transform.linear:
        through += "; through the transform by quantiles and quadrature"
    if model.constraint is not None and not additive:
        through += "; the constraint acts on the mean alone"
    return f"variance from {origin}; propagated {through}"


def propagates(model: Sampling) -> bool:
    """Whether a spread goes through the constraint: an additive one in units that are linear in y."""
    return model.transform.linear and isinstance(model.constraint, Additive)


def _in_units(
    model: Sampling,
    mu: Tensor,
    moments: Moments,
    coarse: Tensor,
    area: Tensor | None,
    source: str,
    levels: Sequence[float],
) -> Spread:
    """A Gaussian latent as a spread in units."""
    t, height, width = size = model.fine_size(coarse)
    assert isinstance(model.latent, LinearLatentSpace)
    gain = None if model.gain is None else model.gain(model.factor)
    decoder = Decoder(model.latent, size, gain, model.rest_scale(model.factor))
    operators = model.operators(coarse, area, 0) if propagates(model) else None
    std = moments.field_variance(decoder, operators).clamp_min(0).sqrt()
    centre = mu if moments.centre is None else mu + model.decode(moments.centre, model.factor)
    centre = centre[..., :t, :height, :width]
    if model.transform.linear:
        mean = model.transform.inverse(centre)
        mean = mean if model.denoiser is None else model.closed(mean[:, None], coarse, area)[:, 0]
        return gaussian(mean, std, model.transform.inverse, source, levels)
    found = transformed(centre, std, model.transform.inverse, source, levels)
    if model.constraint is None or model.constraint.domain == "logits":
        return found
    return replace(found, mean=model.closed(found.mean[:, None], coarse, area)[:, 0])


def _head(model: Sampling, given: Given) -> Moments:
    """Σ of the variance head."""
    assert model.variance is not None
    head = model.variance
    tiling = model.extent.tiling(model.latent.stride, model.tile, model.tile_halo)
    with model.autocast(given.mu.device):
        found = tiling.evaluate(lambda folded: head(folded, given.scalars), model.folded(given))
    return Moments(variance=found.exp())


def _posterior(model: Sampling, given: Given, seed: int) -> Moments:
    """Mean and posterior variance of the denoiser at high noise, averaged over PROBES draws of the noise."""
    sigma = torch.tensor(min(HIGH_NOISE, float(model.process.sigmas()[0])), device=given.mu.device)
    folded = model.folded(given)
    denoise = model.denoise(folded, given.scalars, exact=True)
    centre = variance = torch.zeros((), device=given.mu.device)
    for probe in range(PROBES):
        places = [(probe, corner) for corner in given.corners]
        noise = model.noise.fields(size_of(folded), places, seed, model.device)
        signs = noise_source(model.latent.channels, size_of(folded), places, seed, model.device)(1).sign()
        clean, found = posterior(denoise, sigma * noise(0), sigma, signs, model.noise.covariance)
        centre, variance = centre + clean / PROBES, variance + found / PROBES
    return Moments(centre, variance)


def gaussian(
    mean: Tensor, std: Tensor, inverse: Callable[[Tensor], Tensor], source: str, levels: Sequence[float] = LEVELS
) -> Spread:
    """N(mean, std²) of the transform's space through a linear inverse; ``mean`` is in units already.

    Args:
        mean: (B, C, T, H, W) in units, after the constraint.
        std: (B, C, T, H, W) in the transform's space.
        inverse: transform's space -> units.
        source: where the variance is from.
        levels: probabilities of the quantiles.
    """
    std = inverse(std) - inverse(torch.zeros_like(std))
    quantiles = torch.stack([mean + std * NormalDist().inv_cdf(level) for level in levels], 1)
    return Spread(mean, std, quantiles, tuple(levels), source)


def transformed(
    mean: Tensor, std: Tensor, inverse: Callable[[Tensor], Tensor], source: str, levels: Sequence[float] = LEVELS
) -> Spread:
    """N(mean, std²) of the transform's space through any increasing inverse; arguments as in `gaussian`, mean in y."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    weights = weights / weights.sum()
    values = [inverse(mean + std * float(node)) for node in nodes]
    first, square = torch.zeros_like(mean), torch.zeros_like(mean)
    for x, weight in zip(values, weights, strict=True):
        first += float(weight) * x
    for x, weight in zip(values, weights, strict=True):
        square += float(weight) * (x - first).square()
    quantiles = torch.stack([inverse(mean + std * NormalDist().inv_cdf(level)) for level in levels], 1)
    return Spread(first, square.sqrt(), quantiles, tuple(levels), source)
