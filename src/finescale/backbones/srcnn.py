"""SRCNN (Dong et al. 2014): three convolutions on an interpolated field.

Geiss & Hardin replicate the coarse cells first; here the fields come interpolated with a cubic, as in the original, and
replicated besides.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field
from torch import Tensor, nn

from finescale.backbones.scheme import Activation, Scheme, conv, last
from finescale.ranges import Size


def odd(n: int) -> int:
    """n, or ValueError where it is even: the field would grow."""
    if n % 2 == 0:
        raise ValueError(f"{n} is even, but kernels are odd")
    return n


Odd = Annotated[int, Field(ge=1, le=63), AfterValidator(odd)]


class SRCNN(Scheme):
    """conv 9 × 9, relu, conv 5 × 5, relu, conv 5 × 5, on the fine grid.

    Args:
        channels: input channels (derived).
        out_channels: channels of the result (derived).
        width: filters of the first layer; the second has half of them.
        kernels: cells a side of the three kernels, odd.
        activation: of the result.
    """

    upsamples: ClassVar[bool] = False

    def __init__(
        self,
        channels: int,
        out_channels: int,
        width: Annotated[Size, Field(ge=2)] = 64,
        kernels: tuple[Odd, Odd, Odd] = (9, 5, 5),
        activation: Activation = "linear",
    ) -> None:
        super().__init__(activation)
        first, second, third = kernels
        self.layers = nn.Sequential(
            conv(channels, width, first),
            nn.ReLU(),
            conv(width, width // 2, second),
            nn.ReLU(),
            last(width // 2, out_channels, third),
        )
        self.reach = sum(kernel // 2 for kernel in kernels)

    def frame(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y
