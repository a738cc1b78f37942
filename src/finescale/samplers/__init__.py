"""Samplers; a configuration names them by file."""

from finescale.samplers.base import Denoise, Sampler
from finescale.samplers.dpm import DPM2M
from finescale.samplers.euler import Euler
from finescale.samplers.heun import Heun

__all__ = ["DPM2M", "Denoise", "Euler", "Heun", "Sampler"]
