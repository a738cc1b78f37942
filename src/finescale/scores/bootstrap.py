"""How sure are scores, and differences between two systems, given so few times?

Bootstrap over blocks of times: weather at neighbouring times is alike, so single times drawn at random would pretend to
know too much. Draws are made of whole blocks of ℓ consecutive times, which wrap from the last to the first (circular
block bootstrap, Politis and Romano 1992), as many as fill T times. The sums of a draw are sums of its times' terms, and
its scores the same formulas on them, so every score that is added over times has an interval: the 2.5 and 97.5 %
quantiles over draws. By default ℓ = T^⅓, rounded up (the order that is best for a variance, Künsch 1989).

Two systems are compared by the same draws (paired): their difference in loss is significant at 5 % if its interval
leaves out 0. A loss is the score itself, its negative, or its distance from the best value.

The intervals know about times only: a single storm over all of them is one case, however many frames it has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from finescale.errors import InputError
from finescale.scores import table
from finescale.scores.cells import Array

LEAST_TIMES = 5
"""Below so many times there are no intervals."""


class Added(Protocol):
    """What is added over times: `finescale.scores.sums.Sums`, `finescale.scores.joint_sums.JointSums`."""

    totals: dict[str, Array]
    series: dict[str, list[Array]]
    times: int

    def apply(self, totals: Mapping[str, Array], /) -> dict[str, Array]: ...


@dataclass(frozen=True)
class Comparison:
    """Loss of one system less that of another, shape (…) by threshold and scale; below 0 the first is better."""

    difference: Array
    low: Array
    high: Array

    @property
    def significant(self) -> Array:
        """Whether the interval leaves out 0, bool (…)."""
        return (self.low > 0) | (self.high < 0)


def block_length(times: int) -> int:
    """Times in a block by default: T^⅓, rounded up."""
    return max(1, math.ceil(times ** (1 / 3) - 1e-9))


def draws(times: int, block: int | None = None, n: int = 1000, seed: int = 0) -> Array:
    """How often (n, T) each time is in each draw of blocks; each draw has T times in all.

    Raises:
        InputError: if a block has no or more than T times.
    """
    length = block_length(times) if block is None else block
    if not 1 <= length <= times:
        raise InputError(f"a bootstrap block has {length} times, but must have 1 to {times}")
    number = -(-times // length)
    starts = np.random.default_rng(seed).integers(0, times, (n, number))
    drawn = ((starts[..., None] + np.arange(length)) % times).reshape(n, -1)[:, :times]
    counts = np.zeros((n, times))
    np.add.at(counts, (np.arange(n)[:, None], drawn), 1.0)
    return counts


def replicates(sums: Added, counts: Array) -> dict[str, Array]:
    """Scores (n, …) of each draw, for all scores that are added over times."""
    totals = {name: np.tensordot(counts, np.stack(terms), axes=1) for name, terms in sums.series.items()}
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums.apply(totals)


def intervals(
    sums: Added, block: int | None = None, n: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, tuple[Array, Array]]:
    """Score -> (low, high), each in the shape of the score; empty below `LEAST_TIMES` times.

    Example:
        >>> import numpy as np
        >>> truth = np.random.default_rng(0).gamma(0.5, 2.0, (6, 16, 16))
        >>> members = np.random.default_rng(1).gamma(0.5, 2.0, (4, 6, 16, 16))
        >>> from finescale.verify import Settings, Sums, intervals
        >>> sums = Sums(Settings(full=False))
        >>> sums.add(members, truth)
        >>> low, high = intervals(sums)["crps"]
        >>> bool(low < sums.scores()["crps"] < high)
        True
    """
    if sums.times < LEAST_TIMES:
        return {}
    found = replicates(sums, draws(sums.times, block, n, seed))
    return {name: _range(values, level) for name, values in found.items()}


def compare(
    ours: Added,
    theirs: Added,
    best: Mapping[str, str | float] | None = None,
    block: int | None = None,
    n: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Comparison]:
    """Score -> comparison of two systems on the same times; empty below `LEAST_TIMES` times.

    Args:
        ours: the first system.
        theirs: the other.
        best: score -> "low", "high", a number, or "truth" (the score ``<name>_truth`` beside it); others are left out.
            By default what the table of scores says.
        block: times in a block.
        n: draws.
        seed: of the draws.
        level: of the interval.

    Raises:
        InputError: if the systems have not the same number of times.

    Example:
        >>> import numpy as np
        >>> truth = np.random.default_rng(0).gamma(0.5, 2.0, (6, 16, 16))
        >>> members = np.random.default_rng(1).gamma(0.5, 2.0, (4, 6, 16, 16))
        >>> from finescale.verify import Settings, Sums, compare
        >>> ours, theirs = (Sums(Settings(full=False)) for _ in range(2))
        >>> ours.add(members, truth)
        >>> theirs.add(members + 2.0, truth)  # a bias of 2
        >>> bool(compare(ours, theirs)["crps"].difference < 0)  # ours is better
        True
    """
    if ours.times != theirs.times:
        raise InputError(f"paired cases must match in number: {ours.times} and {theirs.times}")
    if ours.times < LEAST_TIMES:
        return {}
    counts = draws(ours.times, block, n, seed)
    pairs = [(s.apply(s.totals), replicates(s, counts)) for s in (ours, theirs)]
    found: dict[str, Comparison] = {}
    for name, target in (table.best() if best is None else best).items():
        if not all(name in drawn for _, drawn in pairs):
            continue
        (a, a_drawn), (b, b_drawn) = ([loss(part, name, target) for part in pair] for pair in pairs)
        if a.shape == b.shape:
            found[name] = Comparison(a - b, *_range(a_drawn - b_drawn, level))
    return found


def loss(scores: Mapping[str, Array], name: str, best: str | float) -> Array:
    """What is to be small: the score, its negative, or its distance from the best value."""
    value = np.asarray(scores[name])
    if best == "low":
        return value
    if best == "high":
        return -value
    return np.abs(value - (np.asarray(scores[f"{name}_truth"]) if best == "truth" else float(best)))


def paired_bootstrap(
    a: ArrayLike, b: ArrayLike, n: int = 2000, seed: int = 0, block: int = 1
) -> tuple[float, float, float]:
    """Mean of a − b over cases and its 95 % interval (difference, lo, hi), by drawing blocks of cases.

    Pairs with a NaN are left out. Where lo and hi have one sign the difference is significant at 5 % (two-sided), if
    blocks are independent.

    Raises:
        InputError: if the lengths differ, or no pair is valid.

    Example:
        >>> import numpy as np
        >>> from finescale.verify import paired_bootstrap
        >>> ours = np.random.default_rng(0).random(30)
        >>> difference, low, high = paired_bootstrap(ours, ours + 1)
        >>> round(difference, 6), round(high, 6)
        (-1.0, -1.0)
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape:
        raise InputError(f"paired cases must match in number: {first.size} and {second.size}")
    difference = (first - second)[np.isfinite(first - second)]
    if difference.size == 0:
        raise InputError("there is no pair of cases to compare")
    means = draws(difference.size, min(block, difference.size), n, seed) @ difference / difference.size
    low, high = np.quantile(means, [0.025, 0.975])
    return float(difference.mean()), float(low), float(high)


def _range(values: Array, level: float) -> tuple[Array, Array]:
    """Quantiles over draws, of those that are finite; NaN where fewer than half are."""
    if values.size == 0:
        return values[0], values[0]
    finite = np.isfinite(values)
    kept = np.where(finite, values, np.nan)
    enough = finite.mean(axis=0) >= 0.5
    quantile = np.quantile if finite.all() else np.nanquantile
    edges = quantile(np.where(enough, kept, 0.0), [(1 - level) / 2, (1 + level) / 2], axis=0)
    low, high = np.where(enough, edges, np.nan)
    return low, high
