"""How long an evaluation took, attempts that were lost included: kept in the job's directory, written after every item."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from services.evaluator.service import Reporter


class Stopwatch:
    """Reports for an evaluation and keeps the time of all its attempts. The time between two attempts does not count."""

    def __init__(self, report: Reporter, path: Path) -> None:
        self._report = report
        self._path = path
        self._earlier_s = _read(path)
        self._started = time.monotonic()
        self.event, self.progress = report.event, report.progress
        self.stop_requested = report.stop_requested

    @property
    def elapsed_s(self) -> float:
        """Seconds of all attempts so far."""
        return self._earlier_s + time.monotonic() - self._started

    def output(self, name: str, data: dict[str, Any]) -> None:
        """Pass a result on and keep the time that it took to get there."""
        self._report.output(name, data)
        unfinished = self._path.with_name(f".{self._path.name}")
        unfinished.write_text(repr(self.elapsed_s), encoding="utf-8")
        os.replace(unfinished, self._path)


def _read(path: Path) -> float:
    try:
        return float(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0.0
