"""Whether the input is like what the model was trained on, as far as the model remembers.

Compared are the spacing of the coarse cells and the length of their frames, with those of the training's blocks of the
factor in use, so that what is made is compared with what was seen, and the values of some frames, with the range of the
training data. Off by a factor is, for a range [a, b] of training and values from l to h,

    max((h - a) / (b - a), (b - l) / (b - a))

The length of a frame does not count where values are instantaneous and the model sees one frame at a time.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finescale.data.scales import ends, frames, interval, spacing
from finescale.errors import InputError, Notice
from finescale.grids.durations import format_duration
from finescale.inference.domain import Domain
from finescale.inference.inputs import Inputs, Target
from finescale.inference.request import Model
from finescale.model.remembers import Seen

SAID, REFUSED = 1.25, 2.0
"""Factors from which a difference is said, and from which the input is refused."""
FRAMES = 8
"""Frames whose values are looked at."""
Off = tuple[float, str]
"""By what factor something is off, and what it is."""


def check_alike(model: Model, inputs: Inputs, domain: Domain, force: bool, values: bool) -> None:
    """Say in one line what of the input is unlike the training data.

    Args:
        model: a downscaler, at the factor in use.
        inputs: what it is given.
        domain: where.
        force: do not refuse what is off by a factor of 2 or more.
        values: look at values too, for which some frames are read.

    Raises:
        InputError: for such an input.
    """
    found = [*_scales(model, domain, inputs.first)]
    known = list(model.remembers.variables.values())
    for number, target in enumerate(inputs.targets if values else ()):
        seen = known[number] if number < len(known) else None
        if target.rain or seen is not None:
            parts = list(frames(target.member(0), FRAMES))
            _say_negative(target, parts)
            found += [] if seen is None else _values(target, seen, parts)
    off = [one for one in found if one[0] > SAID]
    if not off:
        return
    text = f"{inputs.targets[0].file} is unlike what the model was trained on: {'; '.join(text for _, text in off)}"
    if max(factor for factor, _ in off) >= REFUSED and not force:
        raise InputError(f"{text}: take a model of such data, or pass --force")
    warnings.warn(text, Notice, stacklevel=4)


def _scales(model: Model, domain: Domain, first: xr.DataArray) -> list[Off]:
    """Spacing and length of frames."""
    seen, found = model.remembers, []
    step, factor = spacing(domain.increasing), model.factor
    if seen.spacing is not None and step is not None and step[1] == seen.units:
        ends = seen.spacing[0] * factor.y, seen.spacing[1] * factor.y
        found.append((_beyond(step[0], *ends), f"its cells are {step[0]:.4g} {step[1]} wide, not {_span(*ends)}"))
    length = interval(domain.increasing)
    instants = "point" in str(first.attrs.get("cell_methods", "")) and model.context == 1 and factor.time == 1
    if seen.cadence is not None and length is not None and not instants:
        longest = seen.cadence[1] * (seen.apart if factor.time == 1 else factor.time)
        ends = seen.cadence[0] * factor.time, longest
        between = " to ".join(dict.fromkeys(map(format_duration, ends)))
        found.append((_beyond(length, *ends), f"its frames last {format_duration(length)}, not {between}"))
    return found


def _say_negative(target: Target, parts: Sequence[NDArray[np.float32]]) -> None:
    """One line where rain is negative in some frames (t, y, x), which is refined as none."""
    if not target.rain:
        return
    count, cells = sum(int((part < 0).sum()) for part in parts), sum(part.size for part in parts)
    if count:
        least = min(float(part.min(where=part < 0, initial=0.0)) for part in parts)
        warnings.warn(
            f"{target.file}: {target.name} is negative in {count} of {cells} cells looked at, {least:.3g} at least: "
            "negative rain is refined as none",
            Notice,
            stacklevel=4,
        )


def _values(target: Target, seen: Seen, own: Sequence[NDArray[np.float32]]) -> list[Off]:
    """The range of values of some frames (t, y, x), and how much is wet."""
    if seen.low is None or seen.high is None or seen.high <= seen.low:
        return []
    parts = [target.in_model(part) for part in own]
    low, high = zip(*map(ends, parts), strict=True)
    lowest, highest = min(low), max(high)
    if lowest > highest:
        return []
    width, units = seen.high - seen.low, f"in training {seen.low:.4g} to {seen.high:.4g}"
    off = max((highest - seen.low) / width, (seen.high - lowest) / width)
    found = [(off, f"{target.name} is {lowest:.4g} to {highest:.4g} in the model's units, {units}")]
    wet = float(np.mean(np.concatenate([(part > 0).ravel() for part in parts])))
    if seen.wet is not None and wet > seen.wet:
        said = f"{target.name} is above zero in {wet:.0%} of cells, in training in {seen.wet:.0%} at most"
        # Such as the drizzle of a coarse model: worth a word, but no other scale.
        found.append((min(wet / max(seen.wet, 1e-6), REFUSED - 0.01), said))
    return found


def _beyond(value: float, low: float, high: float) -> float:
    """By what factor a value lies outside of a range."""
    return max(low / value, value / high, 1.0)


def _span(low: float, high: float) -> str:
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
