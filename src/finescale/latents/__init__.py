"""Latent spaces; a configuration names them by file."""

from finescale.latents.base import LatentSpace, LinearLatentSpace
from finescale.latents.lapped import Lapped
from finescale.latents.patch_pod import PatchPOD
from finescale.latents.pixel import Pixel
from finescale.latents.wavelet import Wavelet

__all__ = ["Lapped", "LatentSpace", "LinearLatentSpace", "PatchPOD", "Pixel", "Wavelet"]
