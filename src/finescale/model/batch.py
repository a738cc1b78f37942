"""What a model is given of some windows, which members are drawn of them, and what comes of it.

Windows are parts of a domain of the same size, cut for a prediction or as crops for training. These values go from the
command line to the sampler as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import Any, Self

import torch
from torch import Tensor

from finescale.diffusion import Carried
from finescale.grids.windows import Triple


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a model is given of B windows.

    Attributes:
        coarse: (B, C, t, h, w) in the variable's units; NaN where unknown. Any h and w.
        area: (B, H, W), or (H, W) for all, fine cell areas; None for equal ones.
        static: (B, S, H, W), or (S, H, W) for all, static fields, where the model takes them.
        origin: absolute index (t, y, x) of the first coarse cell, one for all or one a window; noise depends on it.
        mask: (B, C, H, W), or (C, H, W) for all, True where fine cells are valid, of every variable or (C = 1) of
            all; None where all are. Block means are those over valid cells; the others are NaN.
        predictors: (B, P, t, h, w), where the model takes them: other fields on the coarse cells; NaN where unknown.
        smoothness: (B,), how smooth the fine fields are, where the model takes that; None for what it usually is.
        neighbours: (B, 2n, C, t, h, w), where the model takes them: of every coarse frame those at −n … −1, 1 … n; NaN
            where unknown. None for none known.
        carried: how noise is carried along the coarse field's motion; None for noise of its own in every frame.
        velocity: (B, 2, t, h, w), where the model takes it: coarse cells along y and x that a coarse frame moves by in
            its length. None for none.

    Example:
        >>> import torch
        >>> from finescale.model.batch import Inputs
        >>> len(Inputs(torch.rand(3, 1, 1, 8, 8)))
        3
    """

    coarse: Tensor
    area: Tensor | None = None
    static: Tensor | None = None
    origin: Triple | Sequence[Triple] = (0, 0, 0)
    predictors: Tensor | None = None
    mask: Tensor | None = None
    smoothness: Tensor | None = None
    neighbours: Tensor | None = None
    carried: Carried | None = None
    velocity: Tensor | None = None

    def __post_init__(self) -> None:
        for name, ndim in (("area", 3), ("static", 4), ("mask", 4)):
            value = getattr(self, name)
            if value is not None and value.ndim < ndim:
                object.__setattr__(self, name, value[None])

    def __len__(self) -> int:
        return len(self.coarse)

    @property
    def origins(self) -> list[Triple]:
        """The origin of every window."""
        if isinstance(self.origin[0], Integral):
            return [self.origin] * len(self)
        return list(self.origin)  # type: ignore[arg-type]

    def to(self, device: torch.device) -> Self:
        """The same windows on a device."""
        return self._mapped(lambda x: x.to(device))

    def __getitem__(self, items: Tensor | slice) -> Self:
        """Some of the windows, by a mask, their numbers or a slice."""
        numbers = torch.arange(len(self))[items.cpu() if isinstance(items, Tensor) else items]
        chosen = self._mapped(lambda x: x if len(x) < len(self) else x[numbers.to(x.device)])
        carried = None if self.carried is None else self.carried[numbers]
        return replace(chosen, origin=[self.origins[int(n)] for n in numbers], carried=carried)

    def split(self, size: int) -> list[Self]:
        """The windows, at most ``size`` at a time."""
        return [self[start : start + size] for start in range(0, len(self), size)]

    def _mapped(self, function: Any) -> Self:
        fields = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **{name: function(value) for name, value in fields.items()})


@dataclass(frozen=True, eq=False)
class Batch(Inputs):
    """Training crops of one factor: what a model is given of them, and what it should make of it.

    Attributes:
        fine: (B, C, T, H, W); NaN where unknown. ``coarse`` holds its block means, or the values of another source.
        weight: (B,), of each crop in the loss; None for equal ones.
    """

    fine: Tensor = field(kw_only=True)
    weight: Tensor | None = field(kw_only=True, default=None)


@dataclass(frozen=True)
class Members:
    """Which members are drawn; those of one seed and number are the same in every call.

    Attributes:
        numbers: of the members; ``range(8)`` for the first eight.
        seed: of their noise.
        steps: sampler steps; None for the model's own.

    Example:
        >>> from finescale.model.batch import Members
        >>> len(Members(range(8), seed=1))
        8
    """

    numbers: range = range(1)
    seed: int = 0
    steps: int | None = None

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Members of some windows.

    Attributes:
        fields: (B, M, C, T, H, W) in the variable's units; NaN where the coarse cell is.
        gap: of every variable the largest ``|A x − c|`` before the constraint, in those units; 0 where it has none,
            empty where nothing was sampled.
    """

    fields: Tensor
    gap: tuple[float, ...] = ()
