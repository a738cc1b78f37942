"""Do fields look as the truth does where scores of cells and spectra are blind: borders, specks, drizzle, squares?

Steps between neighbouring cells, along each axis of y and x that is refined, are pooled by their offset o: a step lies
between fine cells i − 1 and i, and o = i mod f, so that steps with o = 0 cross the border of two coarse cells. With
⟨|Δ|⟩_o their weighted mean,

    imprint            ⟨|Δ|⟩_0 over ⟨|Δ|⟩ of all other offsets
    imprint_middle     ⟨|Δ|⟩_{f/2} over ⟨|Δ|⟩ of all offsets but 0 and f/2, for an even f ≥ 4
    imprint_by_offset  ⟨|Δ|⟩_o over ⟨|Δ|⟩ of all steps

Of rain, with w the areas of cells:

    isolated_wet       share of cells that are wet, with none of their eight neighbours wet
    isolated_dry       share of cells that are dry, with all of their eight neighbours known and wet
    drizzle            share of cells above zero and below what a radar sees
    uniform_blocks     share of the wet coarse cells, all of whose fine cells are known, that are one flat square
    texture_distance   root mean square, over lags r = 1, 2, 4, 8, 16 cells along y and x, of log10 of the members' over
                       the truth's mean |z(s + r) − z(s)|, in dex, with z = log10(1 + R/0.1): first-order structure
                       functions, which tell specks and holes from smooth fields of the same spectrum
"""

from __future__ import annotations

import numpy as np

from finescale.scores.cells import Array, Frame, log_rain, ratio
from finescale.scores.record import Score, Statistic
from finescale.scores.settings import WET, Settings
from finescale.scores.spectra import spectral_distance

BORDER, MIDDLE, ELSEWHERE = range(3)
LAGS = (1, 2, 4, 8, 16)
FLAT = 1e-4
"""Range over mean up to which a coarse cell is flat: products are rounded."""


