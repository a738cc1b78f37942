"""The steps of sampling, one function each; `finescale.downscaler` puts them together.

B windows and M members; fields of the transform's space are padded to the networks' stride.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from finescale.constraints import Smooth
from finescale.constraints.emptied import emptied
from finescale.diffusion import TiledDenoiser, carried_noise, noise_source
from finescale.diffusion.noise_field import Place
from finescale.grids.windows import Triple
from finescale.latents import LinearLatentSpace
from finescale.model.batch import Ensemble, Inputs, Members
from finescale.model.components import Components
from finescale.model.sizes import pad
from finescale.operators.blur import blur
from finescale.operators.coarsen import Coarsen
from finescale.operators.cut import cut
from finescale.samplers import Denoise

FAINT, CONTRAST = 1e-6, 2.0
"""Amounts, in units, of a block's shape where it came out dry, and their logarithm's standard deviation."""
AT_ONCE = 2**22
"""Fine cells of fields that are made at once."""
REMAINDER = 2**31 - 1
"""Number of the noise that stands for what a latent leaves out; samplers count theirs from 0."""


def at_most(cells: int) -> int:
    """How many fields of so many fine cells are made at once, one at least: what is made on the way is as large."""
    return max(1, AT_ONCE // cells)


def known(given: Inputs, device: torch.device) -> Inputs:
    """The windows on a device, with NaN wherever a coarse value is not finite."""
    return replace(given, coarse=torch.where(given.coarse.isfinite(), given.coarse, torch.nan)).to(device)


def open_windows(model: Components, given: Inputs) -> Tensor:
    """Which windows (B,) need a network.

    Without refinement none does; and most windows of a large domain are dry, which a constraint that keeps zeros
    settles.
    """
    if model.factor.cells == 1:
        return torch.zeros(len(given), dtype=torch.bool, device=given.coarse.device)
    if model.constraint is None or not model.constraint.keeps_zero:
        return torch.ones(len(given), dtype=torch.bool, device=given.coarse.device)
    return given.coarse.nan_to_num().flatten(1).any(1)


def conditions(model: Components, given: Inputs) -> Tensor:
    """cond (B, Kc, T, H, W): the transformed coarse field upsampled, where it is known, and static fields.

    Raises:
        InputError: for a plane or static fields that the model does not serve.
    """
    sizes = model.sizes
    sizes.check_plane(*fine_size(model, given)[1:])
    y = model.transform(given.coarse)
    smoothness = given.smoothness
    if smoothness is None and model.calibrated.smoothness is not None:
        smoothness = torch.full((len(y),), model.calibrated.smoothness)
    near = transformed(model, given.neighbours)
    told = model.conditions(y, model.factor, given.static, given.predictors, smoothness, near, given.velocity)
    return pad(told, sizes.stride)


def transformed(model: Components, neighbours: Tensor | None) -> Tensor | None:
    """Neighbouring frames (B, 2n, C, t, h, w) in the transform's space."""
    return None if neighbours is None else model.transform(neighbours.flatten(0, 1)).unflatten(0, neighbours.shape[:2])


def mean(model: Components, given: Inputs, cond: Tensor) -> Tensor:
    """mu (B, C, T, H, W), the conditional mean; through the constraint where the residual is of such a mean."""
    scalars = model.scalars(model.factor, len(cond))
    with model.autocast(cond.device):
        mu = model.sizes.tiling((1, 1, 1), None, 0).evaluate(lambda cond: model.mean(cond, scalars), cond)
    return through_constraint(model, mu, given) if model.mean.conserving and not model.deterministic else mu


