"""Answers that were given before, by model, prompt and parameters, in one SQLite file. Safe to use from several threads.

Only models whose content is known by a hash are cached; an index may have been rebuilt, so nothing behind one is.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from services.evaluator.domain import Answer
from services.evaluator.prompts import Question


class ResponseCache:
    """A cache in front of `ask`. What it kept is returned with `is_cached` and the latency of then."""

    def __init__(self, path: Path, fingerprint: str, ask: Callable[[Question], Answer]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fingerprint, self._ask_model = fingerprint, ask
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, timeout=60, isolation_level=None)
        self._db.execute("pragma journal_mode = wal")
        self._db.execute(
            "create table if not exists answers (key text primary key, data text not null) without rowid"
        )

    def ask(self, question: Question) -> Answer:
        """The kept answer, or a new one, which is kept before it is returned."""
        key = self.key(question)
        with self._lock:
            row = self._db.execute("select data from answers where key = ?", (key,)).fetchone()
        if row is not None:
            kept: dict[str, Any] = json.loads(row[0])
            kept |= {"sources": tuple(kept["sources"]), "is_cached": True}
            return Answer(**kept)
        answer = self._ask_model(question)
        with self._lock:
            data = json.dumps(asdict(answer))
            self._db.execute("insert or ignore into answers values (?, ?)", (key, data))
        return answer

    def key(self, question: Question) -> str:
        """A hash of everything that an answer depends on."""
        # A greedy answer does not depend on the seed, so repeats of a question share it.
        parameters = asdict(replace(question, seed=question.seed if question.temperature > 0 else 0))
        text = json.dumps([self._fingerprint, parameters], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def close(self) -> None:
        """Close the file."""
        self._db.close()
