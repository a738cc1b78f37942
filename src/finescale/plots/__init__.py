"""Figures of fields and scores, as matplotlib objects without pyplot; sequences as animated GIFs."""

from finescale.plots.animation import animate, animate_ensemble
from finescale.plots.diagnostics import rank_histogram, spectra
from finescale.plots.maps import Frame, overview

__all__ = ["Frame", "animate", "animate_ensemble", "overview", "rank_histogram", "spectra"]
