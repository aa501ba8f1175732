"""Several processes that train one model together, each on its share of every step's rows.

Every process reads the same rows in the same order. The rows of a step are shared out among them, each divides its losses by
the supervised tokens of the whole step, and the gradients are added up. So a job takes the same steps and learns the same
with one process or eight, but for the order in which numbers are added; it may even go on with another number of them.

Process 0 speaks with the worker and writes files; the others are silent.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist

_STOPS: tuple[Literal["pause", "cancel"] | None, ...] = (None, "pause", "cancel")


@dataclass(frozen=True)
class Team:
    """Who is who. `size` 1 is an ordinary training; then nothing here communicates. `is_sharded` says that no process
    holds the whole model, so that all must compute equally often."""

    rank: int = 0
    size: int = 1
    local_size: int = 1
    is_sharded: bool = False

    @property
    def leads(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def share(self, lengths: Sequence[int]) -> list[int]:
        """Numbers of the rows that are computed here: the longest goes to whoever has least so far.

        All processes find the same division without asking each other. Some may get none.
        """
        if self.size == 1:
            return list(range(len(lengths)))
        loads, owners = [0] * self.size, [0] * len(lengths)
        for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
            owner = loads.index(min(loads))
            owners[row] = owner
            loads[owner] += lengths[row]
        return [row for row, owner in enumerate(owners) if owner == self.rank]

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Sums over all processes, in place of `values`."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def most(self, number: int, device: torch.device) -> int:
        """The largest of the processes' numbers."""
        found = torch.tensor(number, device=device)
        if self.size > 1:
            dist.all_reduce(found, dist.ReduceOp.MAX)
        return int(found)

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            dist.barrier()

    @contextmanager
    def leader_first(self) -> Generator[None]:
        """What changes files is done by process 0 before the others look."""
        if not self.leads:
            self.wait()
        yield
        if self.leads:
            self.wait()

    def agreed(self, stop: Literal["pause", "cancel"] | None, device: torch.device) -> Any:
        """What process 0 knows of a stop, told to all: they must stop after the same step."""
        if self.size == 1:
            return stop
        told = torch.tensor(_STOPS.index(stop), device=device)
        dist.broadcast(told, src=0)
        return _STOPS[int(told)]


ALONE = Team()


def join(*, use_cpu: bool, is_sharded: bool) -> Team:
    """Meet the other processes that `accelerate launch` has started."""
    from accelerate import PartialState

    state = PartialState(cpu=use_cpu)
    size = state.num_processes
    local = torch.cuda.device_count() if not use_cpu else size
    return Team(state.process_index, size, max(1, min(local, size)), is_sharded)
