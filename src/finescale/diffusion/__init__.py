"""The diffusion process: noise levels, the denoiser, position-keyed noise, tiled evaluation, distillation."""

from finescale.diffusion.carried import Carried, carried_noise
from finescale.diffusion.denoiser import Denoiser, EpsilonDenoiser
from finescale.diffusion.discrete import VP, DiscreteVP, ScheduleNoise, VPCosine
from finescale.diffusion.distillation import Distillation
from finescale.diffusion.noise_field import noise_field, noise_source
from finescale.diffusion.persistence import Persistent, White
from finescale.diffusion.schedule import EDM, VPSDE, NoiseLevels, Schedule, TimeNoise, TrainingNoise
from finescale.diffusion.tiling import TiledDenoiser, Tiling
from finescale.diffusion.tv import TotalVariation

__all__ = [
    "EDM",
    "VP",
    "VPSDE",
    "Carried",
    "Denoiser",
    "DiscreteVP",
    "Distillation",
    "EpsilonDenoiser",
    "NoiseLevels",
    "Persistent",
    "Schedule",
    "ScheduleNoise",
    "TiledDenoiser",
    "Tiling",
    "TimeNoise",
    "TotalVariation",
    "TrainingNoise",
    "VPCosine",
    "White",
    "carried_noise",
    "noise_field",
    "noise_source",
]
