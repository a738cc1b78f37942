"""One time of an ensemble and the truth, as fields (`Frame`) and as chunks of cells (`Cells`).

Missing cells (NaN or infinite in the truth or any member) hold 0 and have weight 0, so that no score needs to look for
them. Single precision stays single, which halves the memory to be moved; weights, and so all sums, are double.

Statistics of cells add over chunks of cells as they add over times. A chunk fits into a core's cache, and what several
statistics need is made once: the members in order, events, random numbers for ties.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from finescale.errors import InputError
from finescale.scores.settings import Settings

Array = NDArray[Any]

CHUNK = 1 << 16
"""Cells in a chunk: 16 members of it in single precision are 4 MB."""
Made = TypeVar("Made")


@dataclass(eq=False)
class Cells:
    """Members x (M, N), truth y (N,), weights w (N,) and uniform random numbers u (N,) of a chunk of cells."""

    x: Array
    y: Array
    w: Array
    u: Array
    _events: dict[float, tuple[Array, Array]] = field(default_factory=dict)

    @cached_property
    def ordered(self) -> Array:
        """Members (M, N) in rising order in each cell."""
        return sort_members(self.x)

    @cached_property
    def errors(self) -> Array:
        """Members less truth (M, N), in rising order."""
        return self.ordered - self.y

    @cached_property
    def error(self) -> Array:
        """Error (N,) of the ensemble mean."""
        return self.errors.mean(axis=0)

    @cached_property
    def variance(self) -> Array:
        """Unbiased variance (N,) of the members; NaN for one."""
        if len(self.x) == 1:
            return np.full_like(self.error, np.nan)
        apart = self.errors - self.error
        return np.einsum("mn,mn->n", apart, apart) / (len(self.x) - 1)

    @cached_property
    def alike(self) -> bool:
        """Whether all weights are the same: weights of cells are then their number times it."""
        return equal_weights(self.w)

    def events(self, threshold: float) -> tuple[Array, Array]:
        """Indices (n,) of the cells where any member has the event ≥ threshold, and which do there, bool (M, n)."""
        if threshold not in self._events:
            some = np.flatnonzero(self.ordered[-1] >= threshold)
            part = self.x if some.size == self.y.size else self.x.take(some, axis=1)
            self._events[threshold] = some, part >= threshold
        return self._events[threshold]


@dataclass(eq=False)
class Frame:
    """Members x (M, H, W), truth y (H, W), weights w (H, W); ``key`` sets the random numbers.

    ``made`` holds what depends on y and w alone. Frames of several systems at one time share it, so that the truth's
    spectra, windows and objects are made once; those of other weights must not.
    """

    x: Array
    y: Array
    w: Array
    key: tuple[int, int] = (0, 0)
    made: dict[Any, Any] = field(default_factory=dict, repr=False)

    def of_truth(self, key: Any, make: Callable[[], Made]) -> Made:
        """What ``make`` gives, which must depend on y, w and ``key`` alone; made once."""
        if key not in self.made:
            self.made[key] = make()
        found: Made = self.made[key]
        return found

    def share(self, made: dict[Any, Any]) -> None:
        """Take what was made of the truth for another system, if cells of the same weights are valid in both."""
        if np.array_equal(made.setdefault("weights", self.w), self.w):
            self.made = made

    def chunks(self) -> Iterator[Cells]:
        """All cells, chunk by chunk."""
        x, y, w = self.x.reshape(len(self.x), -1), self.y.ravel(), self.w.ravel()
        # Drawing for every cell, tied or not, keeps the numbers a function of time and place alone.
        generator = np.random.default_rng(list(self.key))
        for start in range(0, y.size, CHUNK):
            cut = slice(start, start + CHUNK)
            yield Cells(x[:, cut], y[cut], w[cut], generator.random(y[cut].size))

    @cached_property
    def alike(self) -> bool:
        """Whether all weights are the same."""
        return equal_weights(self.w)

    @cached_property
    def mean(self) -> Array:
        """Ensemble mean (H, W)."""
        return self.x.mean(axis=0)


class Step(NamedTuple):
    """A frame and the one that it follows; None where it follows no other."""

    old: Frame | None
    new: Frame


def joint(members: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None) -> tuple[Array, Array, Array]:
    """Members (M, …, H, W), truth and weights (…, H, W), with missing cells set to 0 and given weight 0.

    Raises:
        InputError: if the shapes do not belong together.
    """
    x, y = np.asarray(members), np.asarray(truth)
    if x.ndim != y.ndim + 1 or x.shape[1:] != y.shape:
        raise InputError(f"members must be (M, T, H, W) and truth (T, H, W), but they are {x.shape} and {y.shape}")
    kind = np.float32 if x.dtype == y.dtype == np.float32 else np.float64
    x, y = x.astype(kind, copy=False), y.astype(kind, copy=False)
    valid = np.isfinite(y)
    for member in x:
        valid &= np.isfinite(member)
    w = np.broadcast_to(1.0 if weights is None else np.asarray(weights, dtype=np.float64), y.shape) * valid
    if not valid.all():
        x, y = np.where(valid, x, kind(0)), np.where(valid, y, kind(0))
    return x, y, w


def frames(members: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None, seed: int = 0) -> Iterator[Frame]:
    """Frames of members (M, T, H, W) and truth (T, H, W)."""
    x, y, w = joint(members, truth, weights)
    for t in range(y.shape[0]):
        yield Frame(x[:, t], y[t], w[t], (seed, t))


def cell_sums(
    terms: Callable[[Cells, Settings], Array],
    members: ArrayLike,
    truth: ArrayLike,
    weights: ArrayLike | None = None,
    settings: Settings | None = None,
) -> Array:
    """A statistic of cells, added over chunks and times of members (M, T, H, W) and truth (T, H, W)."""
    settings = settings or Settings()
    parts = (terms(cells, settings) for one in frames(members, truth, weights, settings.seed) for cells in one.chunks())
    return np.sum(list(parts), axis=0)


def field_sums(
    terms: Callable[[Frame, Settings], Array],
    members: ArrayLike,
    truth: ArrayLike,
    weights: ArrayLike | None = None,
    settings: Settings | None = None,
) -> Array:
    """A statistic of fields, added over times."""
    settings = settings or Settings()
    return np.sum([terms(one, settings) for one in frames(members, truth, weights, settings.seed)], axis=0)


def equal_weights(w: Array) -> bool:
    return bool(w.size) and bool((w == w.flat[0]).all())


def dot(a: Array, b: Array) -> float:
    """Σ a b of vectors (N,), in double precision.

    Not by BLAS, whose own threads and those that take a time each would get into each other's way.
    """
    return float(np.einsum("i,i->", a, b, dtype=np.float64, casting="unsafe"))


def ratio(numerator: ArrayLike, denominator: ArrayLike) -> Array:
    """numerator / denominator, NaN where the denominator is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.asarray(denominator) == 0, np.nan, np.divide(numerator, denominator))


