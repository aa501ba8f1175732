"""Examples shown before a free question to a model that was never instructed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

from model_training.contracts.chat import ChatMessage
from model_training.datasets.rows import TrainingRow

AUTO = 3
LONGEST = 300
"""Longer answers make poor examples: they cost prompt and show rambling."""
TYPICAL = 160
"""Characters of an answer that explains something; much shorter ones teach a model to answer in four words."""


def wants_shots(asked: Literal["auto"] | int, *, never_instructed: bool) -> int:
    """How many examples to show."""
    if asked == "auto":
        return AUTO if never_instructed else 0
    return max(0, asked)


def choose_shots(rows: Sequence[TrainingRow], count: int, asked: Collection[str] = ()) -> list[ChatMessage]:
    """The turns of `count` question-answering rows, always the same for the same rows.

    Answers of about typical length, each about another function, and no question that is `asked` itself.
    """
    fitting = [
        row
        for row in rows
        if row.kind == "qa" and not row.context and len(row.answer) <= LONGEST and row.question not in asked
    ]
    chosen: dict[str, TrainingRow] = {}
    for row in sorted(fitting, key=lambda row: (abs(len(row.answer) - TYPICAL), row.question)):
        chosen.setdefault(row.function or row.question, row)
    return [
        ChatMessage(role=turn.role, content=turn.content)
        for row in list(chosen.values())[:count]
        for turn in row.messages
    ]
