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
from finescale.model import sampling
from finescale.model.batch import Ensemble, Inputs, Members
from finescale.model.components import Components
from finescale.model.covariance import Decoder, Moments
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
class Marginals:
    """What is known of the fine field in every cell, in the variable's units; NaN where the coarse cell is.

    Attributes:
        mean: (B, C, T, H, W).
        std: (B, C, T, H, W).
        quantiles: (B, Q, C, T, H, W), at ``levels``.
        levels: Q probabilities.
        source: where the variance is from: head, members or denoiser.
        members: those that it is from, where it is from members and they are asked for.
    """

    mean: Tensor
    std: Tensor
    quantiles: Tensor
    levels: tuple[float, ...]
    source: str
    members: Ensemble | None = None

    def where(self, condition: Tensor, value: float) -> Marginals:
        """``value`` in the cells of a condition (B, 1, T, H, W) or (B, C, T, H, W)."""
        mean, std = (torch.where(condition, value, field) for field in (self.mean, self.std))
        quantiles = torch.where(condition[:, None], value, self.quantiles)
        return replace(self, mean=mean, std=std, quantiles=quantiles)


@torch.no_grad()
def marginals(
    model: Components,
    given: Inputs,
    members: Members,
    source: str = "auto",
    *,
    fields: bool = False,
    levels: Sequence[float] = LEVELS,
) -> Marginals:
    """Mean, standard deviation and quantiles of the fine field.

    Args:
        model: a downscaler.
        given: what it is given.
        members: latents that are sampled, for source members: those that `Downscaler.sample` draws.
        source: head, members or denoiser; auto for the head where there is one, otherwise members.
        fields: whether fields are made of those latents besides, `Marginals.members`.
        levels: probabilities of the quantiles.

    Raises:
        InputError: if the model has not what the source needs.
    """
    source = source_of(model, source, len(members))
    given = sampling.known(given, model.device)
    coarse, replicate = given.coarse, Coarsen(model.factor).replicate
    unknown = sampling.masked(replicate(torch.where(coarse.isnan(), torch.nan, 0.0)), given).isnan()
    keeps_zero = model.constraint is not None and model.constraint.keeps_zero
    if not bool(sampling.open_windows(model, given).any()):
        field = sampling.masked(replicate(coarse), given)
        drawn = Ensemble(field[:, None].repeat(1, len(members), 1, 1, 1, 1)) if fields else None
        zero = torch.where(unknown, torch.nan, 0.0)
        return Marginals(field, zero, torch.stack([field] * len(levels), 1), tuple(levels), source, drawn)
    cond = sampling.conditions(model, given)
    mu = sampling.mean(model, given, cond)
    if model.deterministic:
        # A deterministic model is trained through its constraint: only after it is its mean one.
        mu = sampling.through_constraint(model, mu, given)
    drawn = None
    if source == "members":
        z = sampling.latents(model, given, cond, mu, members)
        moments = Moments.of_members(z)
        if fields:
            drawn = sampling.ensemble(model, sampling.fields(model, given, mu, z, members), given)
    elif source == "head":
        moments = _head(model, cond, mu)
    else:
        moments = _posterior(model, given, cond, mu, members.seed)
    found = _in_units(model, given, mu, moments, source, levels)
    if keeps_zero:
        found = found.where(replicate(coarse == 0), 0.0)
    return replace(found.where(unknown, torch.nan), members=drawn)


def source_of(model: Components, source: str = "auto", members: int = 64) -> str:
    """Where a variance is from: head, members or denoiser.

    Raises:
        InputError: if the model has not what the source needs.
    """
    if source not in ("auto", *SOURCES):
        raise InputError(f"the variance's source is {source!r}, but must be one of {', '.join(SOURCES)}")
    if model.variance is None and model.deterministic:
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
    if model.denoiser is None and source == ("members" if model.deterministic else "denoiser"):
        raise InputError(f"this model has no denoiser for --variance {source}: take --variance head")
    if source == "denoiser" and isinstance(model.process.sampler, Consistency):
        raise InputError(
            "this model is distilled: its denoiser gives samples, not the mean that --variance denoiser is "
            "derived from; take --variance members, or the model it was distilled from"
        )
    if source == "members" and members < 2:
        raise InputError(f"a variance from {members} members is none: take at least 2, or another source")
    return source