def mean_of(values: Array) -> Array:
    """Mean over the last axis, leaving out NaN; NaN where all are."""
    there = ~np.isnan(values)
    return ratio(np.where(there, values, 0.0).sum(axis=-1), there.sum(axis=-1))


def log_rain(rate: ArrayLike) -> Array:
    """log10(1 + R/0.1) of a rain rate in mm/h; negative rates count as 0."""
    return np.log10(np.maximum(rate, 0) * 10 + 1)


def count(mask: Array) -> Array:
    """Number (N,) of members (M, N) for which the mask is true."""
    return np.add.reduce(mask.view(np.uint8), axis=0, dtype=np.uint8 if len(mask) < 256 else np.int32)


def sort_members(x: Array) -> Array:
    """x (M, N) in rising order along the first axis.

    By Batcher's odd–even merge exchange (Knuth, TAOCP 3, 5.2.2 M): comparators of whole rows, so that each is one
    vectorised minimum and maximum, several times as fast as sorting M numbers N times over.
    """
    out = x.copy()
    low = np.empty_like(out[0])
    for i, j in _comparators(len(out)):
        np.minimum(out[i], out[j], out=low)
        np.maximum(out[i], out[j], out=out[j])
        out[i] = low
    return out


@lru_cache(maxsize=16)
def _comparators(count: int) -> tuple[tuple[int, int], ...]:
    pairs: list[tuple[int, int]] = []
    top = 1 << max((count - 1).bit_length() - 1, 0)
    p = top if count > 1 else 0
    while p:
        q, r, d = top, 0, p
        while True:
            pairs += [(i, i + d) for i in range(count - d) if i & p == r]
            if q == p:
                break
            d, q, r = q - p, q >> 1, p
        p >>= 1
    return tuple(pairs)