def latents(model: Components, given: Inputs, cond: Tensor, mu: Tensor, members: Members) -> Tensor:
    """z (B, M, K, T', H', W'), sampled from noise that is a function of position.

    Raises:
        InputError: for an origin that is no multiple of `Components.multiple`.
    """
    told = folded(model, cond, mu)
    make = _sampled(model, told, mu, given, members) if model.generator is None else _generated(model, told)
    corners = [model.sizes.latent_index(first) for first in given.origins]
    pairs = [(item, member) for item in range(len(given)) for member in members.numbers]
    found, at_once = [], model.at_once(mu[0, 0].numel())
    for start in range(0, len(pairs), at_once):
        some = pairs[start : start + at_once]
        items = torch.tensor([item for item, _ in some], device=mu.device)
        places = [(member, corners[item]) for item, member in some]
        found.append(make(items, _noise(model, given, size_of(told), items, places, members.seed)))
    z = (found[0] if len(found) == 1 else torch.cat(found)).unflatten(0, (len(given), len(members)))
    spread = model.calibrated.spread_at(model.factor)
    if spread == 1:
        return z
    # A generator's deviations are those from what it makes of no noise.
    centre = make(torch.arange(len(given)), lambda _: told.new_zeros(len(given), model.noise.channels, *size_of(told)))
    centre = centre[:, None] if model.generator is not None else torch.zeros_like(z[:, :1])
    return centre + spread * (z - centre)


def _noise(
    model: Components, given: Inputs, shape: Triple, items: Tensor, places: list[Place], seed: int
) -> Callable[[int], Tensor]:
    """Noise of (window, member) pairs, draw by draw: of each frame its own, or carried along the motion.

    Carried white fields on fine cells become latents by the orthonormal analysis.
    """
    if given.carried is None:
        return model.noise.fields(shape, places, seed, model.device)
    (frames, height, width), stride = shape, model.latent.stride
    together, fields = stride[0], max(1, len(model.variables))
    carried, cells = given.carried[items], (model.factor.y, model.factor.x)
    fine = [(member, _cells(corner, stride)) for member, corner in places]
    size = (frames, height * stride[1], width * stride[2])

    def white(draw: int) -> Tensor:
        drawn = carried_noise(fields * together, size, carried, fine, cells, seed, draw).to(model.device)
        # Frames of a coarse one are independent fields that move together.
        apart = drawn.unflatten(1, (fields, together)).movedim(2, 3).flatten(2, 3)
        return model.latent.analysis(apart)

    return white


Make = Callable[[Tensor, Callable[[int], Tensor]], Tensor]
"""From the numbers of windows and the noise of members, draw by draw, to latents."""


def _sampled(model: Components, told: Tensor, mu: Tensor, given: Inputs, members: Members) -> Make:
    """The denoiser, led from noise to a clean latent by the sampler."""
    sigmas = model.process.sigmas(members.steps).to(mu.device)

    def make(items: Tensor, noise: Callable[[int], Tensor]) -> Tensor:
        estimate = denoise(model, told[items])
        if model.process.constrain == "steps" and model.constraint is not None:
            estimate = _projected(model, estimate, mu[items], given[items])
        return model.process.sampler(estimate, noise(0), sigmas, noise)

    return make


def _generated(model: Components, told: Tensor) -> Make:
    """The generator, whose trunk sees each window once, on the whole plane."""
    assert model.generator is not None
    generator, scalars = model.generator, model.scalars(model.factor, len(told))
    scale = model.scale(model.factor)
    tiling = model.sizes.tiling(model.latent.stride, None, 0)
    with model.autocast(told.device):
        shared = tiling.evaluate(lambda told: generator.trunk(told, scalars), told)

    def make(items: Tensor, noise: Callable[[int], Tensor]) -> Tensor:
        with model.autocast(told.device):
            if bool((items == items[0]).all()):  # members of one window
                return generator.head(shared[items[:1]], noise(0)[None], scale)[0]
            return generator.head(shared[items], noise(0)[:, None], scale)[:, 0]

    return make


