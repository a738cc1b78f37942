"""The processes that share a training: one alone, or those that torchrun started.

Each has a copy of the networks and an equal part of every batch (`finescale.model.share`); DistributedDataParallel,
through Fabric, makes the mean of their gradients: over gloo on processors, nccl on GPUs. All else that must happen once
happens in the first process (rank 0), the owner of the model's folder, and what came of it is sent to the others:
statistics, validation losses, errors. Whatever decides how a training goes on (the loss, the clock, a signal) is
exchanged at every step, so that all decide alike, and end at the same step.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import TypeVar, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, distributed, nn

from finescale.errors import InputError
from finescale.model.share import Share

T = TypeVar("T")

PATIENCE = timedelta(days=1)
"""How long a process waits for the others, of which one may go through an archive alone; torchrun ends those that wait
for one that failed."""
SILENCE = timedelta(minutes=1)
"""How long a process waits for torchrun's store before it speaks."""


class Processes:
    """This process among those that share a training.

    Args:
        fabric: launched.

    Attributes:
        rank: the number of this process.
        count: how many there are.
    """

    def __init__(self, fabric: Fabric | None = None) -> None:
        self.fabric = fabric or Fabric(devices=1)
        self.rank, self.count = self.fabric.global_rank, self.fabric.world_size

    @property
    def first(self) -> bool:
        """Whether this process owns the folder."""
        return self.rank == 0

    @property
    def share(self) -> Share:
        """This process's part of every batch."""
        return Share(self.rank, self.count, self._total) if self.count > 1 else Share()

    def check_batch(self, batch: int) -> None:
        """Refuse a batch that does not divide into equal parts.

        Raises:
            InputError: that names batches that do.
        """
        if batch % self.count:
            low = batch // self.count * self.count
            near = " or ".join(str(n) for n in (low, low + self.count) if n)
            raise InputError(
                f"train.batch is {batch}, which {self.count} processes cannot share equally: "
                f"--set train.batch={near}, or another number of processes (torchrun --nproc-per-node)"
            )

    def once(self, make: Callable[[], T]) -> T:
        """What the first process makes, in all of them.

        Raises:
            InputError: in all of them, where it was raised in the first.
        """
        if self.count == 1:
            return make()
        made: tuple[T | None, InputError | None] = None, None
        if self.first:
            try:
                made = make(), None
            except InputError as error:
                made = None, error
        value, wrong = self.fabric.broadcast(made)
        if wrong is not None:
            raise wrong
        return value  # type: ignore[return-value]

    def alike(self, module: nn.Module, change: Callable[[], object]) -> None:
        """Change a module's weights and statistics in the first process; the others take what it has then."""

        def changed() -> dict[str, Tensor] | None:
            change()
            return {k: v.cpu() for k, v in module.state_dict().items()} if self.count > 1 else None

        state = self.once(changed)
        if not self.first and state is not None:
            module.load_state_dict(state)

    def exchanged(self, *values: float) -> list[list[float]]:
        """The numbers that each process gives, in the order of the processes."""
        if self.count == 1:
            return [list(values)]
        rows = torch.zeros(self.count, len(values), dtype=torch.float64, device=self.fabric.device)
        rows[self.rank] = torch.tensor(values, dtype=torch.float64)
        return cast(list[list[float]], self._total(rows).tolist())

    def first_alone(self) -> AbstractContextManager[None]:
        """A block that the first process goes through before the others, which find there what it has kept."""
        alone: AbstractContextManager[None] = self.fabric.rank_zero_first()
        return alone

    def _total(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.fabric.all_reduce(x.detach().clone(), reduce_op="sum"))


@contextmanager
def together() -> Iterator[Processes]:
    """The processes that torchrun started, joined; or this one alone.

    They stay joined for the next training: joined anew, one may find in torchrun's store where another has been.

    Raises:
        InputError: for more processes than GPUs, and where another process has ended.
    """
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    world = started()
    if world == 1:
        yield Processes()
        return
    gpus = torch.cuda.device_count()
    if 0 < gpus < here():
        raise InputError(
            f"{here()} processes were started where there are {gpus} GPUs: torchrun --nproc-per-node {gpus}, or "
            "CUDA_VISIBLE_DEVICES= before it to train on processors"
        )
    # Gradients are gathered in the order of the networks' layers, in every run and after every resumption: without
    # find_unused_parameters, in the order in which the first step after a start happened to make them.
    strategy = DDPStrategy(timeout=PATIENCE, forward_sync_buffers=False, find_unused_parameters=True)
    try:
        fabric = Fabric(strategy=strategy, devices=here(), num_nodes=world // here())
        fabric.launch()
        yield Processes(fabric)
        fabric.barrier()
    except RuntimeError as error:
        if not _broken(error):
            raise
        raise InputError(
            "another process of this training has ended: see what was said of it; the same command goes on from the "
            "last checkpoint"
        ) from error


def _broken(error: RuntimeError) -> bool:
    """Whether an error is of the connection between processes."""
    text = str(error).lower()
    return isinstance(error, distributed.DistError) or any(word in text for word in ("gloo", "nccl", "connection"))


def started() -> int:
    """How many processes torchrun started, on all machines; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", 1)) if distributed.is_torchelastic_launched() else 1


def here() -> int:
    """How many of them are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if distributed.is_torchelastic_launched() else 1


def speaks() -> bool:
    """Whether this process is the first that has to say why the training ends; what others say then is of its end.

    The store through which torchrun's processes find each other keeps count.
    """
    try:
        store = distributed.TCPStore(
            os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=SILENCE
        )
        return bool(store.add(f"finescale/ended/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", 1) == 1)
    except (RuntimeError, KeyError, ValueError):
        return os.environ.get("RANK", "0") == "0"
