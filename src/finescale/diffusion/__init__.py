"""The diffusion process: noise levels, the denoiser, position-keyed noise, tiled evaluation."""

from finescale.diffusion.denoiser import Denoiser
from finescale.diffusion.noise_field import noise_field
from finescale.diffusion.schedule import EDM, Schedule, TrainingNoise
from finescale.diffusion.tiling import TiledDenoiser

__all__ = ["EDM", "Denoiser", "Schedule", "TiledDenoiser", "TrainingNoise", "noise_field"]
