"""Units: one quantity in many spellings, exact factors, and texts that are no units."""

from __future__ import annotations

import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest
import xarray as xr

from finescale.data.units import (
    UnitsWarning,
    conversion,
    convert_units,
    in_mm_per_hour,
    is_kelvin,
    is_rain,
    is_rate,
    same_units,
    wet_day,
)
from finescale.errors import InputError

RATES = {
    "mm h-1": 1, "mm/h": 1, "mm hr**-1": 1, "mm/hour": 1, "mm.h-1": 1, "mm h⁻¹": 1, "mm·h^-1": 1, "kg m-2 h-1": 1,
    "cm h-1": 10, "m h-1": 1000, "mm min-1": 60, "mm s-1": 3600, "mm sec^-1": 3600, "kg m-2 s-1": 3600,
    "kg m**-2 s**-1": 3600, "kg/m2/s": 3600, "kg/(m2 s)": 3600, "kg.m-2.s-1": 3600, "m s-1": 3600000,
    "0.1 mm/h": 0.1, "inch/h": 25.4,
}  # fmt: skip
DAILY = ("mm day-1", "mm/d", "kg m-2 d-1", "mm days-1")
TEMPERATURES = ("degC", "celsius", "Celsius", "degree_Celsius", "degrees_Celsius", "deg_C", "°C", "C", "degc")


def field(units: Any) -> xr.DataArray:
    return xr.DataArray(np.ones((2, 2)), dims=("y", "x"), name="q", attrs={"units": units})


@pytest.mark.parametrize(("units", "scale"), RATES.items())
def test_rates_of_rain_are_exact(units: str, scale: float) -> None:
    assert conversion(units, "mm/h") == (scale, 0.0)
    assert conversion("mm h-1", units) == (1 / scale, 0.0)
    assert is_rate(units)


@pytest.mark.parametrize("units", DAILY)
def test_daily_rates_are_exact(units: str) -> None:
    assert conversion(units, "mm/h") == (1 / 24, 0.0)
    assert conversion(units, "kg m-2 s-1") == (1 / 86400, 0.0)


@pytest.mark.parametrize("units", TEMPERATURES)
def test_celsius_and_kelvin_are_exact(units: str) -> None:
    assert conversion(units, "K") == (1.0, 273.15)
    assert conversion("Kelvin", units) == (1.0, -273.15)


@pytest.mark.parametrize(
    ("has", "to", "expected"),
    [
        ("m", "mm", 1000.0), ("kg m-2", "mm", 1.0), ("m", "kg m-2", 1000.0), ("hPa", "Pa", 100.0),
        ("mbar", "hPa", 1.0), ("%", "1", 0.01), ("percent", "%", 1.0), ("1", "%", 100.0), ("1e-3", "g kg-1", 1.0),
        ("W m-2", "W m**-2", 1.0), ("furlong", "furlong", 1.0), ("no unit at all", "no unit at all", 1.0),
    ],
)  # fmt: skip
def test_other_quantities_are_exact(has: str, to: str, expected: float) -> None:
    assert conversion(has, to) == (expected, 0.0)


def test_fahrenheit_is_the_nearest_float() -> None:
    assert conversion("degF", "degC") == (5 / 9, -160 / 9)


@pytest.mark.parametrize(
    "units",
    [
        "K", "mm", "degC h-1", "mm h-1 h", "furlong", "mm/", "mm h -1", "days since 2000-01-01", "nan", "-1 mm/h",
        "0 mm/h", "0-1", "mm/h - 1", "9**9**9**9", "mm/h 9**9**9", "(9**9)**(9**9)", "m**999999999", "1e999999999 mm/h",
        "(" * 60, "mm " * 1000, "__import__('os')", "mm.__class__", "", "\0", "mm\nh-1\n\n[",
    ],
)  # fmt: skip
def test_what_is_no_rate_of_rain_is_refused(units: str) -> None:
    with pytest.raises(InputError, match=r"the field is in .* which cannot be converted to 'mm/h'"):
        conversion(units, "mm/h")
    with pytest.raises(InputError, match="cannot be converted"):
        conversion("mm/h", units)


@pytest.mark.parametrize("units", [1, 2.5, np.array([1, 2]), b"mm/h", ["mm/h"], float("nan")])
def test_units_that_are_no_text(units: Any) -> None:
    da, rain = field(units), field("mm/h")
    assert not is_rain(da) and in_mm_per_hour(da) is da
    for call in (lambda: convert_units(da, "mm/h"), lambda: same_units(da, rain, []), lambda: same_units(rain, da, [])):
        with pytest.raises(InputError, match=r"variable q is in .* which cannot be converted"):
            call()


def test_a_number_is_read_as_text() -> None:
    assert float(convert_units(field(1), "%")[0, 0]) == 100.0


