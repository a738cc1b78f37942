"""Ranges of numbers that constructors take: their signatures are the schema of configurations.

The upper ends are far beyond sense; they keep a slip of the pen (``width: 1e9``) from filling the memory or running
for ever before anything is said.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Size = Annotated[int, Field(ge=1, le=4096)]
"""Channels, features, cells of a patch, modes."""
Optional = Annotated[int, Field(ge=0, le=4096)]
"""A size of something that 0 leaves out."""
Repeats = Annotated[int, Field(ge=1, le=256)]
"""Blocks or layers in a row."""
Halvings = Annotated[int, Field(ge=0, le=8)]
Multiple = Annotated[float, Field(gt=0, le=64)]
"""One size as a multiple of another."""
Cells = Annotated[int, Field(ge=1, le=100_000)]
"""Or frames, of a crop."""
Steps = Annotated[int, Field(ge=1, le=100_000)]
"""Of a schedule or a sampler."""
Width = Annotated[float, Field(gt=0, le=16)]
"""Standard deviation of a Gaussian, in fine cells."""
Positive = Annotated[float, Field(gt=0, le=1e12)]
Finite = Annotated[float, Field(ge=-1e12, le=1e12)]
Bound = Annotated[float, Field(allow_inf_nan=True)]
"""Any number; infinite for none."""
NotNegative = Annotated[float, Field(ge=0, le=1e12)]
Share = Annotated[float, Field(ge=0, le=1)]
Inside = Annotated[float, Field(gt=0, lt=1)]
"""A share that is neither nothing nor all."""
Seed = Annotated[int, Field(ge=0, lt=2**63)]
