"""Conservation constraints; a configuration names them by file, ``none`` for no constraint."""

from finescale.constraints.additive import Additive
from finescale.constraints.base import Constraint
from finescale.constraints.multiplicative import Multiplicative
from finescale.constraints.tapered import Tapered

__all__ = ["Additive", "Constraint", "Multiplicative", "Tapered"]
