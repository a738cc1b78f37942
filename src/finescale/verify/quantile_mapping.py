"""Quantile mapping after interpolation ("qm"): what climate services do to refine a coarse model, and to mend its bias.

The coarse field is interpolated to the fine cells. In each cell, F its distribution over the training times there and
Q the quantile function of the fine truth's, empirical both, at the probabilities p_k = (k − ½)/K, linear between them:

    y = Q(F(x))                                  between the outermost quantiles
    y = x + (Q − F⁻¹)(p_1) or (p_K)              beyond: their correction is kept (Themeßl et al. 2011)

Rain: x below the wet threshold is dry, and its place in the distribution is drawn evenly from (0, F(dry)). So where the
coarse model has too many wet times, the weakest become dry, and where it has too few, some dry ones become wet, with
the amounts that the truth has between both shares: frequency adaptation (Themeßl et al. 2012). Members differ in these
draws only.

    Themeßl, Gobiet and Leuprecht 2011, doi:10.1002/joc.2168; Themeßl, Gobiet and Heinrich 2012,
    doi:10.1007/s10584-011-0224-4; Gudmundsson et al. 2012, doi:10.5194/hess-16-3383-2012 ("QUANT")

Where it departs from them: a mapping is for all training times; give the times of each season, or month, for one of its
own. It knows each cell alone: members have the texture of the interpolation, not of the truth.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from finescale.errors import InputError
from finescale.grids.factor import Factor
from finescale.scores.cells import Array
from finescale.verify.baselines import INTERPOLATIONS, baseline

LEAST = 10
"""Training times below which a cell has no distribution worth the name, and stays missing."""


def quantile_mapping(
    coarse_train: ArrayLike,
    fine_train: ArrayLike,
    coarse_test: ArrayLike,
    *,
    wet: float | None = None,
    quantiles: int = 100,
    interpolation: str = "bilinear",
    members: int = 1,
    seed: int = 0,
) -> Array:
    """Members (M, T', H, W) of a coarse field, mapped to the distribution that the fine truth has in training.

    Args:
        coarse_train: (t, h, w) of the source that ``coarse_test`` is of: on blocks of the fine cells.
        fine_train: (T, H, W) the truth of the same times.
        coarse_test: (t', h, w) what is to be refined.
        wet: amounts below are dry, in units of the field, such as 1 mm/day; None for a field that is not rain.
        quantiles: K, of each cell.
        interpolation: "bilinear" or "bicubic".
        members: M; they differ where dry times become wet.
        seed: of these draws.

    Raises:
        InputError: if the fine field is no whole multiple of the coarse one, there are too few training times, or the
            interpolation is not known.

    Example:
        >>> import numpy as np
        >>> from finescale.verify import quantile_mapping
        >>> rng = np.random.default_rng(0)
        >>> coarse, fine = rng.gamma(0.5, 2.0, (40, 4, 4)), rng.gamma(0.5, 2.0, (40, 16, 16))
        >>> quantile_mapping(coarse[:30], fine[:30], coarse[30:], wet=1.0, members=8).shape
        (8, 10, 16, 16)
    """
    known, truth, asked = (np.asarray(v, dtype=np.float64) for v in (coarse_train, fine_train, coarse_test))
    factor = _factor(known, truth, asked)
    if interpolation not in INTERPOLATIONS:
        raise InputError(f"there is no interpolation {interpolation!r}: it is {' or '.join(INTERPOLATIONS)}")
    if len(truth) < LEAST:
        raise InputError(f"quantile mapping needs at least {LEAST} training times, but there are {len(truth)}")
    model, x = (baseline(interpolation, field, factor)[0] for field in (known, asked))
    if wet is not None:
        model, truth, x = (np.where(field < wet, 0.0, field) for field in (model, truth, x))
    both = np.isfinite(model) & np.isfinite(truth)
    levels = (np.arange(quantiles) + 0.5) / quantiles
    draws = np.random.default_rng(seed).random((members, *x.shape)) if wet is not None else np.zeros((1, *x.shape))
    out = np.full(draws.shape, np.nan)
    for at in np.ndindex(x.shape[1:]):
        cell = (slice(None), *at)
        if np.count_nonzero(both[cell]) < LEAST:
            continue
        ours, true = (np.quantile(field[cell][both[cell]], levels, method="hazen") for field in (model, truth))
        dry = 0.0 if wet is None else float(np.mean(model[cell][both[cell]] == 0))
        out[(slice(None), *cell)] = _mapped(x[cell], ours, true, levels, dry * draws[(slice(None), *cell)])
    if wet is not None:
        out = np.where(out < wet, 0.0, out)  # a missing value is not below
    return out if len(out) == members else np.repeat(out, members, axis=0)


def _mapped(x: Array, ours: Array, true: Array, levels: Array, place: Array) -> Array:
    """Values (M, T) of x (T,), from quantiles (K,) of the model and the truth; ``place`` (M, T) of x = 0 where dry."""
    low, high = true[0] - ours[0], true[-1] - ours[-1]
    y = np.where(x < ours[0], x + low, np.where(x > ours[-1], x + high, np.interp(x, ours, true)))
    return np.where((x == 0) & (place > 0), np.interp(place, levels, true), y)


def _factor(train: Array, fine: Array, test: Array) -> Factor:
    if train.ndim != 3 or fine.ndim != 3 or test.ndim != 3 or train.shape[1:] != test.shape[1:]:
        raise InputError(
            f"coarse fields must be (time, y, x) on the same cells and the fine one too, but they are {train.shape}, "
            f"{test.shape} and {fine.shape}"
        )
    ratios = [n // c if c and n % c == 0 else 0 for n, c in zip(fine.shape, train.shape, strict=True)]
    if not all(ratios):
        raise InputError(f"the fine field {fine.shape} is no whole multiple of the coarse one {train.shape}: crop it")
    return Factor(ratios[0], y=ratios[1], x=ratios[2])