def fields(model: Components, given: Inputs, mu: Tensor, z: Tensor, members: Members) -> Tensor:
    """y = mu + decode(z), (B, M, C, T, H, W), with noise for what the latent leaves out where it asks for that."""
    at_once = model.at_once(mu[0, 0].numel())
    y = torch.cat([model.decode(part, model.factor) for part in z.flatten(0, 1).split(at_once)])
    y = mu[:, None] + y.unflatten(0, z.shape[:2])
    if isinstance(model.latent, LinearLatentSpace) and model.latent.remainder:
        corners = [model.sizes.latent_index(first) for first in given.origins]
        places: list[Place] = [
            (member, _cells(corner, model.latent.stride)) for corner in corners for member in members.numbers
        ]
        white = noise_source(y.shape[2], size_of(y), places, members.seed, y.device)(REMAINDER)
        left_out = model.latent.left_out(white) * model.rest_scale(model.factor)
        y += left_out.unflatten(0, y.shape[:2])
    return y


def folded(model: Components, cond: Tensor, mu: Tensor) -> Tensor:
    """(B, Kc, T', H', W'), what the denoiser and the variance head are told, at latent resolution."""
    return model.latent.fold(torch.cat([cond, mu], 1))


def denoise(model: Components, told: Tensor, exact: bool = False) -> Denoise:
    """The denoiser on a whole canvas, told (N, Kc, T', H', W'); ``exact`` for float32."""
    assert model.denoiser is not None
    # One tiling for every step: windows' predictions are blended on one canvas.
    tiling = model.sizes.tiling(model.latent.stride, model.tile, model.tile_halo)
    context = None if exact else model.autocast(told.device)
    return TiledDenoiser(model.denoiser, told, tiling, context, model.scalars(model.factor, 1))


def _projected(model: Components, denoise: Denoise, mu: Tensor, given: Inputs) -> Denoise:
    """The denoiser with its clean estimate put through the constraint."""

    def project(z: Tensor, sigma: Tensor) -> Tensor:
        y = mu + model.decode(denoise(z, sigma), model.factor)
        return model.encode(through_constraint(model, y, given) - mu, model.factor)

    return project


def through_constraint(model: Components, y: Tensor, given: Inputs) -> Tensor:
    """Fields (B, C, T, H, W) of the transform's space with the wanted block means, where these are known."""
    x = finished(model, y[:, None], given)[:, 0]
    t, height, width = x.shape[-3:]
    closed = y.clone()
    closed[..., :t, :height, :width] = torch.where(x.isnan(), y[..., :t, :height, :width], model.transform(x))
    return closed


def ensemble(model: Components, y: Tensor, given: Inputs) -> Ensemble:
    """x = constraint(transform.inverse(y), coarse), y (B, M, C, T, H, W), cut to the windows; NaN where c is unknown.

    Of a model that was calibrated, `adapted`.
    """
    x = physical(model, y, given)
    return Ensemble(adapted(model, constrained(model, x, given), given), gap(model, x, given))


def finished(model: Components, y: Tensor, given: Inputs) -> Tensor:
    """y (B, M, C, T, H, W) of the transform's space as x in units, constrained."""
    return constrained(model, physical(model, y, given), given)


def physical(model: Components, y: Tensor, given: Inputs) -> Tensor:
    """y (B, M, C, T, H, W) in units (or logits), cut to the windows."""
    t, height, width = fine_size(model, given)
    y = y[..., :t, :height, :width]
    x = model.physical(y)
    empties = isinstance(model.constraint, Smooth) and model.constraint.least > 0
    return _shaped(model, x, y, given) if empties else x


def _shaped(model: Components, x: Tensor, y: Tensor, given: Inputs) -> Tensor:
    """x with the shape of y in wet blocks that came out dry, so faint that only a constraint makes anything of it.

    In such a block x = `FAINT` · exp(`CONTRAST` · (y − ⟨y⟩) / σ), with mean and standard deviation over the block: rain
    lies where it was nearest to being.
    """
    a, wanted = operators(model, given, 1), _wanted(given).nan_to_num()
    empty = (a.average(x, missing=False) <= 0) & (wanted > 0)
    if not bool(empty.any()):
        return x
    apart = y - a.replicate(a.average(y, missing=False))
    spread = a.average(apart.square(), missing=False).sqrt().clamp_min(1e-6)
    return torch.where(a.replicate(empty), FAINT * (CONTRAST * apart / a.replicate(spread)).exp(), x)


