"""The side of the child: a process that does one job's heavy work and talks to its worker in JSON lines.

It reads the job from its first line of standard input, writes messages to what was its standard output, and ends itself when
its worker is gone (the pipe closes) or no longer renews the lease. It never touches the database.
"""

from __future__ import annotations

import json
import math
import os
import select
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Literal, NoReturn

from libs.common import tracing
from libs.common.errors import JobFailure, JobStopped
from libs.common.jobs.failures import failure_of
from libs.common.jobs.storable import storable

Work = Callable[["ChildContext"], dict[str, Any]]
Level = Literal["info", "warn", "error"]
Stop = Literal["pause", "cancel"]

ORPHANED = 3
"""Exit code of a child that ended itself because its worker was gone or silent."""


class ChildContext:
    """What the work knows and how it speaks. Every method may be called from any thread."""

    def __init__(self, job: dict[str, Any], stream: IO[str]) -> None:
        self.job_id: str = job["job_id"]
        self.attempt: int = job["attempt"]
        self.fence: int = job["fence"]
        self.spec: dict[str, Any] = job["spec"]
        self.workdir = Path(job["workdir"])
        self.news: dict[str, Any] | None = None
        """The newest that the worker knows of others who work on this job (`sharing.news`)."""
        self._until: float = job["until"]
        self._stop: Stop | None = None
        self._stream = stream
        self._lock = threading.Lock()

    def event(
        self,
        message: str,
        *,
        type: str = "message",
        level: Level = "info",
        data: dict[str, Any] | None = None,
    ) -> None:
        """Add a line to the job's history."""
        self._send({"type": "event", "event": type, "level": level, "message": message, "data": data or {}})

    def progress(self, step: int, total: int, message: str = "", eta_s: float | None = None) -> None:
        """Say how far the work is; only the newest is kept."""
        fraction = min(1.0, step / total) if total else 0.0
        self._send(
            {
                "type": "progress",
                "step": step,
                "total": total,
                "message": message,
                "eta_s": eta_s,
                "fraction": fraction,
            }
        )

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Record values at a step. One that is not a finite number is left out: JSON has no name for it."""
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        self._send({"type": "metrics", "step": step, "values": finite})

    def output(self, name: str, data: dict[str, Any]) -> None:
        """Hand over something to be stored for good (`JobHandler.store` in the worker)."""
        self._send({"type": "output", "name": name, "data": data})

    def stop_requested(self) -> Stop | None:
        """Whether somebody asked the job to pause or to be cancelled. Honour it, then raise `JobStopped`."""
        return self._stop

    def check_stop(self) -> None:
        """Raise `JobStopped` if a stop was asked for; for work that has nothing to save first."""
        if self._stop is not None:
            raise JobStopped

    def finish(self, message: dict[str, Any]) -> None:
        """Send the last message. Called by `run_child`."""
        self._send(message)

    def obey(self, worker: Lines) -> None:
        """Follow the worker's messages; end the process when the worker is gone or the lease over. Runs on a thread.

        What has arrived counts before the clock does: a child that slept may find its lease renewed.
        """
        while (line := worker.read(self._until)) is not None:
            message = json.loads(line)
            if message["type"] == "stop":
                self._stop = message["reason"]
            else:
                self._until, self.news = message["until"], message.get("news")
        os._exit(ORPHANED)

    def _send(self, message: dict[str, Any]) -> None:
        line = json.dumps(storable(message), ensure_ascii=False, default=lambda value: storable(str(value)))
        with self._lock:
            self._stream.write(line + "\n")
            self._stream.flush()


class Lines:
    """Lines of a file descriptor, with a limit on the wait: a text stream would hide lines that it has read ahead."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = b""

    def read(self, until: float | None = None) -> bytes | None:
        """The next line; None when there is none any more, or none before `until` (`time.monotonic()`)."""
        while b"\n" not in self._buffer:
            wait_s = None if until is None else max(0.0, until - time.monotonic())
            if not select.select([self._descriptor], [], [], wait_s)[0]:
                return None
            part = os.read(self._descriptor, 65536)
            if not part:
                return None
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line


def run_child(work: Work) -> NoReturn:
    """Do the job that standard input describes with `work`, and exit. The one call of a service's `child` module."""
    stream, worker = _claim_stdout(), Lines(_claim_stdin())
    order = worker.read()
    if order is None:
        os._exit(ORPHANED)
    given = json.loads(order)
    context = ChildContext(given, stream)
    threading.Thread(target=context.obey, args=(worker,), daemon=True).start()
    try:
        context.workdir.mkdir(parents=True, exist_ok=True)
        context.finish({"type": "result", "data": _traced(work, context, given.get("traceparent"))})
    except JobStopped:
        context.finish({"type": "stopped"})
    except BaseException as error:
        if not isinstance(error, JobFailure):
            traceback.print_exc()
        failure = failure_of(error)
        context.finish({"type": "failure", "error": failure.as_dict(), "retry": failure.retry})
    sys.stderr.flush()
    tracing.flush()
    os._exit(0)  # a library's threads must not keep the process alive after its last word


def _traced(work: Work, context: ChildContext, parent: str | None) -> dict[str, Any]:
    if parent is None:
        return work(context)
    package = sys.modules["__main__"].__package__ or "child"
    tracing.begin(package.rpartition(".")[2])
    with tracing.span("child", parent, {"mt.job.id": context.job_id, "mt.job.attempt": context.attempt}):
        return work(context)


def _claim_stdout() -> IO[str]:
    """Keep the real standard output for the protocol and send everything that libraries print to standard error."""
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return stream


def _claim_stdin() -> int:
    """Keep the real standard input for the protocol; programs that the work starts read from nowhere."""
    descriptor = os.dup(0)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)
    return descriptor