def test_rain_by_its_units() -> None:
    assert all(is_rain(field(units)) for units in ("mm/h", "mm day-1", "kg m-2 s-1", "kg/m2/s"))
    assert not any(is_rain(field(units)) for units in ("mm", "m s-1", "kg", "kg m-2", "K", "hPa", None))
    assert is_rate("m s-1") and not any(map(is_rate, ("km/h", "knots", "km h-1")))


@pytest.mark.parametrize(
    ("name", "units", "attrs", "expected"),
    [
        ("u10", "m s-1", {"long_name": "10 metre U wind component"}, False),
        ("wind", "m s-1", {"standard_name": "wind_speed"}, False),
        ("tp", "m s-1", {"standard_name": "lwe_precipitation_rate"}, True),
        ("tp", "m", {"long_name": "Total precipitation"}, True),
        ("pr", "m s-1", {}, True),
        ("rr", "mm", {}, True),
        ("pr", "hPa", {}, False),
        ("rain", "mm", {}, True),
        ("rain", None, {}, True),
        ("convRain", "mm/h", {}, True),
        ("sf", "kg m-2 s-1", {"standard_name": "snowfall_flux"}, True),
        ("evap", "kg m-2 s-1", {"standard_name": "water_evapotranspiration_flux"}, False),
        ("pwat", "kg m-2", {"long_name": "Precipitable water"}, False),
        ("terrain", "m", {"long_name": "Terrain height"}, False),
        ("z", "m", {"long_name": "Height of the terrain, drained"}, False),
        ("pop", "%", {"long_name": "Probability of precipitation"}, False),
        ("t", "K", {"long_name": "Temperature of the rain"}, False),
    ],
)
def test_rain_is_told_from_what_is_named_or_measured_alike(
    name: str, units: str | None, attrs: dict[str, str], expected: bool
) -> None:
    da = field(units).rename(name).assign_attrs(attrs)
    if units is None:
        del da.attrs["units"]
    assert is_rain(da) is expected


@pytest.mark.parametrize(
    ("units", "expected"),
    [("mm/h", 1 / 24), ("mm day-1", 1.0), ("kg m-2 s-1", 1 / 86400), ("mm", 1.0), ("m", 1e-3), ("kg m-2", 1.0)],
)
def test_a_wet_day_has_one_millimetre(units: str, expected: float) -> None:
    assert wet_day(units) == pytest.approx(expected, rel=1e-5)
    assert wet_day("K") is wet_day("") is wet_day("dBZ") is None


def test_kelvins_are_told_from_other_temperatures() -> None:
    assert all(map(is_kelvin, ("K", " kelvin ", "Kelvin", "degK"))) and not any(map(is_kelvin, ("degC", "mK", "", "m")))


def test_pint_is_loaded_for_two_spellings_only() -> None:
    code = (
        "import sys; from finescale.data.units import conversion; conversion('mm/h', ' mm/h')\n"
        "assert 'pint' not in sys.modules; conversion('mm h-1', 'mm/h')\n"
        "assert 'pint' in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("value", "has", "to", "expected"),
    [
        (1.0, "mm/h", "mm h-1", 1.0),
        (1.0, "mm hr-1", "mm/h", 1.0),
        (1 / 3600, "kg m-2 s-1", "mm h-1", 1.0),
        (1 / 3600, "kg m**-2 s**-1", "mm h-1", 1.0),
        (1 / 3600, "kg/m2/s", "mm/hr", 1.0),
        (1e-3 / 3600, "m s-1", "mm h-1", 1.0),
        (24.0, "mm/day", "mm h-1", 1.0),
        (24.0, "mm d-1", "mm h-1", 1.0),
        (1 / 3600, "mm s-1", "mm h-1", 1.0),
        (300.0, "K", "degC", 26.85),
        (26.85, "degree_Celsius", "K", 300.0),
        (3.0, "furlong", "furlong", 3.0),
    ],
)
def test_units(value: float, has: str, to: str, expected: float) -> None:
    da = xr.DataArray(np.full((2, 2), value), dims=("y", "x"), attrs={"units": has, "long_name": "x"})
    out = convert_units(da, to)
    np.testing.assert_allclose(out.values, expected, rtol=1e-12)
    assert out.attrs == {"units": to, "long_name": "x"}
    np.testing.assert_allclose(convert_units(out, has).values, value, rtol=1e-9)


def test_units_refused_or_missing() -> None:
    da = xr.DataArray(np.ones((2, 2)), dims=("y", "x"), name="t", attrs={"units": "K"})
    with pytest.raises(InputError, match="variable t is in 'K', which cannot be converted to 'mm h-1'"):
        convert_units(da, "mm h-1")
    with pytest.warns(UnitsWarning, match="has no units"):
        assert convert_units(da.drop_attrs(), "K").attrs["units"] == "K"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert convert_units(da, None) is da
