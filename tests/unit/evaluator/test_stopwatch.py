"""The time of an evaluation is that of all its attempts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.evaluator import stopwatch
from services.evaluator.stopwatch import Stopwatch


class Said:
    def __init__(self) -> None:
        self.outputs: list[str] = []

    def output(self, name: str, data: dict[str, Any]) -> None:
        self.outputs.append(name)

    def progress(self, step: int, total: int, message: str = "", eta_s: float | None = None) -> None: ...
    def event(self, message: str, *, level: Any = "info") -> None: ...
    def stop_requested(self) -> None: ...


def test_a_later_attempt_adds_to_what_earlier_ones_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(stopwatch.time, "monotonic", lambda: now[0])
    said, path = Said(), tmp_path / "elapsed_s"
    first = Stopwatch(said, path)
    now[0] += 40
    first.output("item", {})
    now[0] += 500  # killed and picked up much later
    second = Stopwatch(said, path)
    now[0] += 2
    second.output("item", {})
    assert second.elapsed_s == 42
    assert said.outputs == ["item", "item"]
    path.write_text("not a number", encoding="utf-8")
    assert Stopwatch(said, path).elapsed_s == 0
