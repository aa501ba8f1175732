"""The worker's side of a child process: start it, read what it says, stop it and its whole process group."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, cast


class ChildProcess:
    """One running child. Messages wait in a queue until `receive` takes them."""

    def __init__(self, module: str, job: dict[str, Any], log_path: Path) -> None:
        log_path.parent.mkdir(parents=True, exist_ok=True)
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # a group of its own, so that everything it starts can be ended with it
                text=True,
                encoding="utf-8",
            )
        self._messages: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.send(job)

    def send(self, message: dict[str, Any]) -> None:
        """Write one line to the child; one that has gone is no error, its end is seen elsewhere."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass

    def receive(self, timeout_s: float, limit: int = 500) -> list[dict[str, Any]]:
        """Messages that have arrived, in order; waits for the first one at most `timeout_s`."""
        messages: list[dict[str, Any]] = []
        try:
            messages.append(self._messages.get(timeout=timeout_s))
            while len(messages) < limit:
                messages.append(self._messages.get_nowait())
        except queue.Empty:
            pass
        return messages

    def ended(self) -> bool:
        """Whether the child has gone and everything it said has been received."""
        return self._process.poll() is not None and not self._reader.is_alive() and self._messages.empty()

    @property
    def returncode(self) -> int | None:
        """The exit code; negative for a signal; None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """End the whole group now and wait for the child."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self, grace_s: float = 2.0) -> None:
        """Wait a moment for the child to end by itself, then end its group: nothing is left over."""
        deadline = time.monotonic() + grace_s
        while self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        self.kill()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._reader.join(timeout=2)
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                message: object = json.loads(line)
            except json.JSONDecodeError:
                continue  # a fork of the child that writes to the pipe cannot speak for it
            if isinstance(message, dict):
                self._messages.put(cast("dict[str, Any]", message))
