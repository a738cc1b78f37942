"""Networks; a configuration names them by file."""

from finescale.backbones.dbpn import DBPN
from finescale.backbones.dense_sr import DenseSR
from finescale.backbones.dense_unet import DenseUNet
from finescale.backbones.edsr import EDSR
from finescale.backbones.lapsrn import LapSRN
from finescale.backbones.rdn import RDN
from finescale.backbones.srcnn import SRCNN
from finescale.backbones.unet import UNet
from finescale.backbones.vit import ViT

__all__ = ["DBPN", "EDSR", "RDN", "SRCNN", "DenseSR", "DenseUNet", "LapSRN", "UNet", "ViT"]
