"""Factor and cadence -> the three settings that change with the factor, and why.

One architecture serves every pair of factors (Defez et al. 2026, arXiv 2604.21903); going to another pair changes the
noise amplitude, the context and the taper of the conservation layer, nothing else. The authors' runs on hourly rain,
time x space, beside what this module gives:

    factor | L: theirs, ours | beta_max: theirs, ours | taper: theirs, ours
    3x1    | 4,  4           | .015, .015             | x^½ - .01, x^½ - .01
    1x10   | 10, 12          | .010, .010             | x^½ - .01, x^½ - .01
    3x10   | 5,  4           | .020, .020             | x - .02,   x - .02
    6x25   | 3,  2           | not given, .0283       | x - .04,   x - .04

The formulas are ours; they interpolate those runs. With fs = √(fy·fx) and n = ft·fy·fx fine cells in a coarse one,

    beta_max  = .005 + .005 ln fs / ln 10 + .010 ln ft / ln 3,  within [.005, .035]
    sigma_max = max(10, 2 √(n / stride))
    L         = max(2, round(horizon / (ft · cadence))),  horizon = 12 fine frames: 12 h for hourly data
    f(x)      = max(x^p - τ, 0):  p = ½, τ = .01 where only time or only space is refined, otherwise p = 1 and
                τ = max(.01, .02 + .02 (ln n - ln 300) / (ln 3750 - ln 300))

beta_max belongs to the authors' discrete variance-preserving schedule (T = 1000, linear β from 1e-4, v-prediction). Its
last signal share ᾱ_T = Π (1 - β_t) is .006 at beta_max .01: sampling that starts from pure noise is then biased. The
default is therefore the EDM schedule, whose sigma_max is in standard deviations of a whitened latent. The covariance of
n latent cells of unit variance has trace n, so no pattern within a block has a standard deviation above √n, which cells
that vary together attain; the first noise level has to drown it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from finescale.errors import InputError
from finescale.grids.durations import format_duration, parse_duration
from finescale.grids.factor import Factor

T = 1000
"""Steps of the variance-preserving schedule."""
BETA_MIN = 1e-4
BETA_LEAST, BETA_MOST = 0.005, 0.035
# Tuned on data, unlike the other constants, which follow the authors' runs.
SIGMA_LEAST = 10.0
"""sigma_max of small factors."""
SIGMA_RATIO = 2.0
"""sigma_max over the standard deviation of a block's strongest pattern."""
HORIZON = 12
"""Fine frames that a window spans, unless a horizon is given."""
LEAST_CONTEXT = 2
TAU_LEAST = 0.01
# τ is linear in ln(cells) through the authors' 3x10 (300 cells, .02) and 6x25 (3750 cells, .04).
_TAU_SLOPE = 0.02 / (math.log(3750) - math.log(300))


@dataclass(frozen=True)
class Recipe:
    """The three knobs for one factor; ``print(recipe)`` shows them, the reasons, and the lines for a YAML file.

    Attributes:
        factor: what they are for.
        beta_max: noise amplitude of the linear variance-preserving schedule.
        sigma_max: noise amplitude of the EDM schedule, in standard deviations of the whitened latent.
        context: coarse frames in a window, L.
        power: p of the taper f(x) = max(x^p - τ, 0).
        tau: τ of the taper.
        why: reasons for sigma_max, beta_max, the context and the taper.
    """

    factor: Factor
    beta_max: float
    sigma_max: float
    context: int
    power: float
    tau: float
    why: tuple[str, str, str, str] = field(repr=False, compare=False)

    def __str__(self) -> str:
        knobs = (
            ("noise", f"sigma_max {self.sigma_max:.3g}"),
            ("", f"beta_max {self.beta_max:.3g}"),
            ("context", f"{self.context} coarse frames" if self.context > 1 else "1 coarse frame"),
            ("taper", f"power {self.power:g}, tau {self.tau:.3g}"),
        )
        width = max(len(value) for _, value in knobs)
        lines = [f"{name:7}  {value:{width}}  {why}" for (name, value), why in zip(knobs, self.why, strict=True)]
        yaml = (
            f"factor: {self.factor}",
            f"process: {{schedule: {{kind: edm, sigma_max: {self.sigma_max:.3g}}}}}"
            f"  # or {{kind: vp, beta_max: {self.beta_max:.3g}}}",
            f"data: {{frames: {self.context}}}",
            f"constraint: {{kind: tapered, power: {self.power:g}, tau: {self.tau:.3g}}}",
        )
        size = f"{self.factor.cells} fine cells in a coarse one" if self.factor.cells > 1 else "nothing to refine"
        return "\n".join([f"{self.factor} (time x space): {size}", *lines, "", *yaml])


