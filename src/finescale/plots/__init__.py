"""Figures of fields and scores, as matplotlib objects without pyplot."""

from finescale.plots.diagnostics import rank_histogram, spectra
from finescale.plots.maps import Frame, overview

__all__ = ["Frame", "overview", "rank_histogram", "spectra"]
