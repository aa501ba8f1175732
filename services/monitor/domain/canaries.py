"""Canary questions: the same few, at temperature 0, again and again. What answers them behind a name should not change.

Log-probabilities of the answers' tokens are stored. The same weights give the same numbers up to rounding; another adapter,
or the base in an adapter's place, moves them by 0.05 to 1.3 nats per token even where the words stay the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

QUESTIONS = (
    "Write a Python function that adds two numbers.",
    "What does len() do?",
    "Name a sorting algorithm and say how it works.",
    "How do I read a file line by line?",
    "What is the capital of France?",
    "Write one sentence about the sea.",
)
TOKENS = 12
ALTERNATIVES = 5
CHANGED = 0.02
"""Nats per token beyond which it is not what answered before. Rounding in another batch gives less than 0.005."""
UNSEEN = 3.0
"""What a token counts that the model would now hardly say: it is not even among the alternatives."""


@dataclass(frozen=True)
class Token:
    """A token of an answer, its log-probability, and those of what stood beside it."""

    text: str
    logprob: float
    beside: tuple[tuple[str, float], ...] = ()


Answer = tuple[Token, ...]


def distance(before: Sequence[Answer], now: Sequence[Answer]) -> float:
    """Mean change in nats per token, over all questions; each counts up to the first token that differs, and with it."""
    return fmean(_one(a, b) for a, b in zip(before, now, strict=True)) if before else 0.0


def changed(before: Sequence[Answer], now: Sequence[Answer]) -> bool:
    """Whether something else answers than before."""
    return len(before) != len(now) or distance(before, now) > CHANGED


def parse(content: Any) -> Answer:
    """An answer from `choices[0].logprobs.content` of a chat completion.

    Raises:
        ValueError: it has no log-probabilities.
    """
    try:
        return tuple(
            Token(
                str(one["token"]),
                float(one["logprob"]),
                tuple(
                    (str(other["token"]), float(other["logprob"])) for other in one.get("top_logprobs") or ()
                ),
            )
            for one in content
        )
    except (TypeError, KeyError) as error:
        raise ValueError("the answer has no log-probabilities") from error


def as_json(answers: Sequence[Answer]) -> list[Any]:
    """Answers, to be stored."""
    return [
        [[token.text, token.logprob, [list(pair) for pair in token.beside]] for token in one]
        for one in answers
    ]


def from_json(stored: Sequence[Any]) -> list[Answer]:
    """Stored answers."""
    return [
        tuple(Token(text, logprob, tuple((t, p) for t, p in beside)) for text, logprob, beside in one)
        for one in stored
    ]


def _one(before: Answer, now: Answer) -> float:
    moves: list[float] = []
    for old, new in zip(before, now, strict=False):
        if old.text == new.text:
            moves.append(abs(old.logprob - new.logprob))
            continue
        same = dict(new.beside).get(old.text)
        moves.append(abs(old.logprob - same) if same is not None else UNSEEN)
        break
    if not moves:
        return UNSEEN if len(before) != len(now) else 0.0
    return fmean(moves)
