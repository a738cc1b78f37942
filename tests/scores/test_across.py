"""Scores of several variables together: loops, libraries, and the sums over parts."""

from __future__ import annotations

import numpy as np
import pytest

from finescale.errors import InputError
from finescale.grids.factor import Factor
from finescale.scores import across
from finescale.scores.bootstrap import compare, intervals
from finescale.scores.cells import Array
from finescale.scores.crps import fair_crps
from finescale.scores.joint_sums import JointSums, moments
from finescale.scores.settings import Settings

VARIABLES, TIMES, SHAPE = 3, 6, (6, 10)
MEAN, STD = np.array([1.0, 285.0, -2.0]), np.array([2.0, 4.0, 0.5])
FACTOR = Factor(1, y=3, x=5)


def fields(members: int = 4, seed: int = 1) -> tuple[Array, Array]:
    """Members (M, V, T, H, W) and truth (V, T, H, W); variables of a field vary together."""
    rng = np.random.default_rng(seed)
    mixed = np.array([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [-0.5, 0.2, 0.8]])
    z = np.einsum("vu,mu...->mv...", mixed, rng.normal(size=(members + 1, VARIABLES, TIMES, *SHAPE)))
    values = MEAN[:, None, None, None] + STD[:, None, None, None] * z
    return values[1:], values[0]


def added(x: Array, y: Array, **settings: object) -> JointSums:
    sums = JointSums(Settings(**{"factor": FACTOR} | settings), MEAN, STD)  # type: ignore[arg-type]
    sums.add(x, y)
    return sums


def standardised(values: Array) -> Array:
    return (values - MEAN[:, None, None, None]) / STD[:, None, None, None]