def offset_terms(frame: Frame, settings: Settings) -> Array:
    """Σw|Δ| and Σw (2, 2, 3 + F) of the members (each) and the truth: of steps across borders of coarse cells, in their
    middle and elsewhere, then by offset, F of the larger factor."""
    assert settings.factor is not None
    factors = {-2: settings.factor.y, -1: settings.factor.x}
    found = np.zeros((2, 2, 3 + max(factors.values())))
    for axis, f in factors.items():
        if f > 1:
            weights, across = _both(frame.w, 1, axis), -1 if axis == -2 else -2
            offsets = (1 + np.arange(weights.shape[axis])) % f
            middle = (offsets == f // 2) & (f >= 4 and f % 2 == 0)
            kinds = np.where(offsets == 0, BORDER, np.where(middle, MIDDLE, ELSEWHERE))

            def added(sums: Array, kinds: Array = kinds, offsets: Array = offsets) -> Array:
                n = found.shape[-1]
                return np.bincount(kinds, sums, n) + np.bincount(3 + offsets, sums, n)

            found[:, 1] += added(weights.sum(across))
            for side, x in enumerate((frame.x, frame.y[None])):
                steps = [(np.abs(np.diff(one, axis=axis)) * weights).sum(across) for one in x]
                found[side, 0] += added(np.mean(steps, axis=0))
    return found


def offset_formula(terms: Array) -> dict[str, Array]:
    """imprint, imprint_middle and imprint_by_offset, and the truth's, from summed `offset_terms`."""
    steps, weights = terms[..., 0, :], terms[..., 1, :]

    def mean(some: slice | list[int]) -> Array:
        return ratio(steps[..., some].sum(-1), weights[..., some].sum(-1))

    found = {"imprint": ratio(mean([BORDER]), mean([MIDDLE, ELSEWHERE]))}
    if weights[..., MIDDLE].any():
        found["imprint_middle"] = ratio(mean([MIDDLE]), mean([ELSEWHERE]))
    curve = ratio(ratio(steps, weights)[..., 3:], mean(slice(3, None))[..., None])
    found |= {"imprint_by_offset": curve}
    result: dict[str, Array] = {}
    for name, value in found.items():
        sides = np.moveaxis(value, -2 if value is curve else -1, 0)
        result |= {name: sides[0], f"{name}_truth": sides[1]}
    return result


def speck_terms(frame: Frame, settings: Settings) -> Array:
    """Σw over isolated wet cells, isolated dry ones, drizzle, and all (2, 4) of the members (each) and the truth."""
    assert settings.dry is not None

    def counted(x: Array) -> list[float]:
        wet = (x >= WET) & (frame.w > 0)
        beside = np.pad(wet, 1).astype(np.int8)
        # The number of wet cells among nine, as two sums of three.
        rows = beside[:-2] + beside[1:-1] + beside[2:]
        nine = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
        drizzle = (x > 0) & (x < settings.dry)
        hole = ~wet & (frame.w > 0) & (nine == 8)
        return [float(frame.w[field].sum()) for field in (wet & (nine == 1), hole, drizzle)] + [float(frame.w.sum())]

    true = frame.of_truth("specks", lambda: counted(frame.y))
    return np.stack([np.mean([counted(x) for x in frame.x], axis=0), true])


def block_terms(frame: Frame, settings: Settings) -> Array:
    """The number of flat wet coarse cells and of wet ones (2, 2), of the members (each) and the truth."""
    assert settings.factor is not None
    fy, fx = settings.factor.y, settings.factor.x

    def blocks(x: Array) -> Array:
        h, w = (n // f for n, f in zip(x.shape, (fy, fx), strict=True))
        return x[: h * fy, : w * fx].reshape(h, fy, w, fx)

    def counted(x: Array) -> Array:
        means = blocks(x).mean((1, 3))
        wet = known & (means >= WET)
        return np.array([(wet & (np.ptp(blocks(x), axis=(1, 3)) <= FLAT * means)).sum(), wet.sum()])

    known = (blocks(frame.w) > 0).all((1, 3))
    true = frame.of_truth(("flat", fy, fx), lambda: counted(frame.y))
    return np.stack([np.mean([counted(x) for x in frame.x], axis=0), true])


def structure_terms(frame: Frame, settings: Settings) -> Array:
    """Σw|z(s + r) − z(s)| and Σw (2, 2, 2 × lags) of the members (each) and the truth; lags along y, then along x."""

    steps = [(lag, axis) for axis in (-2, -1) for lag in LAGS]
    both = [_both(frame.w, *step) for step in steps]

    def summed(field: Array) -> list[float]:
        z = log_rain(field)
        pairs = ((_ahead(z, *step) - _behind(z, *step), w) for step, w in zip(steps, both, strict=True))
        return [float((np.abs(apart) * w).sum()) for apart, w in pairs]

    ours, true = np.mean([summed(x) for x in frame.x], axis=0), frame.of_truth("structure", lambda: summed(frame.y))
    weights = [w.sum() for w in both]
    return np.array([[ours, weights], [true, weights]])


def structure_formula(terms: Array) -> dict[str, Array]:
    """texture_distance from summed `structure_terms`."""
    ours, true = np.moveaxis(ratio(terms[..., 0, :], terms[..., 1, :]), -2, 0)
    return {"texture_distance": spectral_distance(ours, true)}


def _ahead(x: Array, lag: int, axis: int) -> Array:
    return x[..., lag:, :] if axis == -2 else x[..., lag:]


def _behind(x: Array, lag: int, axis: int) -> Array:
    """Empty where the axis is no longer than the lag."""
    n = max(0, x.shape[axis] - lag)
    return x[..., :n, :] if axis == -2 else x[..., :n]


def _both(w: Array, lag: int, axis: int) -> Array:
    """Weights of pairs of cells ``lag`` apart."""
    return np.where(_behind(w, lag, axis) > 0, _ahead(w, lag, axis), 0.0)


def _shares(names: tuple[str, ...], terms: Array) -> dict[str, Array]:
    """The first terms (…, 2, n + 1) over the last one, of members and truth."""
    values = ratio(terms[..., :-1], terms[..., -1:])
    return {f"{name}{end}": values[..., k, n] for n, name in enumerate(names) for k, end in enumerate(("", "_truth"))}


def _refined(settings: Settings) -> bool:
    return settings.factor is not None and max(settings.factor.y, settings.factor.x) > 1


OFFSETS = Statistic(
    "offsets",
    offset_terms,
    lambda terms, members, settings: offset_formula(terms),
    (
        Score(
            "imprint",
            "Imprint of coarse cells",
            "truth",
            "Fields",
            "Mean step between neighbours across borders of coarse cells over that inside; best is that of the truth. "
            "Higher: the grid of coarse cells can be seen.",
        ),
        Score(
            "imprint_middle",
            "Imprint of half cells",
            "truth",
            "Fields",
            "The same in the middle of coarse cells, where a dyadic wavelet has a border.",
        ),
        Score("imprint_by_offset", dims=("offset",), truth=True),
    ),
    over="frame",
    wanted=_refined,
)
SPECKS = Statistic(
    "specks",
    speck_terms,
    lambda terms, members, settings: _shares(("isolated_wet", "isolated_dry", "drizzle"), terms),
    (
        Score(
            "isolated_wet",
            "Isolated wet cells",
            "truth",
            "Fields",
            "Share of cells that are wet among eight dry neighbours; best is that of the truth. Higher: speckle.",
            style="percent",
        ),
        Score(
            "isolated_dry",
            "Isolated dry cells",
            "truth",
            "Fields",
            "Share of cells that are dry among eight wet neighbours; best is that of the truth. Higher: holes.",
            style="percent",
        ),
        Score(
            "drizzle",
            "Drizzle",
            "truth",
            "Distribution",
            "Share of cells with some rain, but less than radar sees; best is that of the truth.",
            style="percent",
        ),
    ),
    over="frame",
    wanted=lambda settings: settings.rain,
)
BLOCKS = Statistic(
    "blocks",
    block_terms,
    lambda terms, members, settings: _shares(("uniform_blocks",), terms),
    (
        Score(
            "uniform_blocks",
            "Flat squares",
            "truth",
            "Fields",
            "Share of wet coarse cells whose fine cells are all equal; best is that of the truth.",
            style="percent",
        ),
    ),
    over="frame",
    wanted=lambda settings: settings.rain and _refined(settings),
)
STRUCTURE = Statistic(
    "structure",
    structure_terms,
    lambda terms, members, settings: structure_formula(terms),
    (
        Score(
            "texture_distance",
            "Texture distance",
            "low",
            "Fields",
            "Root mean square of log10 of the members' over the truth's mean difference between cells 1 to 16 apart, "
            "of log-rain: do specks, holes and edges look alike?",
        ),
    ),
    over="frame",
    wanted=lambda settings: settings.rain,
)
