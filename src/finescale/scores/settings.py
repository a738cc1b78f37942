"""What is scored: values of one study, the same for all its systems."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from finescale.grids.factor import Factor

THRESHOLDS = (0.1, 1.0, 5.0, 10.0)
"""Rain rates in mm/h that make an event."""
SCALES = (1, 5, 11, 21)
"""Window widths in cells for FSS."""
WET = 0.1
"""Rain rate in mm/h from which a cell is wet."""


@dataclass(frozen=True)
class Settings:
    """What is scored.

    Attributes:
        thresholds: events ≥ threshold, in units of the field.
        scales: widths in cells of FSS windows.
        dry: values below count as equal in the rank histogram; None for a field that is not rain, which has no scores
            of log-rain, no wet fraction and no rain objects.
        data_range: the truth's least and largest value, for PSNR and SSIM of a field that is not rain; it has neither
            score where they are equal.
        seed: of random ties and bootstraps.
        area: cell areas (H, W), up to a constant; None for equal ones.
        cell: (dy, dx), cell size for spectra and objects, in metres or any unit.
        factor: from coarse to fine, for the conservation residual and the border ratio.
        full: also the scores that take long: variogram score and SAL.
        bands: (first row, last row + 1, (dy, dx)) of parts whose cells are about equally large, where those of the
            whole are not; spectra are taken in each.
        wet_day: 1 mm in a day, in units of the field, where times are days of rain; None elsewhere, which have no wet
            days and dry spells.

    Example:
        >>> from finescale.verify import Settings
        >>> Settings(thresholds=(1.0, 10.0)).rain
        True
    """

    thresholds: tuple[float, ...] = THRESHOLDS
    scales: tuple[int, ...] = SCALES
    dry: float | None = 0.05
    seed: int = 0
    area: NDArray[Any] | None = None
    cell: tuple[float, float] = (1.0, 1.0)
    factor: Factor | None = None
    full: bool = True
    bands: tuple[tuple[int, int, tuple[float, float]], ...] = ()
    data_range: tuple[float, float] = (0.0, 0.0)
    wet_day: float | None = None

    @property
    def rain(self) -> bool:
        return self.dry is not None
