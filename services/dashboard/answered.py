"""Answers of the playground in files, so that they outlive the dashboard's process. The newest are kept."""

from __future__ import annotations

import re
from pathlib import Path

import structlog

from model_training.home import write_private

log = structlog.get_logger(__name__)

KEPT = 200
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Answered:
    """Texts by owner and name, one file each, for the owner of the process alone to read.

    Args:
        folder: made when it is first needed; where it cannot be written to nothing is kept, and said once.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._works = True

    def save(self, owner: str, name: str, text: str) -> None:
        """Keep a text, and drop the oldest of too many."""
        if not self._works:
            return
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            newest = self._folder / f"{owner}.{name}.json"
            write_private(newest, text)
            others = [path for path in self._folder.glob("*.json") if path != newest]
            others.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
            for old in others[KEPT - 1 :]:
                old.unlink(missing_ok=True)
        except OSError as error:
            self._works = False
            log.warning("answers_are_not_kept", folder=str(self._folder), reason=error.strerror)

    def load(self, owner: str, name: str) -> str | None:
        """A text that was kept; names come from addresses, so those that are none find nothing."""
        if not _NAME.fullmatch(name):
            return None
        try:
            return (self._folder / f"{owner}.{name}.json").read_text(encoding="utf-8")
        except OSError:
            return None
