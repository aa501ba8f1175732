"""The peak memory of this program and of a platform beside it, measured while a block runs."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

import psutil


class PeakMemory:
    """Samples the memory of process trees. Shared pages count once (the kernel's PSS), as far as the kernel tells.

    `peak_bytes` is the largest sum seen so far.
    """

    def __init__(self, every_s: float = 3.0) -> None:
        self.peak_bytes = 0
        self._every_s = every_s
        self._roots = [psutil.Process()]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)

    def include(self, pid: int) -> None:
        """Count another process and everything that it starts."""
        self._roots.append(psutil.Process(pid))

    def __enter__(self) -> Self:
        """Begin to sample."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End sampling."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            pids = {process.pid for root in list(self._roots) for process in _tree(root)}
            self.peak_bytes = max(self.peak_bytes, sum(_bytes(pid) for pid in pids))


def _tree(root: psutil.Process) -> list[psutil.Process]:
    try:
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _bytes(pid: int) -> int:
    try:
        process = psutil.Process(pid)
        try:
            return process.memory_full_info().pss
        except (AttributeError, psutil.AccessDenied):
            return process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0
