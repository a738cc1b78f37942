"""The three knobs: the authors' published values, hand-computed ones, and durations as people write them."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from finescale.config.recipe import Recipe, recipe, signal_left
from finescale.errors import InputError
from finescale.grids.factor import Factor
from finescale.grids.resolution import format_duration, parse_duration

EVERY = [Factor(time, space) for time in range(1, 7) for space in range(1, 26)]


# the authors' runs
@pytest.mark.parametrize(
    ("factor", "beta_max", "power", "tau"),
    [("3x1", 0.015, 0.5, 0.01), ("1x10", 0.010, 0.5, 0.01), ("3x10", 0.020, 1.0, 0.02)],
)
def test_published_values_are_met(factor, beta_max, power, tau):
    r = recipe(factor)
    assert r.beta_max == pytest.approx(beta_max, abs=1e-12)
    assert (r.power, r.tau) == (power, pytest.approx(tau, abs=1e-12))


def test_the_largest_factor():
    r = recipe("6x25")
    assert (r.power, r.tau) == (1.0, pytest.approx(0.04, abs=1e-12))  # published
    # by hand: .005 + .005 * 1.39794 + .010 * 1.63093
    assert r.beta_max == pytest.approx(0.028299, abs=1e-6)


# noise
@pytest.mark.parametrize(
    ("factor", "stride", "sigma_max"),
    [
        ("1x1", (1, 1, 1), 10.0),
        ("1x4", (1, 1, 1), 10.0),  # 2 * 4 = 8 is below the least
        ("1x8", (1, 1, 1), 16.0),
        ("4x8", (1, 1, 1), 32.0),  # 2 * sqrt(256)
        ("4x8", (1, 2, 2), 16.0),  # 256 / 4 = 64 latent cells
        ("4x8", (2, 4, 4), 10.0),
        ("1x4x16", (1, 1, 1), 16.0),
        ("1x2", (1, 8, 8), 10.0),  # fewer cells than one of the latent
    ],
)
def test_sigma_max_by_hand(factor, stride, sigma_max):
    assert recipe(factor, stride=stride).sigma_max == pytest.approx(sigma_max)


def test_no_pattern_in_a_block_exceeds_the_bound_of_sigma_max():
    # Covariance of the cells of a 1x8 block, from independent to equal: the strongest eigenvalue's root stays below
    # half of sigma_max, and equal cells reach it.
    strongest = [math.sqrt(np.linalg.eigvalsh((1 - r) * np.eye(64) + r)[-1]) for r in (0.0, 0.5, 1.0)]
    assert max(strongest) == pytest.approx(recipe("1x8").sigma_max / 2)


@pytest.mark.parametrize(("beta_max", "share"), [(0.01, 6e-3), (0.015, 5e-4), (0.02, 4e-5)])
def test_signal_left_at_the_last_step(beta_max, share):
    left = signal_left(beta_max)
    assert float(f"{left:.0e}") == share
    # Sum of log(1 - β) to second order: -T·mean(β) - T·mean(β²)/2, with mean(β²) = (a² + ab + b²)/3.
    a, b = 1e-4, beta_max
    assert math.log(left) == pytest.approx(-500 * (a + b) - 500 * (a * a + a * b + b * b) / 3, rel=2e-3)


def test_beta_max_stays_within_its_range():
    assert recipe("1x1").beta_max == 0.005
    assert recipe("100x1000").beta_max == 0.035


def test_blocks_that_are_not_square_take_the_geometric_mean():
    assert recipe("1x5x20").beta_max == pytest.approx(0.010, abs=1e-12)


# context
@pytest.mark.parametrize(
    ("factor", "frames"), [("1x10", 12), ("2x5", 6), ("3x1", 4), ("4x4", 3), ("5x4", 2), ("6x25", 2), ("24x1", 2)]
)
@pytest.mark.parametrize("cadence", ["1h", "2min", 300, None])
def test_context_spans_twelve_fine_frames(factor, frames, cadence):
    assert recipe(factor, cadence).context == frames


@pytest.mark.parametrize(
    ("factor", "cadence", "horizon", "frames"),
    [("3x10", "1h", "15h", 5), ("6x25", "1h", "18 h", 3), ("6x25", "1h", "15h", 3), ("3x10", "5min", 7200, 8)],
)
def test_horizon_in_physical_time(factor, cadence, horizon, frames):
    assert recipe(factor, cadence, horizon=horizon).context == frames


def test_context_can_be_given():
    assert recipe("3x10", context=1).context == 1
    assert "spanning 21 h" in recipe("3x10", context=7).why[2]


# taper
@pytest.mark.parametrize(
    ("factor", "power", "tau"),
    [
        ("1x2", 0.5, 0.01),
        ("1x25", 0.5, 0.01),
        ("6x1", 0.5, 0.01),
        ("1x8x1", 0.5, 0.01),
        ("2x2", 1, 0.01),
        ("1x1", 1, 0),
    ],
)
def test_taper_by_hand(factor, power, tau):
    r = recipe(factor)
    assert (r.power, r.tau) == (power, tau)


def test_tau_is_linear_in_the_logarithm_of_the_cells():
    # 0.02 at 300 cells and 0.04 at 3750; 2x23 has 1058, next to the halfway sqrt(300 * 3750) = 1060.66.
    assert recipe("2x23").tau == pytest.approx(0.02 + 0.02 * math.log(1058 / 300) / math.log(3750 / 300), abs=1e-12)


def test_every_factor_has_a_recipe_that_grows_with_it():
    recipes = {tuple(f)[:2]: recipe(f) for f in EVERY}
    assert len(recipes) == 150
    for (time, space), r in recipes.items():
        assert 0.005 <= r.beta_max <= 0.035 and 10 <= r.sigma_max <= 123 and 2 <= r.context <= 12
        for smaller in ((time - 1, space), (time, space - 1)):
            if smaller in recipes:
                before = recipes[smaller]
                assert before.beta_max < r.beta_max and before.sigma_max <= r.sigma_max and before.context >= r.context
                assert before.tau <= r.tau


# text
@pytest.mark.parametrize("factor", ["1x1", "1x8x12", "3x10", "6x25"])
def test_text_is_short_and_its_yaml_holds_the_knobs(factor):
    r = recipe(factor, "10min")
    lines = str(r).splitlines()
    assert len(lines) <= 12 and max(map(len, lines)) <= 120
    assert all(why in str(r) for why in r.why)
    config = yaml.safe_load("\n".join(lines[lines.index("") :]))
    assert config["factor"] == factor and config["data"] == {"frames": r.context}
    assert config["process"] == {"schedule": {"kind": "edm", "sigma_max": pytest.approx(r.sigma_max, rel=5e-3)}}
    assert config["constraint"] == {"kind": "tapered", "power": r.power, "tau": pytest.approx(r.tau, rel=5e-3)}


def test_text_names_the_times():
    assert "about 2 h; coarse frames are 30 min apart" in str(recipe("3x10", "10min"))


def test_a_recipe_is_a_value():
    assert recipe("3x10") == recipe(Factor(3, 10), 3600)
    assert len({recipe("3x10"), recipe("3x10"), recipe("1x10")}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe("3x10").tau = 0  # type: ignore[misc]


def test_the_knobs_are_the_papers_and_nothing_else():
    names = [f.name for f in dataclasses.fields(Recipe)]
    assert names == ["factor", "beta_max", "sigma_max", "context", "power", "tau", "why"]


# durations
@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1h", 3600),
        ("10min", 600),
        ("5 min", 300),
        ("30s", 30),
        ("1d", 86400),
        (" 1.5 Hours ", 5400),
        (".5h", 1800),
        ("90 seconds", 90),
        (120, 120),
        (0.5, 0.5),
        (np.float32(60), 60),
    ],
)
def test_durations_are_read(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "h",
        "1",
        "1 fortnight",
        "-1h",
        "0h",
        "1h30",
        "1m",
        "1e3s",
        "9" * 400 + "h",
        0,
        -5,
        math.nan,
        math.inf,
        True,
        [1],
    ],
)
def test_what_is_no_duration_is_named(text):
    with pytest.raises(InputError, match=r"cadence .* is not understood: .*such as 1h") as caught:
        parse_duration(text, "cadence")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (43200, "12 h"),
        (1440, "24 min"),
        (86400, "1 d"),
        (129600, "36 h"),
        (5400, "90 min"),
        (30, "30 s"),
        (0.5, "0.5 s"),
    ],
)
def test_durations_are_written(seconds, text):
    assert format_duration(seconds) == text


@given(st.integers(1, 10**7))
def test_durations_survive_writing_and_reading(seconds):
    assert parse_duration(format_duration(seconds)) == seconds


# what the user can mend
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"factor": "3by10"}, "factor '3by10' is not understood"),
        ({"factor": "3x10", "cadence": "hourly"}, "cadence 'hourly' is not understood"),
        ({"factor": "3x10", "horizon": "long"}, "horizon 'long' is not understood"),
        ({"factor": "3x10", "cadence": None, "horizon": "12h"}, "horizon of 12 h needs the cadence"),
        ({"factor": "3x10", "context": 0}, "context 0 must be a whole number"),
        ({"factor": "3x10", "context": 2.5}, "context 2.5 must be a whole number"),
        ({"factor": "3x10", "stride": (1, 4)}, "stride"),
        ({"factor": "3x10", "stride": (1, 0, 4)}, "stride"),
    ],
)
def test_errors_name_what_is_wrong(arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        recipe(**arguments)
    assert "\n" not in str(caught.value)
