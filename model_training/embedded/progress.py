"""What a one-off step says of itself: the last line of its log, as JSON or as text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_training.embedded.process import tail


@dataclass(frozen=True)
class Complaint:
    """Why a one-off step failed, in its own words."""

    message: str
    hint: str | None


def last_complaint(log: Path) -> Complaint | None:
    """The reason that a failed step wrote as its last line, `{"error": …, "hint": …}`; None if it wrote none."""
    try:
        line: Any = json.loads(tail(log, lines=1))
    except ValueError:
        return None
    if not isinstance(line, dict) or not line.get("error"):
        return None
    return Complaint(str(line["error"]), line.get("hint"))


def last_message(log: Path) -> str:
    """One short line for the status table; empty while there is none."""
    last = tail(log, lines=1)
    try:
        line: Any = json.loads(last)
    except ValueError:
        return last[:120]
    if not isinstance(line, dict):
        return last[:120]
    message = str(line.get("message") or line.get("event") or "")
    fraction = line.get("fraction")
    return f"{message} {fraction:.0%}" if isinstance(fraction, int | float) else message
