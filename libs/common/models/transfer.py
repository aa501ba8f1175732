"""Counting the bytes of several downloads together, and stopping all of them at once."""

from __future__ import annotations

import io
import time
from pathlib import Path
from threading import Event, Lock

from libs.common.models.errors import megabytes
from libs.common.models.store import Progress

_REPORT_S = 0.5


class Stopped(Exception):
    """Another download of the same model has failed; this one ends where it is"""


class Meter:
    """Bytes of one model so far. `total` 0 means that small files are fetched, of which nothing is told."""

    def __init__(self, progress: Progress, total: int = 0) -> None:
        self.total = total
        self.done = 0
        self._progress = progress
        self._lock = Lock()
        self._told_at = self._started = time.monotonic()

    def add(self, count: int) -> None:
        """Count bytes, and tell twice a second."""
        with self._lock:
            self.done += count
            now = time.monotonic()
            if not self.total or now - self._told_at < _REPORT_S:
                return
            self._told_at = now
            speed = self.done / max(now - self._started, 1e-9)
            message = f"downloading: {megabytes(self.done)} of {megabytes(self.total)}, {megabytes(speed)}/s"
            self._progress(message, min(self.done / self.total, 1.0))

    def within(self, stop: Event) -> Tap:
        """What one download writes through."""
        return Tap(self, stop)


class Tap:
    """Opens files whose bytes are counted, and which refuse to be written once `stop` is set."""

    def __init__(self, meter: Meter, stop: Event) -> None:
        self.meter = meter
        self._stop = stop

    def open(self, path: Path) -> io.FileIO:
        """The file for appending, unbuffered, so that a killed process keeps what it wrote."""
        tap = self

        class Counted(io.FileIO):
            def write(self, data: bytes, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
                if tap._stop.is_set():
                    raise Stopped
                view = memoryview(data)
                while view:  # an unbuffered file may take less than it is given
                    view = view[super().write(view) :]
                tap.meter.add(len(data))
                return len(data)

        return Counted(path, "ab")