def comment(model: Components, source: str, members: int) -> str:
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


def propagates(model: Components) -> bool:
    """Whether the variance goes through the constraint: an additive one in units that are linear in y."""
    return model.transform.linear and isinstance(model.constraint, Additive)


def _in_units(
    model: Components, given: Inputs, mu: Tensor, moments: Moments, source: str, levels: Sequence[float]
) -> Marginals:
    """A Gaussian latent as marginals in units."""
    t, height, width = size = sampling.fine_size(model, given)
    assert isinstance(model.latent, LinearLatentSpace)
    gain = None if model.gain is None else model.gain(model.factor)
    decoder = Decoder(model.latent, size, gain, model.rest_scale(model.factor))
    operators = sampling.operators(model, given, 0) if propagates(model) else None
    std = moments.field_variance(decoder, operators).clamp_min(0).sqrt()
    centre = mu if moments.centre is None else mu + model.decode(moments.centre, model.factor)
    centre = centre[..., :t, :height, :width]
    if model.transform.linear:
        mean = model.transform.inverse(centre)
        mean = mean if model.deterministic else sampling.constrained(model, mean[:, None], given)[:, 0]
        return gaussian(mean, std, model.transform.inverse, source, levels)
    found = transformed(centre, std, model.transform.inverse, source, levels)
    if model.constraint is None or model.constraint.domain == "logits":
        return found
    return replace(found, mean=sampling.constrained(model, found.mean[:, None], given)[:, 0])


def _head(model: Components, cond: Tensor, mu: Tensor) -> Moments:
    """Σ of the variance head."""
    assert model.variance is not None
    head, scalars = model.variance, model.scalars(model.factor, len(cond))
    tiling = model.sizes.tiling(model.latent.stride, model.tile, model.tile_halo)
    with model.autocast(mu.device):
        found = tiling.evaluate(lambda folded: head(folded, scalars), sampling.folded(model, cond, mu))
    return Moments(variance=found.exp())


def _posterior(model: Components, given: Inputs, cond: Tensor, mu: Tensor, seed: int) -> Moments:
    """Mean and posterior variance of the denoiser at high noise, averaged over PROBES draws of the noise."""
    sigma = torch.tensor(min(HIGH_NOISE, float(model.process.sigmas()[0])), device=mu.device)
    folded = sampling.folded(model, cond, mu)
    denoise, size = sampling.denoise(model, folded, exact=True), sampling.size_of(folded)
    corners = [model.sizes.latent_index(first) for first in given.origins]
    centre = variance = torch.zeros((), device=mu.device)
    for probe in range(PROBES):
        places = [(probe, corner) for corner in corners]
        noise = model.noise.fields(size, places, seed, model.device)
        signs = noise_source(model.latent.channels, size, places, seed, model.device)(1).sign()
        clean, found = posterior(denoise, sigma * noise(0), sigma, signs, model.noise.covariance)
        centre, variance = centre + clean / PROBES, variance + found / PROBES
    return Moments(centre, variance)


def gaussian(
    mean: Tensor, std: Tensor, inverse: Callable[[Tensor], Tensor], source: str, levels: Sequence[float] = LEVELS
) -> Marginals:
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
    return Marginals(mean, std, quantiles, tuple(levels), source)


def transformed(
    mean: Tensor, std: Tensor, inverse: Callable[[Tensor], Tensor], source: str, levels: Sequence[float] = LEVELS
) -> Marginals:
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
    return Marginals(first, square.sqrt(), quantiles, tuple(levels), source)
