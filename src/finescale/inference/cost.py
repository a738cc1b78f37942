"""What a prediction will cost, before it begins: tasks, what is written, memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

from finescale.inference.tasks import Tasks

LONG = 2e9
"""Fine cells times network evaluations that take a core some ten minutes or more: the cost is then told first."""
PROCESS = 4e8
"""Bytes of a process with its libraries, measured."""
WORKSPACE = 600
"""Bytes for each fine cell and member that goes through networks at once, measured with the presets' (benchmarks)."""


@dataclass(frozen=True)
class Cost:
    """What a prediction will cost.

    Attributes:
        windows: of the domain, times the members of the input.
        tasks: windows times batches of members, and marginals.
        members: of the output.
        evaluations: of the networks, of a member of a window.
        shapes: of the output's variables, and of a chunk of each.
        widths: bytes of a value of each.
        apart: whether every task has chunks of its own.
        cells: fine cells that go through the networks at once, all members together.
        work: fine cells times evaluations, of all tasks.
    """

    windows: int
    tasks: int
    members: int
    evaluations: int
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    widths: dict[str, int]
    apart: bool
    cells: int
    work: float

    @classmethod
    def of(cls, tasks: Tasks) -> Cost:
        """The cost of a prediction."""
        output, evaluations = tasks.output, max(1, tasks.model.evaluations(tasks.request.steps))
        each = tasks.windows.most * tasks.model.factor.cells
        return cls(
            len(tasks.windows) * tasks.inputs,
            len(tasks),
            output.members,
            evaluations,
            {name: (shape, output.chunks[name]) for name, shape in output.shapes.items()},
            {n: int(output.packed[n].dtype[3:]) // 8 if n in output.packed else 4 for n in output.shapes},
            output.apart,
            each * tasks.at_once,
            float(each) * evaluations * len(tasks.windows) * max(1, output.members),
        )

    @property
    def bytes(self) -> int:
        """Of the output, uncompressed."""
        return sum(self.widths[name] * math.prod(shape) for name, (shape, _) in self.shapes.items())

    @property
    def memory(self) -> float:
        """Bytes of a process that works on one task at a time, roughly."""
        return PROCESS + WORKSPACE * self.cells

    def __str__(self) -> str:
        """In one line."""
        members = f" x {self.members} members" if self.members else ""
        return (
            f"{self.tasks:,} tasks ({self.windows:,} windows{members}), {size(self.bytes)} of output before "
            f"compression, about {size(self.memory)} of memory for each task that is worked on at once"
        )

    @property
    def text(self) -> str:
        """In lines, with the layout of the output."""
        lines = [str(self)]
        for name, (shape, chunk) in self.shapes.items():
            count = math.prod(-(-n // c) for n, c in zip(shape, chunk, strict=True))
            whole, part = (" x ".join(map(str, n)) for n in (shape, chunk))
            width = self.widths[name]
            each = size(width * math.prod(chunk))
            lines.append(f"{name}: {whole} values of {width} bytes in {count:,} chunks of {part} ({each})")
        if not self.apart:
            lines.append("tasks share chunks: with workers, this process writes what they make")
        lines.append(f"{self.evaluations:,} network evaluations for each member of a window")
        return "\n".join(lines)


def size(count: float) -> str:
    """Bytes as people write them: ``2.1 GB``.

    >>> size(2_100_000_000)
    '2.1 GB'
    """
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB" if count < 1000 else f"{count:,.0f} TB"