def recipe(
    factor: str | Factor,
    cadence: str | float | None = "1h",
    *,
    horizon: str | float | None = None,
    context: int | None = None,
    stride: tuple[int, int, int] = (1, 1, 1),
) -> Recipe:
    """The noise amplitude, context and taper for a factor.

    Args:
        factor: such as ``"3x10"``, time x space.
        cadence: time between FINE frames, such as ``"1h"`` or seconds; coarse frames are ft times as far apart. None
            where it is unknown, which only a horizon in physical time needs.
        horizon: time that a window spans; by default that of 12 fine frames.
        context: coarse frames in a window, in place of those that span the horizon; 1 is allowed.
        stride: latent cells are this many fine ones apart in (time, y, x): (1, 4, 4) for two wavelet levels in space.

    Raises:
        InputError: for a factor, time, context or stride that is not one.

    Example:
        >>> import finescale
        >>> advice = finescale.recipe("3x10", "1h")
        >>> advice.context, advice.power, round(advice.sigma_max, 1)
        (4, 1.0, 34.6)
    """
    whole = Factor.parse(factor)
    if len(stride) != 3 or not all(_is_whole(n) for n in stride):
        raise InputError(f"stride {stride!r} must be three whole numbers (time, y, x) of at least 1, such as (1, 4, 4)")
    sigma, why_sigma = _sigma_max(whole, stride)
    beta, why_beta = _beta_max(whole)
    frames, why_context = _context(whole, cadence, horizon, context)
    power, tau, why_taper = _taper(whole)
    return Recipe(whole, beta, sigma, frames, power, tau, (why_sigma, why_beta, why_context, why_taper))


def signal_left(beta_max: float) -> float:
    """ᾱ_T = Π (1 - β_t): the share of the variance at the last of the T steps that is still signal."""
    return float(np.prod(1.0 - np.linspace(BETA_MIN, beta_max, T)))


def _is_whole(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and int(value) >= 1


def _sigma_max(factor: Factor, stride: tuple[int, int, int]) -> tuple[float, str]:
    mode = math.sqrt(max(1.0, factor.cells / math.prod(stride)))
    if SIGMA_RATIO * mode > SIGMA_LEAST:
        return (
            SIGMA_RATIO * mode,
            f"{SIGMA_RATIO:g} x {mode:.3g}, the largest standard deviation of a pattern in a block",
        )
    return SIGMA_LEAST, f"the least; patterns in a block have a standard deviation of {mode:.3g} at most"


def _beta_max(factor: Factor) -> tuple[float, str]:
    space = math.sqrt(factor.y * factor.x)
    beta = 0.005 + 0.005 * math.log(space) / math.log(10) + 0.010 * math.log(factor.time) / math.log(3)
    beta = min(max(beta, BETA_LEAST), BETA_MOST)
    return beta, f"the authors' schedule instead; {signal_left(beta):.1g} of the variance at its end is signal"


def _context(
    factor: Factor, cadence: str | float | None, horizon: str | float | None, context: int | None
) -> tuple[int, str]:
    fine = None if cadence is None else parse_duration(cadence, "cadence")
    span = None if horizon is None else parse_duration(horizon, "horizon")
    if context is not None:
        if not _is_whole(context):
            raise InputError(f"context {context!r} must be a whole number of coarse frames, at least 1")
        spans = "" if fine is None else f", spanning {format_duration(int(context) * factor.time * fine)}"
        return int(context), f"as given{spans}"
    if span is not None and fine is None:
        raise InputError(f"a horizon of {format_duration(span)} needs the cadence of the fine frames, such as 1h")
    if fine is None:
        frames, reach, every = HORIZON / factor.time, f"{HORIZON} fine frames", f"{factor.time} of them"
    else:
        coarse, span = factor.time * fine, span or HORIZON * fine
        frames, reach, every = span / coarse, format_duration(span), format_duration(coarse)
    # Halves upwards: a window rather too long than too short.
    rounded = max(LEAST_CONTEXT, math.floor(frames + 0.5))
    return rounded, f"a window spans about {reach}; coarse frames are {every} apart" + (
        f"; {LEAST_CONTEXT} frames at least" if frames < LEAST_CONTEXT else ""
    )


def _taper(factor: Factor) -> tuple[float, float, str]:
    time, space = factor.time > 1, factor.y * factor.x > 1
    if not time and not space:
        return 1.0, 0.0, "one fine cell a coarse cell: nothing to share out"
    if time != space:
        return 0.5, TAU_LEAST, f"only {'time' if time else 'space'} is refined: the root tames extremes"
    tau = max(TAU_LEAST, 0.02 + _TAU_SLOPE * (math.log(factor.cells) - math.log(300)))
    return 1.0, tau, "time and space are refined: proportional; tau, which grows with the cells, dries faint rain"
