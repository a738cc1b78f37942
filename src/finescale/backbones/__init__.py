"""Networks; a configuration names them by file."""

from finescale.backbones.unet import UNet

__all__ = ["UNet"]
