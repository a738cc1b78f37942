"""Conservation constraints; a configuration names them by file, ``none`` for no constraint.

`finescale.constraints.penalty.SoftPenalty`, a term of the loss that conserves nothing exactly, and
`finescale.constraints.per_variable.PerVariable`, which is made of others, are used from Python or by name.
"""

from finescale.constraints.additive import Additive
from finescale.constraints.base import Constraint
from finescale.constraints.bounded import Bounded
from finescale.constraints.multiplicative import Multiplicative
from finescale.constraints.projection import Projection
from finescale.constraints.smooth import Smooth
from finescale.constraints.softmax import Softmax
from finescale.constraints.tapered import Tapered

__all__ = ["Additive", "Bounded", "Constraint", "Multiplicative", "Projection", "Smooth", "Softmax", "Tapered"]
