"""Processes that train one job together, forked from the server of `attempts`: without a launcher they start fast."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from services.trainer.domain import TrainOrder
from services.trainer.recipe import run
from tests.unit.trainer.attempts import PROCESSES
from tests.unit.trainer.conftest import FakeContext


def train_together(order: TrainOrder, workdir: Path, port: int, size: int = 2) -> dict[str, Any]:
    """The losses that process 0 reported by step, its result, and what the others answered.

    Raises:
        EOFError: a process ended without an answer; its complaint is in the test's output.
    """
    workdir.mkdir()
    pipes = [PROCESSES.Pipe(duplex=False) for _ in range(size)]
    processes = [
        PROCESSES.Process(
            target=_train, args=(order, workdir, port, (rank, size), pipes[rank][1]), daemon=True
        )
        for rank in range(size)
    ]
    try:
        for process, (_, write) in zip(processes, pipes, strict=True):
            process.start()
            write.close()
        leader, *others = [read.recv() for read, _ in pipes]
        return {**leader, "others": others}
    finally:
        for process in processes:
            process.kill()
            process.join()


def _train(order: TrainOrder, workdir: Path, port: int, place: tuple[int, int], pipe: Connection) -> None:
    rank, size = place
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size), LOCAL_WORLD_SIZE=str(size))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    job = {"job_id": "ftjob_team", "attempt": 1, "fence": 1, "workdir": str(workdir)}
    speaker: Any = FakeContext(workdir) if rank == 0 else None
    result = run.train_together(job, order, speaker, is_sharded=False, started=0.0)
    pipe.send({"result": result, "points": speaker.points if speaker else {}})
