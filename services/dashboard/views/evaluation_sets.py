"""A question of the playground as an item to evaluate on, and the file that it joins."""

from __future__ import annotations

import hashlib
import json

from model_training.contracts.evaluations import EvaluationItem, TextCheck
from model_training.contracts.indexes import Source

SET = "playground.jsonl"
"""The file that questions are collected in; every addition makes its next version."""
SUITE = "playground"


def item_of(question: str, answer: str, *, accept: list[str] | None = None) -> EvaluationItem:
    """An item that asks the question and counts answers by the words they share with the reference."""
    digest = hashlib.sha256(question.strip().encode()).hexdigest()[:12]
    return EvaluationItem(
        id=f"{SUITE}-{digest}",
        suite=SUITE,
        form="free",
        question=question.strip(),
        answer=answer.strip(),
        group=digest,
        check=TextCheck(accept=accept or []),
        source=Source(kind="hand_written"),
    )


def joined(content: bytes, item: EvaluationItem) -> bytes:
    """A file's rows with the item added; the same question asked before is replaced."""
    rows = [line for line in content.splitlines() if line.strip() and json.loads(line).get("id") != item.id]
    return b"\n".join([*rows, item.model_dump_json(exclude_none=True).encode()]) + b"\n"
