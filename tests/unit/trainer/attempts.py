"""Attempts at a job without the job runtime: each in a process of its own, which may be killed at any moment.

The processes are forked from a server that has imported what training needs and has no thread of its own: they cost no
import, and no lock of this process goes with them.
"""

from __future__ import annotations

import multiprocessing
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from libs.common.errors import JobFailure, JobStopped
from services.trainer.domain import TrainOrder
from services.trainer.recipe import run

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["transformers.models.gemma3.modeling_gemma3", "peft", __name__])


class PipeContext:
    """The child's context over a pipe, without the job runtime."""

    def __init__(self, workdir: Path, fence: int, pipe: Connection, pause_at: int | None) -> None:
        self.job_id, self.attempt, self.fence, self.workdir = "ftjob_test", fence, fence, workdir
        self._pipe = pipe
        self._pause_at = pause_at
        self._step = 0

    def _send(self, **message: Any) -> None:
        self._pipe.send(message)

    def event(self, message: str, *, type: str = "message", level: str = "info", data: Any = None) -> None:
        self._send(kind="event", text=message, type=type, level=level)

    def progress(self, step: int, total: int, message: str = "", eta_s: float | None = None) -> None:
        self._step = step

    def metrics(self, step: int, values: dict[str, float]) -> None:
        self._step = step
        self._send(kind="metrics", step=step, values=values)

    def output(self, name: str, data: dict[str, Any]) -> None:
        self._send(kind="output", name=name, data=data)

    def stop_requested(self) -> str | None:
        return "pause" if self._pause_at is not None and self._step >= self._pause_at else None

    def check_stop(self) -> None:
        """Nobody asks before the first step."""


@dataclass
class Attempt:
    """What one attempt said, and its result unless it was killed or paused."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    result: dict[str, Any] | None = None
    failure: str | None = None
    complaint: str = ""

    @property
    def points(self) -> dict[int, dict[str, float]]:
        return {m["step"]: m["values"] for m in self.messages if m["kind"] == "metrics"}

    @property
    def events(self) -> list[str]:
        return [m["text"] for m in self.messages if m["kind"] == "event"]

    @property
    def warnings(self) -> list[str]:
        return [m["text"] for m in self.messages if m["kind"] == "event" and m["level"] == "warn"]


Killer = Callable[[list[dict[str, Any]]], float | None]
"""Looks at what was said so far and says after how many seconds to kill, None for not yet."""


class Job:
    """A job and its attempts."""

    def __init__(self, order: TrainOrder, workdir: Path) -> None:
        self.order = order
        self.workdir = workdir
        self.fence = 0

    def attempt(
        self,
        killer: Killer | None = None,
        *,
        pause_at: int | None = None,
        before: Callable[[], None] | None = None,
    ) -> Attempt:
        """Run one attempt in a process of its own; `killer` ends it by SIGKILL, `before` runs first in it."""
        self.fence += 1
        read, write = PROCESSES.Pipe(duplex=False)
        process = PROCESSES.Process(
            target=train, args=(self.order, self.workdir, self.fence, write, pause_at, before), daemon=True
        )
        process.start()
        write.close()
        try:
            return _follow(read, process, killer)
        finally:
            read.close()
            process.kill()
            process.join()


def train(
    order: TrainOrder,
    workdir: Path,
    fence: int,
    pipe: Connection,
    pause_at: int | None,
    before: Callable[[], None] | None,
) -> None:
    """What the process of an attempt does."""
    try:
        if before is not None:
            before()
        context: Any = PipeContext(workdir, fence, pipe, pause_at)
        last = {"kind": "result", "data": run.train(context, order)}
    except JobStopped:
        last = {"kind": "stopped"}
    except JobFailure as failure:
        last = {"kind": "failure", "code": failure.error.code, "text": failure.error.message}
    except BaseException:
        last = {"kind": "failure", "code": traceback.format_exc()}
    pipe.send(last)


def _follow(pipe: Connection, process: BaseProcess, killer: Killer | None) -> Attempt:
    attempt = Attempt()
    with suppress(EOFError, OSError):  # it has ended; the second error says in the middle of a message
        while True:
            message = pipe.recv()
            if message["kind"] == "result":
                attempt.result = message["data"]
            elif message["kind"] == "failure":
                attempt.failure, attempt.complaint = message["code"], message.get("text", "")
            elif message["kind"] != "stopped":
                attempt.messages.append(message)
                delay = killer(attempt.messages) if killer else None
                if delay is not None:
                    time.sleep(delay)
                    process.kill()
                    killer = None
    return attempt
