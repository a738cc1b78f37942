"""In which units figures show a field: temperatures in °C, whatever they are stored and scored in."""

from __future__ import annotations

from finescale.data.units import is_celsius, is_kelvin

COLDEST = 100.0
"""K. No temperature on Earth is lower, but differences of temperatures are."""


def celsius(units: str, least: float) -> tuple[float, str]:
    """What to add to a field to show it, and the units it is shown in: those of temperatures °C, others as they are.

    Args:
        units: of the field.
        least: its least value: below `COLDEST` it is a difference of temperatures, which stays in kelvins.
    """
    if is_kelvin(units):
        return (-273.15, "°C") if least > COLDEST else (0.0, units)
    return 0.0, "°C" if is_celsius(units) else units
