"""The worker's side of a child process: start it, read what it says, measure it, end it and everything it started."""

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

import psutil

BACKLOG = 20_000
"""Messages that may wait here; beyond it the child waits, so that a long outage cannot fill the worker's memory."""

LAST_WORDS_S = 1.0
"""How long a pipe is read after the child's end."""

KILL_S = 5.0
"""How long processes that do not die are killed again."""


class ChildProcess:
    """One running child, in a session of its own. Messages wait in a queue until `receive` takes them."""

    def __init__(self, module: str, order: dict[str, Any], log_path: Path) -> None:
        """Start the child and give it its order.

        Raises:
            OSError: there is no room for a log file, or for a process.
        """
        log_path.parent.mkdir(parents=True, exist_ok=True)
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # so that everything it starts can be found and ended with it
                text=True,
                encoding="utf-8",
                errors="replace",
            )
        self._messages: queue.Queue[dict[str, Any]] = queue.Queue(BACKLOG)
        self._orders: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._closing = threading.Event()
        self._ended_at = 0.0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._writer = threading.Thread(target=self._write, daemon=True)
        self._reader.start()
        self._writer.start()
        self.send(order)

    @property
    def pid(self) -> int:
        """The child's process, session and group id."""
        return self._process.pid

    def send(self, message: dict[str, Any]) -> None:
        """Have one line written to the child. Never waits: a child that does not read must not stop its worker."""
        self._orders.put(message)

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
        """Whether the child has gone and everything it said has been received. Ends what it left behind."""
        if self._process.returncode is None:
            # Looked at without being collected, so that its id cannot become another process's before `kill`.
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return False
            self.kill()
            self._ended_at = time.monotonic()
        # A process that left the session may hold the pipe open, and would be waited for without end.
        silent = not self._reader.is_alive() or time.monotonic() - self._ended_at > LAST_WORDS_S
        return silent and self._messages.empty()

    @property
    def returncode(self) -> int | None:
        """The exit code; negative for a signal; None until `ended` or `kill`."""
        return self._process.returncode

    def rss_bytes(self) -> int:
        """Resident memory of the child and of everything it started."""
        total = 0
        for pid in self._members():
            with contextlib.suppress(psutil.Error):
                total += psutil.Process(pid).memory_info().rss
        return total

    def is_stopped(self) -> bool:
        """Whether somebody has stopped the child with a signal, so that it neither works nor ends."""
        try:
            return psutil.Process(self.pid).status() == psutil.STATUS_STOPPED
        except psutil.Error:
            return False

    def kill(self) -> None:
        """End the whole session now and wait for the child."""
        if self._process.returncode is not None:
            return
        deadline = time.monotonic() + KILL_S
        while time.monotonic() < deadline:
            _kill(self.pid)  # first, so that it starts no more
            others = [pid for pid in self._members() if pid != self.pid and not _is_zombie(pid)]
            if not others:
                break
            for pid in others:
                _kill(pid)
            time.sleep(0.005)
        self._process.wait()

    def close(self, grace_s: float = 2.0) -> None:
        """Wait a moment for the child to end by itself, then end its session: nothing is left over."""
        deadline = time.monotonic() + grace_s
        while not self.ended() and self._process.returncode is None and time.monotonic() < deadline:
            time.sleep(0.02)
        self.kill()
        self._closing.set()
        self._orders.put(None)
        self._writer.join(timeout=2)
        self._reader.join(timeout=2)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None and not self._reader.is_alive() and not self._writer.is_alive():
                with contextlib.suppress(OSError):
                    stream.close()

    def _members(self) -> list[int]:
        found: list[int] = []
        for pid in psutil.pids():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if os.getsid(pid) == self.pid:
                    found.append(pid)
        return found

    def _write(self) -> None:
        assert self._process.stdin is not None
        while (message := self._orders.get()) is not None:
            try:
                self._process.stdin.write(json.dumps(message) + "\n")
                self._process.stdin.flush()
            except (OSError, ValueError):
                return  # the child has gone; its end is seen elsewhere

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                message: object = json.loads(line)
            except json.JSONDecodeError:
                continue  # a fork of the child that writes to the pipe cannot speak for it
            if isinstance(message, dict):
                self._deliver(cast("dict[str, Any]", message))

    def _deliver(self, message: dict[str, Any]) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(queue.Full):
                self._messages.put(message, timeout=0.5)
                return


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def _is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True
