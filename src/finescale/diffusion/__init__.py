"""The diffusion process: noise levels, the denoiser, position-keyed noise, tiled evaluation, distillation."""

from finescale.diffusion.denoiser import Denoiser
from finescale.diffusion.distillation import Distillation
from finescale.diffusion.noise_field import noise_field, noise_source
from finescale.diffusion.schedule import EDM, VP, VPSDE, NoiseLevels, Schedule, ScheduleNoise, TimeNoise, TrainingNoise
from finescale.diffusion.tiling import TiledDenoiser, Tiling
from finescale.diffusion.tv import TotalVariation

__all__ = [
    "EDM",
    "VP",
    "VPSDE",
    "Denoiser",
    "Distillation",
    "NoiseLevels",
    "Schedule",
    "ScheduleNoise",
    "TiledDenoiser",
    "Tiling",
    "TimeNoise",
    "TotalVariation",
    "TrainingNoise",
    "noise_field",
    "noise_source",
]
