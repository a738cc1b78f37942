"""Samplers; a configuration names them by file."""

from finescale.samplers.ancestral import Ancestral
from finescale.samplers.base import Denoise, Fresh, Sampler
from finescale.samplers.consistency import Consistency
from finescale.samplers.ddim import DDIM
from finescale.samplers.dpm import DPM2M
from finescale.samplers.euler import Euler
from finescale.samplers.euler_maruyama import EulerMaruyama
from finescale.samplers.heun import Heun

__all__ = ["DDIM", "DPM2M", "Ancestral", "Consistency", "Denoise", "Euler", "EulerMaruyama", "Fresh", "Heun", "Sampler"]
