"""What a one-off step says of itself: the last line of its log, as JSON or as text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from model_training.embedded.process import tail


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
