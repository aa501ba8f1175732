"""The side of the child: a process that does one job's heavy work and talks to its worker in JSON lines.

It reads the job from its first line of standard input, writes messages to what was its standard output, and ends itself when
its worker is gone (the pipe closes) or no longer renews the lease. It never touches the database.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Literal, NoReturn

from libs.common.errors import JobFailure, JobStopped

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
        self._lease_s: float = job["lease_s"]
        self._renewed = time.monotonic()
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
        """Record values at a step."""
        self._send({"type": "metrics", "step": step, "values": values})

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

    def listen(self, stdin: IO[str]) -> None:
        """Follow the worker's messages; end the process when the worker is gone. Runs on a thread."""
        for line in stdin:
            message = json.loads(line)
            if message["type"] == "stop":
                self._stop = message["reason"]
            self._renewed = time.monotonic()
        os._exit(ORPHANED)

    def watch_lease(self) -> None:
        """End the process when the lease has not been renewed in time. Runs on a thread."""
        while time.monotonic() - self._renewed < self._lease_s:
            time.sleep(min(1.0, self._lease_s / 4))
        os._exit(ORPHANED)

    def _send(self, message: dict[str, Any]) -> None:
        line = json.dumps(message, ensure_ascii=False, allow_nan=True, default=str)
        with self._lock:
            self._stream.write(line + "\n")
            self._stream.flush()


def run_child(work: Work) -> NoReturn:
    """Do the job that standard input describes with `work`, and exit. The one call of a service's `child` module."""
    stream = _claim_stdout()
    context = ChildContext(json.loads(sys.stdin.readline()), stream)
    context.workdir.mkdir(parents=True, exist_ok=True)
    threading.Thread(target=context.listen, args=(sys.stdin,), daemon=True).start()
    threading.Thread(target=context.watch_lease, daemon=True).start()
    try:
        context.finish({"type": "result", "data": work(context)})
    except JobStopped:
        context.finish({"type": "stopped"})
    except JobFailure as failure:
        context.finish({"type": "failure", "error": failure.as_dict(), "retry": failure.retry})
    except BaseException as error:
        traceback.print_exc()
        context.finish({"type": "failure", "error": _unexpected(error).as_dict(), "retry": False})
    sys.stderr.flush()
    os._exit(0)  # a library's threads must not keep the process alive after its last word


def _claim_stdout() -> IO[str]:
    """Keep the real standard output for the protocol and send everything that libraries print to standard error."""
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return stream


def _unexpected(error: BaseException) -> JobFailure:
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return JobFailure(
            "out_of_memory",
            f"The machine ran out of memory: {error}",
            hint="Lower batch_size or max_length, or use a machine with more memory.",
        )
    if isinstance(error, OSError) and error.errno == 28:
        return JobFailure(
            "disk_full", f"The disk is full: {error}", hint="Free some space and start the job again."
        )
    return JobFailure(
        "internal_error", f"{type(error).__name__}: {error}", hint="The job's log has the details."
    )
