"""The diffusion process: noise levels, the denoiser, position-keyed noise, tiled evaluation."""

from finescale.diffusion.denoiser import Denoiser
from finescale.diffusion.noise_field import noise_field
from finescale.diffusion.schedule import EDM, VP, NoiseLevels, Schedule, ScheduleNoise, TrainingNoise
from finescale.diffusion.tiling import TiledDenoiser, Tiling

__all__ = [
    "EDM",
    "VP",
    "Denoiser",
    "NoiseLevels",
    "Schedule",
    "ScheduleNoise",
    "TiledDenoiser",
    "Tiling",
    "TrainingNoise",
    "noise_field",
]
