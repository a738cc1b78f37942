"""Figures of fields and scores, without pyplot: curves return matplotlib axes, sequences become animated GIFs."""

from finescale.plots.animation import animate, animate_ensemble
from finescale.plots.canvas import COLOURS
from finescale.plots.diagnostics import by_time, fss, pit_histogram, quantiles, rank_histogram, spectra
from finescale.plots.maps import STYLE, Region, single
from finescale.plots.modes import coefficient_std, energy, modes
from finescale.plots.probability import coverage, reliability, roc, spread_error
from finescale.plots.region import region_of
from finescale.plots.sheet import closeups, exceedance, overview

__all__ = [
    "COLOURS",
    "STYLE",
    "Region",
    "animate",
    "animate_ensemble",
    "by_time",
    "closeups",
    "coefficient_std",
    "coverage",
    "energy",
    "exceedance",
    "fss",
    "modes",
    "overview",
    "pit_histogram",
    "quantiles",
    "rank_histogram",
    "region_of",
    "reliability",
    "roc",
    "single",
    "spectra",
    "spread_error",
]
