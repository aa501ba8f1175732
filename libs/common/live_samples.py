"""Measures a share of the live answers: a few numbers each, written down by a thread that nobody waits for.

What is kept are numbers. The texts themselves are kept only where the configuration says so (`sampling.keep_text`), with
what looks like a secret or an address blotted out. What the numbers mean together is the monitor's business.
"""

from __future__ import annotations

import ast
import hashlib
import math
import queue
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog
from prometheus_client import Counter
from sqlalchemy import insert
from sqlalchemy.exc import SQLAlchemyError

from libs.common.db.engine import Database
from libs.common.db.tables import LiveSampleRow

HEADER = "x-mt-sample"
"""Set by the gateway on a request whose answer is to be measured: `numbers`, or `text` to keep the texts too."""
WAITING = 1000
"""Samples that may wait to be written; more are dropped and counted."""
BATCH = 200
MOST_CHARACTERS = 20_000
AXES = 16
"""Of the projection of a question's words; a multiple of 8."""
REFUSALS = re.compile(
    r"\b(i (can ?not|can't|am unable to|won't)|i'm (sorry|unable)|as an ai|not in the sources)\b"
)
_WORD = re.compile(r"\w+")
_FENCE = re.compile(r"```(?:python|py)?\n(.*?)```", re.DOTALL)
_SECRETS = re.compile(
    r"(?:\b(?:sk|mt|ghp|hf|xox[bap])[-_][A-Za-z0-9_-]{8,}|\beyJ[\w-]+\.[\w-]+\.[\w-]+"
    r"|[\w.+-]+@[\w-]+\.[\w.]+|\b\d{7,}\b|(?i:(?:password|secret|token|api[_-]?key)\s*[:=]\s*)\S+)"
)

SAMPLED = Counter("mt_live_samples_total", "Live answers that were to be measured.", ["outcome"])
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class LiveAnswer:
    """An answer that was given. `signals` are numbers that only the service knows: retrieval scores, say."""

    model: str
    question: str
    answer: str
    finish_reason: str
    seconds: float
    signals: Mapping[str, float] = field(default_factory=dict[str, float])


def measure(one: LiveAnswer) -> dict[str, float | list[float]]:
    """What is kept of an answer, by signal. Names that begin with `question_` or `retrieval_` are input, others output."""
    question, answer = one.question[:MOST_CHARACTERS], one.answer[:MOST_CHARACTERS]
    words = _WORD.findall(answer.lower())
    measured: dict[str, float | list[float]] = {
        "question_length": math.log1p(len(one.question)),
        "question_code": float("`" in question or "def " in question or "import " in question),
        "question_foreign": _share_beyond_ascii(question),
        "question_words": project(question),
        "answer_length": math.log1p(len(one.answer)),
        "answer_refusal": float(bool(REFUSALS.search(answer.lower()))),
        "answer_repetition": _repetition(words),
        "answer_foreign": _share_beyond_ascii(answer),
        "answer_cut": float(one.finish_reason == "length"),
        "answer_seconds": math.log1p(max(0.0, one.seconds)),
    }
    code = _FENCE.findall(answer)
    if code:
        measured["answer_code_valid"] = float(all(_is_python(block) for block in code))
    return {**measured, **{name: float(value) for name, value in one.signals.items() if math.isfinite(value)}}


def project(text: str) -> list[float]:
    """The different words of a text as `AXES` numbers: what it is about, not what it says.

    Each word steps up or down each axis, as the bits of its hash say: a random projection of the bag of words with signs
    only (Achlioptas, 2003), which keeps distances between texts and needs no model, so that every service can do it.
    """
    words = set(_WORD.findall(text.lower()))
    hashes = [
        int.from_bytes(hashlib.blake2b(word.encode(), digest_size=AXES // 8).digest()) for word in words
    ]
    length = math.sqrt(len(words) or 1)
    return [sum(1 if one >> axis & 1 else -1 for one in hashes) / length for axis in range(AXES)]


def redact(text: str) -> str:
    """The text with keys, tokens, passwords, mail addresses and long numbers blotted out."""
    return _SECRETS.sub("█", text[:MOST_CHARACTERS].replace("\0", ""))


def _share_beyond_ascii(text: str) -> float:
    return sum(not character.isascii() for character in text) / len(text) if text else 0.0


def _repetition(words: list[str]) -> float:
    """The share of runs of four words that were there before; 0 for answers of fewer than five words."""
    runs = [tuple(words[i : i + 4]) for i in range(len(words) - 3)]
    return 1 - len(set(runs)) / len(runs) if len(runs) > 1 else 0.0


def _is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


class LiveSamples:
    """Takes answers and writes them down in its own time. Without a database samples are lost, answers never."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: queue.Queue[tuple[LiveAnswer, bool] | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._run, name="live-samples", daemon=True)
        self._started = threading.Lock()

    def offer(self, wanted: str | None, make: Callable[[], LiveAnswer]) -> None:
        """Take an answer if its request says so (`HEADER`); never waits, never raises."""
        if wanted not in ("numbers", "text"):
            return
        if self._started.acquire(blocking=False):  # once: a service that is never asked has no thread
            self._thread.start()
        try:
            self._waiting.put_nowait((make(), wanted == "text"))
        except queue.Full:
            SAMPLED.labels("dropped").inc()

    def close(self) -> None:
        """Write what waits and end."""
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join(timeout=10)

    def _run(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while len(batch) < BATCH and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            found = [one for one in batch if one is not None]
            if found:
                self._write(found)
            if len(found) < len(batch):
                return

    def _write(self, batch: list[tuple[LiveAnswer, bool]]) -> None:
        rows = [
            {
                "model": one.model,
                "features": measure(one),
                "question": redact(one.question) if keep else None,
                "answer": redact(one.answer) if keep else None,
            }
            for one, keep in batch
        ]
        try:
            with self._database.session() as session:
                session.execute(insert(LiveSampleRow), rows)
        except SQLAlchemyError as error:
            log.warning("live_samples_lost", count=len(rows), error=str(error).splitlines()[0])
            SAMPLED.labels("lost").inc(len(rows))
        else:
            SAMPLED.labels("kept").inc(len(rows))
