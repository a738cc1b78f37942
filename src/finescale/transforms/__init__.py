"""Transforms between physical units and the networks' space; a configuration names them by file."""

from finescale.transforms.base import Chain, Transform
from finescale.transforms.bounds import Bounds
from finescale.transforms.log1p import Log1p
from finescale.transforms.standardize import Standardize

__all__ = ["Bounds", "Chain", "Log1p", "Standardize", "Transform"]