def constrained(model: Components, x: Tensor, given: Inputs) -> Tensor:
    """Fields (B, M, C, T, H, W) in units (or logits) after the constraint, NaN where the coarse field is unknown."""
    a, wanted = operators(model, given, 1), _wanted(given)
    if model.constraint is not None:
        x = model.constraint(x, wanted, a)
    unknown = given.coarse.isnan()
    if bool(unknown.any()):
        x = torch.where(a.replicate(unknown)[:, None], torch.nan, x)
    return masked(x, given)


def adapted(model: Components, x: Tensor, given: Inputs) -> Tensor:
    """x (B, M, C, T, H, W) of `constrained` as `Calibrated` has it: smoothed by a Gaussian and constrained again, and
    then without amounts below its ``least``.

    What the Gaussian leaves below the transform's threshold is none. Fields that a constraint makes of logits are not
    smoothed.
    """
    std, least = model.calibrated.blur_at(model.factor), model.calibrated.least
    if std and (model.constraint is None or model.constraint.domain == "field"):
        x = constrained(model, model.physical(model.transform(blur(x, std))), given)
    below = least is not None and model.amounts and bool(((x[:, :, 0] > 0) & (x[:, :, 0] < least)).any())
    return _emptied(model, x, given, least) if below and least is not None else x


def _emptied(model: Components, x: Tensor, given: Inputs, least: float) -> Tensor:
    """x (B, M, C, T, H, W) without amounts of the first variable below ``least``."""
    first = x[:, :, :1]
    if model.constraint is None:
        closed = cut(first, least)
    else:
        a, known = operators(model, given, 1).of_variable(0), first.nan_to_num()
        closed = torch.where(first.isnan(), torch.nan, emptied(known, _wanted(given)[:, :, :1], a, least))
    return torch.cat([closed, x[:, :, 1:]], 2)


def masked(x: Tensor, given: Inputs) -> Tensor:
    """Fields (B, …, C, T, H, W) with NaN in the cells that are not valid."""
    if given.mask is None:
        return x
    mask = given.mask.to(x.device)
    return torch.where(mask[:, *(None,) * (x.ndim - 5), :, None], x, torch.nan)


def gap(model: Components, x: Tensor, given: Inputs) -> tuple[float, ...]:
    """Of every variable the largest |A x − c| of fields (B, M, C, T, H, W) before its constraint; 0 without."""
    conserved = model.conserves
    if model.constraint is None or model.constraint.domain != "field":
        return (0.0,) * len(conserved)
    off = (operators(model, given, 1)(x) - _wanted(given)).detach().abs().nan_to_num()
    worst = off.amax(dim=(0, 1, 3, 4, 5)).tolist()
    return tuple(value if is_ else 0.0 for value, is_ in zip(worst, conserved, strict=True))


def _wanted(given: Inputs) -> Tensor:
    """The coarse fields (B, 1, C, t, h, w) of all members."""
    return given.coarse[:, None]


def operators(model: Components, given: Inputs, axes: int) -> Coarsen:
    """A and U of the windows, with ``axes`` axes between the batch's and (C, T, H, W)."""
    area = given.area
    if area is not None:
        area = area.reshape(-1, *(1,) * (axes + 2), *area.shape[-2:])
    mask = None if given.mask is None else given.mask[:, *(None,) * axes, :, None]
    return Coarsen(model.factor, area, mask).to(given.coarse.device)


def fine_size(model: Components, given: Inputs) -> Triple:
    """(T, H, W) of the fine fields of the windows."""
    t, height, width = (n * f for n, f in zip(given.coarse.shape[-3:], model.factor, strict=True))
    return t, height, width


def size_of(z: Tensor) -> Triple:
    """(T', H', W') of a latent (..., T', H', W')."""
    t, height, width = z.shape[-3:]
    return t, height, width


def _cells(corner: Triple, stride: Triple) -> Triple:
    """Absolute fine index of the first cell of a latent cell."""
    t, y, x = (n * s for n, s in zip(corner, stride, strict=True))
    return t, y, x