def test_energy_scores_equal_a_loop_over_cells_and_blocks() -> None:
    x, y = fields()
    area = np.linspace(1, 2, SHAPE[0] * SHAPE[1]).reshape(SHAPE)
    x[0, 1, 2, 0, :4] = np.nan  # a member lacks one variable there
    y[2, 4, 5, 5] = np.nan
    found = added(x, y, area=area).scores()
    ours, true = standardised(x), standardised(y)
    valid = np.isfinite(ours).all(axis=(0, 1)) & np.isfinite(true).all(axis=0)

    def score(t: int, cells: list[tuple[int, int]]) -> tuple[float, float]:
        w = np.array([area[c] for c in cells])

        def norm(d: list[Array]) -> float:
            return float(np.sqrt(sum(k * (one**2).mean() for k, one in zip(w, d, strict=True)) / w.sum()))

        a = [[member[:, t, *c] for c in cells] for member in ours]
        b = [true[:, t, *c] for c in cells]
        near = np.mean([norm([u - v for u, v in zip(one, b, strict=True)]) for one in a])
        apart = sum(norm([u - v for u, v in zip(p, q, strict=True)]) for p in a for q in a)
        return float(w.sum()), float(near - apart / (2 * len(a) * (len(a) - 1)))

    every = [(t, i, j) for t in range(TIMES) for i in range(SHAPE[0]) for j in range(SHAPE[1]) if valid[t, i, j]]
    by_cell = np.array([score(t, [(i, j)]) for t, i, j in every])
    blocks = sorted({(t, i // 3, j // 5) for t, i, j in every})
    parts = [(t, [(i, j) for s, i, j in every if (s, i // 3, j // 5) == (t, b, c)]) for t, b, c in blocks]
    by_block = np.array([score(t, cells) for t, cells in parts])
    for key, values in (("joint_energy_score", by_cell), ("joint_energy_score_blocks", by_block)):
        assert found[key] == pytest.approx(np.average(values[:, 1], weights=values[:, 0]), rel=1e-12)
    assert found["cells"] == len(every) == TIMES * SHAPE[0] * SHAPE[1] - 5


def test_variogram_score_equals_scoringrules() -> None:
    import scoringrules

    x, y = fields()
    ours, true = (np.moveaxis(standardised(v), -4, -1) for v in (x, y))
    each = scoringrules.vs_ensemble(true, ours, m_axis=0, v_axis=-1, p=0.5)
    # Theirs adds over ordered pairs, each pair twice.
    expected = each.mean() / (VARIABLES * (VARIABLES - 1))
    assert added(x, y).scores()["joint_variogram_score"] == pytest.approx(expected, rel=1e-12)


def test_energy_score_equals_scoringrules() -> None:
    import scoringrules

    x, y = fields()
    ours, true = (np.moveaxis(standardised(v), -4, -1) for v in (x, y))
    each = scoringrules.es_ensemble(true, ours, m_axis=0, v_axis=-1, estimator="fair")
    expected = each.mean() / np.sqrt(VARIABLES)
    assert added(x, y).scores()["joint_energy_score"] == pytest.approx(expected, rel=1e-12)


def test_correlations_are_those_of_all_cells_and_of_the_detail_in_blocks() -> None:
    x, y = fields()
    found = added(x, y).scores()
    first, second = across.pairs(VARIABLES)

    def correlations(values: Array) -> Array:
        return np.corrcoef(values)[first, second]

    def detail(values: Array) -> Array:
        cut = values.reshape(*values.shape[:-2], 2, 3, 2, 5)
        return (cut - cut.mean(axis=(-3, -1), keepdims=True)).reshape(values.shape)

    for key, view in (("variable_correlation", lambda v: v), ("detail_correlation", detail)):
        ours = correlations(np.moveaxis(view(x), 1, 0).reshape(VARIABLES, -1))
        true = correlations(view(y).reshape(VARIABLES, -1))
        assert found[key] == pytest.approx(ours, rel=1e-9) and found[f"{key}_truth"] == pytest.approx(true, rel=1e-9)
        assert found[f"{key}_error"] == pytest.approx(np.abs(ours - true).mean(), rel=1e-9)


def test_of_one_variable_the_energy_score_is_the_crps_over_the_standard_deviation() -> None:
    x, y = fields()
    ours, true = standardised(x), standardised(y)
    one = across.Joint(ours[:, :1, 0], true[:1, 0], np.ones(SHAPE), (3, 5))
    found = across.energy_formula(across.energy_terms(one, Settings()))["joint_energy_score"]
    assert float(found) == pytest.approx(fair_crps(x[:, 0, :1], y[0, :1]) / STD[0], rel=1e-12)


def test_variables_that_do_not_belong_together_are_told() -> None:
    """Each variable's members are as good as before, one by one: only scores of several see that they are shuffled."""
    x, y = fields(8)
    shuffled = np.stack([np.roll(x[:, v], v, axis=0) for v in range(VARIABLES)], axis=1)
    ours, theirs = added(x, y), added(shuffled, y)
    found = compare(ours, theirs, {"joint_energy_score": "low", "variable_correlation": "truth"})
    assert found["joint_energy_score"].difference < 0 and bool(found["joint_energy_score"].significant)
    # The third pair has next to no correlation to lose.
    assert found["variable_correlation"].difference.shape == (3,) and (found["variable_correlation"].high[:2] < 0).all()
    for v in range(VARIABLES):
        assert fair_crps(x[:, v], y[v]) == pytest.approx(fair_crps(shuffled[:, v], y[v]), rel=1e-12)


def test_parts_have_the_scores_and_intervals_of_the_whole() -> None:
    x, y = fields()
    whole, parts = added(x, y), JointSums(Settings(factor=FACTOR), MEAN, STD)
    for cut in (slice(0, 1), slice(1, 4), slice(4, 6)):
        parts.add(x[:, :, cut], y[:, cut])
    assert parts.scores() == whole.scores()
    for key, (low, high) in intervals(whole).items():
        np.testing.assert_array_equal((low, high), intervals(parts)[key])
        assert np.all(low <= high)


def test_blocks_without_a_factor_are_cut_at_the_edge() -> None:
    x, y = fields()
    assert across.block_of(Settings()) == across.block_of(Settings(factor=Factor(3, 1))) == (8, 8)
    found = added(x, y, factor=None).scores()
    assert 0 < found["joint_energy_score"] < found["joint_energy_score_blocks"]


def test_moments_are_those_of_cells_at_which_all_variables_are_known() -> None:
    _, y = fields()
    y[0, 0, 0, 0], y[2, 3, 1, :] = np.nan, np.inf
    area = np.linspace(1, 2, SHAPE[0])[:, None] * np.ones(SHAPE)
    mean, std = moments(lambda: iter([y[:, :2], y[:, 2:]]), area)
    valid = np.isfinite(y).all(axis=0)
    w = np.broadcast_to(area, valid.shape)[valid]
    expected = [np.average(one[valid], weights=w) for one in y]
    assert mean == pytest.approx(expected, rel=1e-12)
    spread = [np.sqrt(np.average((one[valid] - m) ** 2, weights=w)) for one, m in zip(y, expected, strict=True)]
    assert std == pytest.approx(spread, rel=1e-12)


@pytest.mark.parametrize("change", ["shape", "variables", "members", "cells"])
def test_fields_that_do_not_fit_are_refused(change: str) -> None:
    x, y = fields()
    sums = added(x, y)
    with pytest.raises(InputError, match=r"members must be|a part has 3 members|nothing to score"):
        if change == "cells":
            added(np.full_like(x, np.nan), y).scores()
        sums.add(*{"shape": (x[:, :, :2], y), "variables": (x[:, :2], y[:2]), "members": (x[:3], y)}[change])


def test_records_say_what_there_is() -> None:
    x, y = fields()
    found, records = added(x, y).scores(), across.scores()
    assert found.keys() == records.keys() | {"members", "times", "cells"}
    assert all(np.ndim(found[key]) == len(one.dims) for key, one in records.items())
