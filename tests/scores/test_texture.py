"""Scores of texture: against loops over cells, and on fields whose faults are known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from finescale.grids.factor import Factor
from finescale.scores.settings import Settings
from finescale.scores.sums import Sums

Array = NDArray[np.float64]
NAMES = ("imprint", "imprint_middle", "isolated_wet", "drizzle", "uniform_blocks", "texture_distance")


def scored(members: Array, truth: Array, factor: Factor | None, area: Array | None = None) -> dict[str, object]:
    sums = Sums(Settings(factor=factor, area=area, full=False))
    sums.add(members, truth)
    return sums.scores()


def rain(rng: np.random.Generator, *shape: int) -> Array:
    return np.where(rng.random(shape) < 0.5, rng.gamma(0.5, 1.0, shape), 0.0)


def steps(
    fields: Array, known: NDArray[np.bool_], area: Array, fy: int, fx: int
) -> dict[int, list[tuple[float, float]]]:
    """(weight, |step|) by offset; -1: the middle of a coarse cell."""
    found: dict[int, list[tuple[float, float]]] = {}
    for field, here in zip(fields, known, strict=True):
        for (i, j), value in np.ndenumerate(field):
            for u, v, at, f in ((i - 1, j, i, fy), (i, j - 1, j, fx)):
                if min(u, v) >= 0 and here[i, j] and here[u, v] and f > 1:
                    found.setdefault(at % f, []).append((area[i, j], abs(value - field[u, v])))
                    if at % f == f / 2 and f >= 4:
                        found.setdefault(-1, []).append((area[i, j], abs(value - field[u, v])))
    return found


def mean(pairs: list[tuple[float, float]]) -> float:
    return sum(w * x for w, x in pairs) / sum(w for w, _ in pairs)


@pytest.mark.parametrize("factor", [Factor(1, 4), Factor(2, 5), Factor(1, y=6, x=1), Factor(1, y=2, x=3)])
def test_imprint_equals_loops(factor: Factor) -> None:
    rng = np.random.default_rng(0)
    truth, members = rain(rng, 2, 12, 30), rain(rng, 3, 2, 12, 30)
    truth[0, 2:5, 3:9] = np.nan
    area = rng.uniform(1, 2, (12, 30))
    found = scored(members, truth, factor, area)
    known = np.isfinite(truth)
    for end, fields in (("", members), ("_truth", truth[None])):
        every = np.concatenate(list(fields))
        one = steps(every, np.concatenate([known] * len(fields)), area, factor.y, factor.x)
        inside = [pair for o in one if o > 0 for pair in one[o]]
        np.testing.assert_allclose(found[f"imprint{end}"], mean(one[0]) / mean(inside), rtol=1e-12)
        whole = mean([pair for o in one if o >= 0 for pair in one[o]])
        expected = [mean(one[o]) / whole if o in one else np.nan for o in range(max(factor.y, factor.x))]
        np.testing.assert_allclose(found[f"imprint_by_offset{end}"], expected, rtol=1e-12)
        if -1 in one:
            rest = [w for o in one if o > 0 for w in one[o] if o not in (factor.y / 2, factor.x / 2)]
            np.testing.assert_allclose(found[f"imprint_middle{end}"], mean(one[-1]) / mean(rest), rtol=1e-12)
        else:
            assert f"imprint_middle{end}" not in found


def test_specks_and_squares_equal_loops() -> None:
    rng = np.random.default_rng(1)
    truth, members = rain(rng, 2, 12, 18) * (rng.random((2, 12, 18)) < 0.3), rain(rng, 3, 2, 12, 18)
    members[0, 0, :3, 3:6] = 2.5
    members[0, 0, 8:11, 8:11], members[0, 0, 9, 9] = 1.0, 0.02
    members[2, 1, 3:6, :3] = 0.01
    truth[1, 6:9, 9:12] = 7.0
    truth[0, 5, 5] = np.nan
    found = scored(members, truth, Factor(1, 3))
    known = np.isfinite(truth)
    for end, fields in (("", members), ("_truth", truth[None])):
        alone = hole = drizzle = flat = wet = 0
        for field, here in [(x, k) for one in fields for x, k in zip(one, known, strict=True)]:
            for i, j in np.argwhere(here):
                near = field[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2][
                    here[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
                ]
                alone += field[i, j] >= 0.1 and (near >= 0.1).sum() == 1
                hole += field[i, j] < 0.1 and (near >= 0.1).sum() == 8
                drizzle += 0 < field[i, j] < 0.05
            for i, j in np.ndindex(4, 6):
                block = (slice(3 * i, 3 * i + 3), slice(3 * j, 3 * j + 3))
                if here[block].all() and field[block].mean() >= 0.1:
                    wet += 1
                    flat += np.ptp(field[block]) == 0
        cells = known.sum() * len(fields)
        assert found[f"isolated_wet{end}"] == pytest.approx(alone / cells, rel=1e-12)
        assert found[f"isolated_dry{end}"] == pytest.approx(hole / cells, rel=1e-12)
        assert found[f"drizzle{end}"] == pytest.approx(drizzle / cells, rel=1e-12)
        assert found[f"uniform_blocks{end}"] == pytest.approx(flat / wet, rel=1e-12)
    assert found["uniform_blocks_truth"] > 0 < found["isolated_wet_truth"] and found["isolated_dry"] > 0


def test_texture_distance_is_that_of_structure_functions() -> None:
    rng = np.random.default_rng(2)
    truth, members = rain(rng, 1, 24, 40), rain(rng, 2, 1, 24, 40) ** 2
    truth[0, 3:6, 3:6] = np.nan
    squares = []
    for axis in (0, 1):
        for lag in (1, 2, 4, 8, 16):
            changes = []
            for fields in (members[:, 0], truth):
                z = np.log10(1 + np.where(np.isnan(truth), np.nan, fields) / 0.1)
                ahead, behind = (
                    np.delete(z, range(lag), 1 + axis),
                    np.delete(z, range(z.shape[1 + axis] - lag, z.shape[1 + axis]), 1 + axis),
                )
                changes.append(np.nanmean(np.abs(ahead - behind)))
            squares.append(np.log10(changes[0] / changes[1]) ** 2)
    assert scored(members, truth, None)["texture_distance"] == pytest.approx(np.sqrt(np.mean(squares)), rel=1e-9)
    assert scored(truth[None].repeat(2, 0), truth, None)["texture_distance"] == 0


def test_blocks_that_are_raised_show_their_border_alone() -> None:
    """White noise has no imprint; coarse cells of other amounts have one, which says nothing of their middle."""
    rng = np.random.default_rng(3)
    white = rng.normal(size=(1, 1, 400, 400))
    raised = white + 2 * rng.normal(size=(1, 1, 50, 50)).repeat(8, -1).repeat(8, -2)
    found = scored(raised, white[0], Factor(1, 8))
    assert found["imprint_truth"] == pytest.approx(1, abs=0.03) and found["imprint"] > 1.5  # type: ignore[operator]
    assert found["imprint_middle"] == pytest.approx(1, abs=0.03)


def test_fields_that_are_not_rain_have_no_specks() -> None:
    rng = np.random.default_rng(4)
    sums = Sums(Settings(dry=None, full=False, data_range=(-5.0, 5.0)))
    sums.add(rng.normal(size=(2, 1, 8, 8)), rng.normal(size=(1, 8, 8)))
    assert not set(NAMES) & set(sums.scores())
