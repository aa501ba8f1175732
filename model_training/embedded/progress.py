"""What a one-off step says of itself: JSON lines or plain text in its log."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SHOWN_CHARACTERS = 120
LICENCE = "licence:"
"""A message that begins so must be seen, and not only flash by."""


@dataclass(frozen=True)
class Report:
    """Where a step stands. `notices` are messages to keep in sight; `error` and `hint` say why it failed."""

    message: str = ""
    notices: tuple[str, ...] = ()
    error: str | None = None
    hint: str | None = None


def read_report(log: Path, offset: int = 0) -> Report:
    """What the step wrote since byte `offset` of its log: `{"message", "fraction"}`, `{"error", "hint"}`, or any text."""
    try:
        with log.open("rb") as file:
            file.seek(offset)
            lines = file.read().decode("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return Report()
    said = [_parse(line) for line in lines]
    messages = [_message(line) for line in said]
    last = said[-1] if said else {}
    return Report(
        message=next((m for m in reversed(messages) if m and not m.startswith(LICENCE)), "")[
            :SHOWN_CHARACTERS
        ],
        notices=tuple(dict.fromkeys(m for m in messages if m.startswith(LICENCE))),
        error=str(last["error"]) if last.get("error") else None,
        hint=last.get("hint"),
    )


def _parse(line: str) -> dict[str, Any]:
    try:
        data: Any = json.loads(line)
    except ValueError:
        return {"message": line}
    return data if isinstance(data, dict) else {"message": line}


def _message(line: dict[str, Any]) -> str:
    message = str(line.get("message") or line.get("event") or "")
    fraction = line.get("fraction")
    shows_fraction = (
        isinstance(fraction, int | float) and 0 < fraction < 1 and not message.startswith(LICENCE)
    )
    return f"{message} {fraction:.0%}" if shows_fraction else message
